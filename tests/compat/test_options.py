"""Flags, configuration files and environment variables of `deepaas-run`."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import HOST, Server, leased_port, run_program

ONE = {"one": "zoo.bare"}
TWO = {"one": "zoo.bare", "two": "zoo.bare"}


def names(server: Server, base: str = "") -> list[str]:
    models = server.get(f"{base}/v2/models/").json()["models"]
    return sorted(model["links"][0]["href"].rsplit("/", 1)[-1] for model in models)


# --- flags


def test_version_is_the_last_word_on_stdout(tmp_path: Path) -> None:
    finished = run_program(tmp_path, ["--version"])
    assert finished.code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+", finished.stdout.splitlines()[-1].split()[-1])


FLAGS = """
--listen-ip --listen-port --base-path --train-endpoint --notrain-endpoint --predict-endpoint
--nopredict-endpoint --debug-endpoint --nodebug-endpoint --doc-endpoint --nodoc-endpoint --workers
-p --client-max-size --warm --nowarm --model-name --debug -d --log-file --use-json --config-file
--config-dir --version
"""


def test_help_lists_every_flag(tmp_path: Path) -> None:
    finished = run_program(tmp_path, ["--help"])
    assert finished.code == 0
    text = re.sub(r"--\[no\]([\w-]+)", r"--\1 --no\1", finished.stdout)
    for flag in FLAGS.split():
        assert re.search(rf"(^|[\s\[]){re.escape(flag)}\b", text), flag


def test_unknown_flag_ends_with_2(tmp_path: Path) -> None:
    finished = run_program(tmp_path, ["--no-such-flag"], models=ONE)
    assert finished.code == 2
    assert "--no-such-flag" in finished.stderr


@pytest.mark.parametrize("args", [["--listen-port", "abc"], ["--workers", "x"]])
def test_bad_value_is_named(tmp_path: Path, args: list[str]) -> None:
    finished = run_program(tmp_path, args, models=ONE)
    assert args[1] in finished.output
    assert args[0].strip("-").replace("-", "_") in finished.output.replace("-", "_")


@pytest.mark.mended("exit code 0")
@pytest.mark.parametrize(
    "args", [["--listen-port", "abc"], ["--listen-port", "99999"], ["--workers", "x"]]
)
def test_bad_value_is_a_failure(tmp_path: Path, args: list[str]) -> None:
    assert run_program(tmp_path, args, models=ONE).code != 0


@pytest.mark.mended("it is not known")
def test_log_level_is_a_flag(serve: Serve) -> None:
    server = serve({"one": "zoo.printing"}, "--log-level", "ERROR")
    server.get("/")
    assert " INFO " not in server.log()


def test_model_name_leaves_the_others_out(serve: Serve) -> None:
    server = serve(TWO, "--model-name", "one")
    assert names(server) == ["one"]
    assert server.get("/v2/models/two/").status_code == 404


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_unknown_model_name_ends_with_1(tmp_path: Path, how: str) -> None:
    args = ["--model-name", "nope"] if how == "flag" else []
    env = {"DEEPAAS_V2_MODEL": "nope"} if how == "environment" else {}
    finished = run_program(tmp_path, args, models=ONE, env=env)
    assert finished.code == 1
    assert "nope" in finished.output


def test_named_model_that_cannot_be_loaded_ends_with_1(tmp_path: Path) -> None:
    models = {"bad": "zoo.unloadable", "good": "zoo.echo"}
    finished = run_program(tmp_path, ["--model-name", "bad"], models=models)
    assert finished.code == 1


def test_port_in_use_ends_with_1(tmp_path: Path) -> None:
    with leased_port() as port, socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, port))
        taken.listen()
        finished = run_program(tmp_path, ["--listen-port", str(port)], models=ONE)
    assert finished.code == 1
    assert "address already in use" in finished.output.lower()


def test_default_ip_is_this_machine_only(serve: Serve) -> None:
    with leased_port() as port:
        server = serve(ONE, "--listen-port", str(port), port=port, listen=False)
        listening = [
            connection.laddr
            for process in server.processes()
            for connection in process.net_connections("tcp")
            if connection.status == "LISTEN" and connection.laddr.port == port
        ]
    assert {address.ip for address in listening} == {HOST}


def test_debug_flag_is_taken(serve: Serve) -> None:
    assert serve(ONE, "-d").get("/").status_code == 200


def test_use_json_writes_the_log_as_json_lines(serve: Serve) -> None:
    server = serve(ONE, "--use-json")
    lines = [line for line in server.log().splitlines() if line.startswith("{")]
    records = [json.loads(line[: line.rindex("}") + 1]) for line in lines]
    assert records
    assert all({"message", "levelname"} <= set(record) for record in records)


def test_log_file_takes_the_log(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    server = serve(ONE, "--log-file", str(log))
    assert " INFO " in log.read_text()
    assert " INFO " not in server.log()


# --- the environment


def test_model_may_be_named_in_the_environment(serve: Serve) -> None:
    assert names(serve(TWO, env={"DEEPAAS_V2_MODEL": "one"})) == ["one"]


def test_empty_name_in_the_environment_is_no_name(serve: Serve) -> None:
    assert names(serve(TWO, env={"DEEPAAS_V2_MODEL": ""})) == ["one", "two"]


def test_flag_comes_before_the_environment(serve: Serve) -> None:
    server = serve(TWO, "--model-name", "one", env={"DEEPAAS_V2_MODEL": "two"})
    assert names(server) == ["one"]


def test_configuration_comes_before_the_environment(serve: Serve) -> None:
    config = "[DEFAULT]\nmodel_name = one\n"
    assert names(serve(TWO, config=config, env={"DEEPAAS_V2_MODEL": "two"})) == ["one"]


# --- configuration files

CONFIG = """\
# A comment with %(asctime)s in it
[DEFAULT]
listen_ip = 127.0.0.1
listen_port = {port}
base_path = /x
model_name = one
predict_endpoint = false
doc_endpoint = false
client_max_size = 1000
workers = 2
warm = false
debug_endpoint = true
# what other releases know
no_such_key = 5
logging_default_format_string = %(asctime)s %(levelname)s %(no_such)s

