"""The options of `deepaas-run`: each has an effect, and a wrong value gives a clear error."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from deepaas import config
from tests.conftest import Serve
from tests.serving.processes import answers, both_work, pids, wait_ready
from tests.support import (
    HOST,
    Finished,
    Part,
    Server,
    leased_port,
    multipart,
    predictions,
    run_program,
    wait_until,
)
from tests.training.trainings import Trainings

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def usual(serve_all: Serve) -> Server:
    """A server without flags."""
    return serve_all({}, "zoo.echo", "zoo.files")


def test_every_option_is_used_by_a_test() -> None:
    """The test may be here, or beside the behaviour that the option changes."""
    folders = ("cmd", "api", "auth", "metrics", "plugins", "serving", "training")
    places = [path for folder in folders for path in TESTS.glob(f"{folder}/*.py")]
    text = "\n".join(path.read_text() for path in places)
    flags = [re.compile(rf"[\"' ]--(no)?{option.name}[\"' =]") for option in config.ALL]
    assert [flag.pattern for flag in flags if not flag.search(text)] == []


# --- errors


def refused(directory: Path, *args: str, code: int = 1, **kwargs: Any) -> Finished:
    """Run a program that must not start, and check that it prints no traceback."""
    finished = run_program(directory, ["--listen-port", "0", *args], **kwargs)
    assert finished.code == code, finished.output
    assert "Traceback" not in finished.output
    assert list((directory / "tmp").iterdir()) == []
    return finished


def test_unknown_option_ends_with_2(tmp_path: Path) -> None:
    finished = refused(tmp_path, "--no-such-option", "zoo.echo", code=2)
    assert "--no-such-option" in finished.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--workers", "0"),
        ("--workers", "two"),
        ("--listen-port", "65536"),
        ("--listen-ip", "not an address"),
        ("--client-max-size", "-1"),
        ("--client-max-parts", "0"),
        ("--debug-size", "1"),
        ("--stop-timeout", "-1"),
        ("--predict-timeout", "nan"),
        ("--sweep-interval", "inf"),
        ("--send-timeout", "1e300"),
        ("--restart-delay-max", "0"),
        ("--log-level", "LOUD"),
    ],
)
def test_value_that_cannot_be_is_named(tmp_path: Path, option: str, value: str) -> None:
    finished = run_program(tmp_path, ["--listen-port", "0", option, value, "zoo.echo"])
    assert finished.code in (1, 2)
    assert value in finished.stderr
    assert option.strip("-").replace("-", "_") in finished.stderr.replace("-", "_")
    assert "Traceback" not in finished.output


@pytest.mark.parametrize("option", ["--workers", "--predict-timeout", "--listen-port"])
def test_empty_number_is_told(tmp_path: Path, option: str) -> None:
    finished = refused(tmp_path, option, "", "zoo.echo")
    assert f"{option} is empty, but must be " in finished.stderr


def test_number_that_is_too_large_is_told(tmp_path: Path) -> None:
    finished = refused(tmp_path, "--client-max-line", str(2**63), "zoo.echo")
    wanted = f"--client-max-line must be at most {2**63 - 1}, and not '{2**63}'"
    assert wanted in finished.stderr


def test_port_in_use_is_told_with_a_way_out(tmp_path: Path) -> None:
    with leased_port() as port, socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, port))
        taken.listen()
        finished = refused(tmp_path, "--listen-port", str(port), "zoo.echo")
    assert str(port) in finished.stderr
    assert "--listen-port" in finished.stderr


def test_address_that_is_not_ours_is_told(tmp_path: Path) -> None:
    finished = refused(tmp_path, "--listen-ip", "192.0.2.1", "zoo.echo")
    assert "192.0.2.1" in finished.stderr


def test_without_any_model_it_says_what_to_do(tmp_path: Path) -> None:
    finished = refused(tmp_path)
    assert "no model to serve" in finished.stderr
    assert "deepaas.v2.model" in finished.stderr
    assert "deepaas-run path/to/file.py" in finished.stderr


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("digit", "did you mean digits?"),
        ("digits-plant", "digits"),
        ("xyz", "installed: digits, plants"),
    ],
)
def test_wrong_name_is_told_with_the_nearest_ones(tmp_path: Path, name: str, hint: str) -> None:
    models = {"digits": "zoo.bare", "plants": "zoo.bare"}
    finished = refused(tmp_path, "--model-name", name, models=models)
    assert repr(name) in finished.stderr
    assert hint in finished.stderr


@pytest.mark.parametrize("target", ["nowhere.py", "some/where.py:model", "/no/where.py"])
def test_target_that_is_no_file_is_told(tmp_path: Path, target: str) -> None:
    finished = refused(tmp_path, "zoo.echo", target)
    assert "there is no file" in finished.stderr
    assert target.partition(":")[0] in finished.stderr


@pytest.mark.parametrize("target", ["not/a/module", "two words", "1.2.3", "", "zoo.echo.", ":attr"])
def test_target_that_is_no_model_is_told(tmp_path: Path, target: str) -> None:
    finished = refused(tmp_path, target)
    assert "path/to/file.py" in finished.stderr


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("no_such_module", "No module named 'no_such_module'"),
        ("zoo.no_such_module:model", "No module named 'zoo.no_such_module'"),
        ("zoo.echo:nothing", "nothing"),
        ("zoo.objects:Needy", "weights"),
    ],
)
def test_target_that_cannot_be_loaded_ends_with_1(tmp_path: Path, target: str, cause: str) -> None:
    finished = run_program(tmp_path, ["--listen-port", "0", target])
    assert finished.code == 1
    assert cause in finished.output
    assert "none of the models can be served" in finished.stderr


def test_two_targets_of_one_name_are_told(tmp_path: Path) -> None:
    finished = refused(tmp_path, "zoo.objects:instance", "zoo.objects:Model")
    assert "objects" in finished.stderr


def test_one_name_for_two_targets_is_told(tmp_path: Path) -> None:
    finished = refused(tmp_path, "zoo.echo", "zoo.bare", "--model-name", "x")
    assert "--model-name" in finished.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--log-file", "no/such/dir/log"), ("--upload-dir", "no/such/dir")]
)
def test_place_that_is_not_there_is_told(tmp_path: Path, option: str, value: str) -> None:
    finished = refused(tmp_path, option, value, "zoo.echo")
    assert value in finished.stderr


def test_server_with_the_longest_times_serves(serve: Serve) -> None:
    times = [option.name for option in config.ALL if isinstance(option.type, config.Seconds)]
    server = serve({"standard": "zoo.standard"}, *(f"--{name}=1000000000" for name in times))
    assert predictions(server.predict("standard")) == "printed"
    assert server.predict("standard", params={"do": "stream"}).text == '"one"\n"two"\n'
    trainings = Trainings(server, "standard")
    assert trainings.wait(trainings.begin())["status"] == "done"


# --- choice of models


MINE = """\
import neighbour

def predict(**kwargs):
    return ["module", neighbour.VALUE]

class Model:
    def predict(self, **kwargs):
        return "class"

model = Model()
model.predict = lambda **kwargs: "instance"
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    directory = tmp_path / "my models"
    directory.mkdir()
    (directory / "my_model.py").write_text(MINE)
    (directory / "neighbour.py").write_text("VALUE = 'beside'\n")
    return directory / "my_model.py"


@pytest.mark.parametrize(
    ("attribute", "answer"),
    [("", ["module", "beside"]), (":Model", "class"), (":model", "instance")],
)
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_file_is_a_model(
    serve: Serve, mine: Path, attribute: str, answer: object, relative: bool
) -> None:
    target = "my models/my_model.py" if relative else str(mine)
    server = serve({}, target + attribute, cwd=mine.parents[1])
    assert predictions(server.predict("my_model")) == answer


def test_module_and_attribute_are_a_model(serve: Serve) -> None:
    server = serve({}, "zoo.objects:instance")
    assert predictions(server.predict("objects")) == {"calls": 1, "made here": True}


def test_module_is_found_in_the_working_directory(serve: Serve, mine: Path) -> None:
    server = serve({}, mine.stem, cwd=mine.parent)
    assert predictions(server.predict("my_model")) == ["module", "beside"]


def test_several_targets_are_served_at_once(serve: Serve, mine: Path) -> None:
    server = serve({"installed": "zoo.bare"}, str(mine), "zoo.echo", "zoo.objects:Model")
    listed = [one["links"][0]["href"] for one in server.get("/v2/models/").json()["models"]]
    assert listed == [f"/v2/models/{name}" for name in ("my_model", "echo", "objects")]
    assert predictions(server.predict("my_model")) == ["module", "beside"]
    assert predictions(server.predict("echo")) == {}


def test_model_name_names_a_target(serve: Serve, mine: Path) -> None:
    server = serve({}, str(mine), "--model-name", "other")
    assert predictions(server.predict("other")) == ["module", "beside"]
    assert server.predict("my_model").status_code == 404