[no_such_section]
key = value
"""


def test_configuration_file_sets_every_option(serve: Serve) -> None:
    with leased_port() as port:
        server = serve(TWO, port=port, listen=False, config=CONFIG.format(port=port))
        assert server.get("/").status_code == 404
        assert names(server, "/x") == ["one"]
        assert server.post("/x/v2/models/one/predict/").status_code == 402
        assert server.get("/x/api").status_code == 404
        assert server.get("/x/v2/debug/").status_code == 200
        server.stop()


def test_flag_comes_before_the_configuration_file(serve: Serve) -> None:
    server = serve(TWO, "--model-name", "two", config="[DEFAULT]\nmodel_name = one\n")
    assert names(server) == ["two"]


def test_key_with_dashes_is_no_key(serve: Serve) -> None:
    assert names(serve(TWO, config="[DEFAULT]\nmodel-name = one\n")) == ["one", "two"]


def test_last_of_several_files_counts(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "later.conf").write_text("[DEFAULT]\nmodel_name = two\n")
    server = serve(
        TWO,
        "--config-file",
        str(tmp_path / "later.conf"),
        config="[DEFAULT]\nmodel_name = one\nbase_path = /x\n",
    )
    assert names(server, "/x") == ["two"]


def test_files_of_a_directory_are_read_in_order(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "10.conf").write_text("[DEFAULT]\nmodel_name = one\nbase_path = /x\n")
    (tmp_path / "20.conf").write_text("[DEFAULT]\nmodel_name = two\n")
    (tmp_path / "30.txt").write_text("[DEFAULT]\nmodel_name = three\n")
    assert names(serve(TWO, "--config-dir", str(tmp_path)), "/x") == ["two"]


@pytest.mark.parametrize("place", ["deepaas.conf", ".deepaas/deepaas.conf"])
def test_configuration_in_the_home_directory_is_found(
    serve: Serve, tmp_path: Path, place: str
) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("[DEFAULT]\nmodel_name = one\n")
    assert names(serve(TWO, env={"HOME": str(tmp_path)})) == ["one"]


def test_configuration_file_that_is_not_there_ends_with_1(tmp_path: Path) -> None:
    finished = run_program(tmp_path, ["--config-file", str(tmp_path / "no.conf")], models=ONE)
    assert finished.code == 1
    assert "no.conf" in finished.output


def test_configuration_file_that_is_none_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "bad.conf").write_text("garbage without a section\n")
    finished = run_program(tmp_path, ["--config-file", str(tmp_path / "bad.conf")], models=ONE)
    assert finished.code == 1
    assert "bad.conf" in finished.output


# --- the documentation and debug endpoints


@pytest.fixture(scope="module")
def undocumented(serve_all: Serve) -> Server:
    return serve_all({"echo": "zoo.echo"}, "--nodoc-endpoint")


@pytest.fixture(scope="module")
def debugging(serve_all: Serve) -> Server:
    return serve_all({"printing": "zoo.printing"}, "--debug-endpoint")


def test_documentation_may_be_switched_off(undocumented: Server) -> None:
    server = undocumented
    assert server.get("/api").status_code == 404
    assert server.get("/swagger.json").status_code == 200
    assert server.get("/").json()["links"] == [
        {"rel": "describedby", "type": "application/json", "href": "/swagger.json"}
    ]


@pytest.mark.mended("500")
def test_ui_is_404_without_documentation(undocumented: Server) -> None:
    assert undocumented.get("/ui").status_code == 404


def test_debug_endpoint_is_plain_text_when_on(debugging: Server) -> None:
    assert debugging.predict("printing").status_code == 200
    response = debugging.get("/v2/debug/")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.text


def test_debug_endpoint_leaves_the_log_as_it_is(debugging: Server) -> None:
    debugging.predict("printing", params={"text": "once"})
    assert "printed by predict: once" in debugging.log()
    assert "written to descriptor 1: once" in debugging.log()


@pytest.mark.mended("the output of workers is not there")
@pytest.mark.parametrize(
    "line", ["printed by predict: once", "printed to stderr: once", "written to descriptor 1: once"]
)
def test_debug_endpoint_gives_what_workers_print(debugging: Server, line: str) -> None:
    debugging.predict("printing", params={"text": "once"})
    assert line in debugging.get("/v2/debug/").text


@pytest.mark.mended("the output of workers is not there")
def test_debug_endpoint_keeps_the_end_of_much_output(debugging: Server) -> None:
    debugging.predict("printing", params={"text": "the end", "megabytes": "30"})
    text = debugging.get("/v2/debug/").text
    assert "printed by predict: the end" in text
    assert len(text) < 15_000_000