def test_working_directory_shadows_nothing(serve: Serve, tmp_path: Path) -> None:
    """The server starts in a directory where a file has the name of a library."""
    for name in ("logging", "json", "orjson", "deepaas", "aiohttp", "marshmallow"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')\n")
    server = serve({}, "zoo.echo", cwd=tmp_path)
    assert predictions(server.predict("echo")) == {}


# --- address and interface


def test_listen_port_0_takes_a_free_one_and_tells_it() -> None:
    server = Server(args=["--listen-port", "0", "zoo.echo"], listen=False).start(wait=False)
    try:
        told = re.compile(r"Listening on (http://127\.0\.0\.1:(\d+))\n")
        wait_until(lambda: told.search(server.log()), within=10, what="the line with the port")
        found = told.search(server.log())
        assert found
        assert int(found[2]) not in (0, 5000)
        assert httpx.get(found[1] + "/v2/health/live", trust_env=False).status_code == 200
        server.stop()
    finally:
        server.kill()


@pytest.mark.parametrize(("address", "there"), [("127.0.0.2", False), ("0.0.0.0", True)])
def test_listen_ip_is_where_it_listens(address: str, there: bool) -> None:
    with leased_port() as port:
        args = ["--listen-ip", address, "--listen-port", str(port), "zoo.echo"]
        server = Server(args=args, listen=False, port=port).start(wait=False)
        try:
            said = f"Listening on http://{address}:{port}"
            wait_until(lambda: said in server.log(), within=10, what="the start")
            url = f"http://127.0.0.2:{port}/v2/health/live"
            assert httpx.get(url, trust_env=False).status_code == 200
            assert server.is_open() is there
            server.stop()
        finally:
            server.kill()


def test_listen_ip_may_be_of_version_6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("there is no IPv6 here")
    args = ["--listen-ip", "::1", "--listen-port", "0", "zoo.echo"]
    server = Server(args=args, listen=False).start(wait=False)
    try:
        told = re.compile(r"Listening on (http://\[::1\]:\d+)\n")
        wait_until(lambda: told.search(server.log()), within=10, what="the start")
        found = told.search(server.log())
        assert found
        assert httpx.get(found[1] + "/v2/health/live", trust_env=False).status_code == 200
        server.stop()
    finally:
        server.kill()


def test_base_path_is_where_everything_is(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "--base-path", "/x")
    assert server.post("/x/v2/models/echo/predict/").status_code == 200
    assert server.get("/v2/models/").status_code == 404
    assert f"{server.url}/x/api" in server.log()


@pytest.mark.parametrize(
    ("flag", "method", "path", "on", "off"),
    [
        ("--nopredict-endpoint", "POST", "/v2/models/echo/predict/", 200, 402),
        ("--notrain-endpoint", "POST", "/v2/models/echo/train/", 501, 402),
        ("--nodoc-endpoint", "GET", "/api", 200, 404),
        ("--debug-endpoint", "GET", "/v2/debug/", 204, 200),
    ],
)
def test_endpoint_is_switched(
    serve: Serve, usual: Server, flag: str, method: str, path: str, on: int, off: int
) -> None:
    assert usual.request(method, path).status_code == on
    assert serve({}, "zoo.echo", flag).request(method, path).status_code == off


@pytest.mark.parametrize(
    ("limit", "request_", "status"),
    [
        (["--client-max-size", "1000"], {"json": {"text": "x" * 2000}}, 413),
        (["--client-max-parts", "2"], multipart(*(Part(f"p{n}", b"x") for n in range(3))), 413),
        (["--client-max-text", "1000"], multipart(Part("text", b"x" * 2000)), 413),
        (["--client-max-line", "2000"], {"params": {"text": "x" * 5000}}, 400),
        (["--client-max-line", "2000"], {"headers": {"X-Long": "x" * 5000}}, 400),
    ],
    ids=["size", "parts", "text", "line", "header"],
)
def test_requests_are_limited(
    serve: Serve, usual: Server, limit: list[str], request_: dict[str, Any], status: int
) -> None:
    assert usual.predict("files", **request_).status_code == 200
    assert serve({}, "zoo.files", *limit).predict("files", **request_).status_code == status


def test_upload_dir_is_where_uploads_go(serve: Serve, usual: Server, tmp_path: Path) -> None:
    file = multipart(Part("data", b"x", "a.bin"))
    assert predictions(usual.predict("files", **file))["data"]["directory"].startswith(
        str(usual.home / "tmp")
    )
    server = serve({}, "zoo.files", "--upload-dir", str(tmp_path))
    path = predictions(server.predict("files", **file))["data"]["directory"]
    assert Path(path).parent == tmp_path


# --- workers


@pytest.mark.parametrize("flag", ["--workers", "-p"])
def test_workers_are_so_many_processes(serve: Serve, tmp_path: Path, flag: str) -> None:
    server = serve({}, "zoo.dies", flag, "2")
    workers = pids(server, "dies")
    assert len(set(workers)) == 2
    seen = both_work(server, "dies", tmp_path)
    assert {one["pid"] for one in seen} == set(workers)
    assert all(one["warmed"] == [one["pid"]] for one in seen)


def test_one_worker_is_the_default(usual: Server) -> None:
    assert len(pids(usual, "echo")) == 1


def test_nowarm_leaves_every_worker_cold(serve: Serve) -> None:
    server = serve({}, "zoo.dies", "--nowarm")
    assert answers(server, "dies")["warmed"] == []
    server.predict("dies", params={"how": "_exit"})
    wait_ready(server, "dies")
    assert answers(server, "dies")["warmed"] == []


def restart_delays(server: Server) -> list[float]:
    return [float(one) for one in re.findall(r"is started again in ([\d.]+) s", server.log())]


def test_restart_delay_grows_up_to_its_maximum(serve: Serve) -> None:
    """This uses the real clock; `serving/test_slot.py` checks more delays in virtual time."""
    bounded = serve({}, "zoo.echo", "zoo.unloadable", "--restart-delay-max", "1")
    unbounded = serve({}, "zoo.echo", "zoo.unloadable")
    for server, delays in ((bounded, [1, 1]), (unbounded, [1, 2])):
        wait_until(lambda server=server: len(restart_delays(server)) >= 2, within=10)  # type: ignore[misc]
        assert restart_delays(server)[:2] == delays


@pytest.mark.parametrize("seconds", [0, 1])
def test_stop_timeout_is_how_long_a_stop_waits(seconds: int) -> None:
    """The worker is idle but does not exit. The default is 5 s."""
    server = Server(args=["zoo.hangs", "--stop-timeout", str(seconds)]).start()
    try:
        os.kill(pids(server, "hangs")[0], signal.SIGSTOP)
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_end() == 0
        took = time.monotonic() - began
    finally:
        server.kill()
    assert took >= seconds
    assert f"did not end in {seconds} s and is killed" in server.log()


# --- the log


def test_each_model_has_a_line_at_the_start(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "zoo.objects:instance", "zoo.bare", "--workers", "2")
    wait_until_it_listens(server)
    log = server.log()
    for name, target, can in [
        ("echo", "zoo.echo", r"predict\(text, number\)"),
        ("objects", "zoo.objects:instance", r"predict\(step\)"),
        ("bare", "zoo.bare", ""),
    ]:
        assert re.search(rf"INFO .*Model {name} \({target}\) ready in [\d.]+ s .*{can}", log)
    assert log.index("Model bare") < log.index("Listening on")


def wait_until_it_listens(server: Server) -> None:
    """Wait for the last line of the start, which is logged after the port is open."""
    wait_until(lambda: "Listening on" in server.log(), within=10, what="the last line of the start")


def test_start_shows_where_to_go(usual: Server) -> None:
    wait_until_it_listens(usual)
    for path in ("/api", "/openapi.json", "/v2/models/"):
        assert f"{usual.url}{path}\n" in usual.log()


def test_use_json_makes_every_line_a_record(serve: Serve) -> None:
    server = serve({}, "zoo.raises", "--use-json")
    server.predict("raises", params={"kind": "value"})
    server.stop()
    records = [json.loads(line) for line in server.log().splitlines()]
    keys = {"asctime", "process", "levelname", "name", "message"}
    assert all(keys <= set(one) for one in records)
    failed = [one for one in records if one.get("traceback")]
    messages = [one["message"].partition(" (request ")[0] for one in failed]
    assert messages == ["predict of model raises failed"]
    assert failed[0]["process"] != server.pid
    assert "ValueError: it went wrong" in failed[0]["traceback"]
    assert any('"POST /v2/models/raises/predict/' in one["message"] for one in records)


def test_log_file_takes_the_log_of_server_and_workers(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    server = serve({}, "zoo.raises", "zoo.printing", "--log-file", "server.log", cwd=tmp_path)
    server.predict("raises", params={"kind": "value"})
    server.predict("printing", params={"text": "to stdout"})
    server.stop()
    text = log.read_text()
    assert "Listening on" in text
    assert '"POST /v2/models/raises/predict/' in text
    assert "predict of model raises failed" in text
    assert "ValueError: it went wrong" in text
    assert " INFO " not in server.log()
    assert "Traceback" not in server.log()
    assert "printed by predict: to stdout" in server.log()
    assert "printed by predict" not in text


@pytest.mark.parametrize(
    "flags", [[], ["--use-json"], ["--log-file", "server.log"], ["--debug-endpoint"]]
)
def test_no_text_is_too_odd_for_the_log(serve: Serve, tmp_path: Path, flags: list[str]) -> None:
    """Exceptions contain surrogates or control characters, and a header contains bytes."""
    server = serve({}, "zoo.odd_errors", *flags, cwd=tmp_path)
    for kind in ("surrogate", "control", "text-fails"):
        server.predict("odd_errors", params={"kind": kind})
    server.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \xff\xfe\r\n\r\n")
    server.stop()
    file = tmp_path / "server.log"
    log = server.log() + (file.read_text() if file.exists() else "")
    assert "Logging error" not in log
    assert log.count("predict of model odd_errors failed") == 3
    assert '"GET / HTTP/1.1' in log or '\\"GET / HTTP/1.1' in log


@pytest.mark.parametrize("flags", [[], ["--noaccess-log"]])
def test_access_log_is_switched(serve: Serve, flags: list[str]) -> None:
    server = serve({}, "zoo.echo", *flags)
    server.get("/nowhere")
    server.stop()
    assert ('"GET /nowhere HTTP/1.1" 404' in server.log()) is not bool(flags)
    assert "Listening on" in server.log()


@pytest.mark.parametrize(
    ("flags", "levels"),
    [
        ([], {"INFO"}),
        (["--debug"], {"INFO", "DEBUG"}),
        (["-d", "--log-level", "ERROR"], {"INFO", "DEBUG", "WARNING"}),
        (["--log-level", "debug"], {"INFO", "DEBUG"}),
        (["--log-level", "WARNING"], set()),
    ],
)
def test_log_level_is_the_least_that_is_logged(
    serve: Serve, flags: list[str], levels: set[str]
) -> None:
    server = serve({}, "zoo.echo", *flags)
    predictions(server.predict("echo"))
    server.stop()
    assert set(re.findall(r" (DEBUG|INFO|WARNING|ERROR) deepaas", server.log())) == levels


# --- /v2/debug/


def test_debug_shows_the_newest_output_within_its_size(serve: Serve) -> None:
    server = serve({}, "zoo.printing", "--debug-endpoint", "--debug-size", "5000")
    for number in range(200):
        predictions(server.predict("printing", params={"text": f"number {number}"}))
    said = "printed by predict: number 199\n"
    wait_until(lambda: said in server.get("/v2/debug/").text, within=3, what="the last print")
    text = server.get("/v2/debug/").text
    assert len(text.encode()) <= 5000
    assert "number 0\n" not in text
    assert "printed to stderr: number 199" in text
    assert "written to descriptor 1: number 199" in text
    assert "logged by predict: number 199" in text
    assert said in server.log()


def test_debug_shows_the_log_of_the_server_too(serve: Serve) -> None:
    server = serve({}, "zoo.raises", "--debug-endpoint")
    server.predict("raises", params={"kind": "value"})

    def told() -> bool:
        text = server.get("/v2/debug/").text
        return "predict of model raises failed" in text and "Listening on" in text

    wait_until(told, within=3, what="both logs")


def test_debug_holds_a_quarter_of_a_megabyte_by_default(serve: Serve) -> None:
    server = serve({}, "zoo.dies", "--debug-endpoint", "--noaccess-log")
    answers(server, "dies", params={"how": "print-megabyte"})
    size = 256 * 1024
    wait_until(lambda: len(server.get("/v2/debug/").text) == size, within=5, what="all of it")


def test_debug_shows_the_last_words_of_a_worker(serve: Serve) -> None:
    server = serve({}, "zoo.dies", "--debug-endpoint")
    server.predict("dies", params={"how": "words-and-die"})
    wait_until(
        lambda: "the last words" in server.get("/v2/debug/").text, within=3, what="the last words"
    )


def test_port_after_the_option_for_workers_is_refused(tmp_path: Path) -> None:
    finished = refused(tmp_path, "-p", "100000", "zoo.echo")
    assert "--workers (-p) 100000: at most " in finished.output
    assert "the port of the server is --listen-port" in finished.output


def test_model_may_have_any_name(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "--model-name", "{a/b c}")
    assert server.get("/v2/models/other/").status_code == 404
    assert server.post("/v2/models/%7Ba%2Fb%20c%7D/predict/").status_code == 200
