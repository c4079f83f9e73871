"""`deepaas call` against real servers, and with a model in its own process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deepaas.commands import main
from tests.auth.token_files import TokenFile
from tests.support import HOST, ZOO, Server, leased_port, wait_until

PROGRAM = Path(sys.executable).with_name("deepaas")
SAMPLE = Path(__file__).resolve().parents[2] / "examples/digits/samples/3.png"
SECONDS = 120.0
MODELS = {
    "digits": "deepaas_digits.api",
    "sources": "zoo.sources",
    "raises": "zoo.raises",
    "streaming": "zoo.streaming:Plain",
    "trains": "zoo.trains",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    args = ["--train-nice", "0", "--noreload-after-train", "--base-path", "/base"]
    with Server(models=MODELS, args=args) as server:
        yield server


@dataclass
class Caller:
    """Runs `deepaas call` in this process; `url` is the address of the server."""

    url: str

    def run(self, *words: str, stdin: bytes = b"") -> Result:
        environment = {"DEEPAAS_URL": self.url, "DEEPAAS_TOKEN": None}
        return CliRunner().invoke(main, ["call", *words], input=stdin, env=environment)

    def printed(self, *words: str, stdin: bytes = b"") -> str:
        done = self.run(*words, stdin=stdin)
        assert done.exit_code == 0, done.output
        return done.stdout

    def json(self, *words: str, stdin: bytes = b"") -> object:
        return json.loads(self.printed(*words, stdin=stdin))


@pytest.fixture
def call(server: Server) -> Caller:
    return Caller(f"{server.url}/base")


def start(*words: str, url: str) -> subprocess.Popen[str]:
    """Start the program in a process of its own."""
    return subprocess.Popen(
        [str(PROGRAM), "call", *words],
        env={**os.environ, "DEEPAAS_URL": url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


# --- arguments


def test_help_lists_the_arguments_of_the_model(call: Caller) -> None:
    shown = call.printed("digits", "train", "--help")
    assert "--epochs INTEGER" in shown
    assert "[at least 1; at most 1000; default: 30]" in " ".join(shown.split())
    shown = call.printed("digits", "--help")
    assert "--image FILE" in shown
    assert "[required]" in shown
    assert "application/json, image/png" in shown


VALUES = [
    (["--text", "7"], "text", ["str", "'7'"]),
    (["--text", "[1"], "text", ["str", "'[1'"]),
    (["--text=-x"], "text", ["str", "'-x'"]),
    (["--text", "@@a"], "text", ["str", "'@a'"]),
    (["--text", "@-"], "text", ["str", "'from stdin'"]),
    (["--number", "-3"], "number", ["int", "-3"]),
    (["--number", str(10**30)], "number", ["int", str(10**30)]),
    (["--real", "1e3"], "real", ["float", "1000.0"]),
    (["--switch", "yes"], "switch", ["bool", "True"]),
    (["--switch", "false"], "switch", ["bool", "False"]),
    (["--day", "2024-02-29"], "day", ["date", "datetime.date(2024, 2, 29)"]),
    (["--numbers", "[1, 2]"], "numbers", ["list", "[1, 2]"]),
    (["--numbers", "1", "--numbers", "2"], "numbers", ["list", "[1, 2]"]),
    (["--texts", "a, b"], "texts", ["list", "['a, b']"]),
    (["--nested", '{"count": 2}'], "nested", ["dict", '{"count": 2}']),
    (["--mapping", '{"a": [null]}'], "mapping", ["dict", '{"a": [null]}']),
    (["--anything", "word"], "anything", ["str", "'word'"]),
]

ONLY_IN_JSON = [
    (["--numbers", "[]"], "numbers", ["list", "[]"]),
    (["--anything", "[1]"], "anything", ["list", "[1]"]),
]
"""A form cannot hold an empty list, and has only texts for a raw field."""


@pytest.mark.parametrize(
    ("words", "name", "seen", "more"),
    [
        *((*one, []) for one in [*VALUES, *ONLY_IN_JSON]),
        *((*one, ["--form_file", str(SAMPLE)]) for one in VALUES),  # a file needs a form
    ],
)
def test_values_arrive_as_the_model_declares_them(
    call: Caller, words: list[str], name: str, seen: list[str], more: list[str]
) -> None:
    found = call.json("sources", *words, *more, stdin=b"from stdin")
    assert isinstance(found, dict)
    assert found[name] == seen


def test_files_arrive_with_name_and_type(call: Caller, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    found = call.json(
        "sources", "--files", str(SAMPLE), f"@{tmp_path / 'a.txt'}", "--form-file", "-", stdin=b"x"
    )
    digest = hashlib.sha256
    assert found == {
        "files": [
            ["UploadedFile", digest(SAMPLE.read_bytes()).hexdigest(), "image/png", "3.png", "png"],
            ["UploadedFile", digest(b"a").hexdigest(), "text/plain", "a.txt", "txt"],
        ],
        "form_file": [
            "UploadedFile", digest(b"x").hexdigest(), "application/octet-stream", "stdin", ""
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sources", "--txet", "a"], "there is no argument --txet; did you mean --text?"),
        (["sources", "--number", "many"], "--number: Not a valid integer."),
        (["sources", "--nested", '{"name": "a"}'], "--nested: count: Missing data"),
        (["sources", "--nested", "{"], "--nested: { is not JSON of the right kind"),
        (["sources", "--text", "a", "--text", "b"], "--text takes one value, but has 2"),
        (["sources", "--text", "@/missing"], "the file /missing cannot be read"),
        (["sources", "--file", "/missing"], "--file: /missing cannot be read"),
        (["sources", "a.png"], "which argument is a.png for?"),
        (["raises", "a.png"], "the model takes no file"),
        (["digits"], "the argument --image is required"),
        (["digits", "--image", str(SAMPLE), "--accept", "image/gif"], "offers application/json"),
        (["digits", "train", str(SAMPLE)], "the model takes no file"),
        (["digits/x"], "digits/x is no name of a model"),
        (["http://user:secret@host/digits"], "write no password in the address"),
        (["--local", "digits", "list"], "list needs a server"),
        (["trains", "show"], "Missing argument 'UUID'"),
    ],
)
def test_mistake_is_a_usage_error(call: Caller, words: list[str], said: str) -> None:
    done = call.run(*words)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert done.stdout == ""


# --- predictions


def test_result_is_the_value_and_with_json_the_response(call: Caller) -> None:
    assert call.printed("raises", "--text", "a word") == "a word\n"
    assert call.json("--json", "raises", "--text", "b") == {"status": "OK", "predictions": "b"}


def test_stream_is_printed_item_by_item(call: Caller) -> None:
    assert call.printed("streaming", "--count", "2") == '{"n": 0}\n{"n": 1}\n'
    failed = call.run("streaming", "--count", "1", "--end", "raise", "--json")
    assert failed.exit_code == 1, failed.output
    first, error = map(json.loads, failed.stdout.splitlines())
    assert first == {"n": 0}
    assert error["error"]["code"] == "predict_failed"


def test_binary_result_is_saved_or_printed(call: Caller, tmp_path: Path) -> None:
    path = tmp_path / "new/chart.png"
    words = ["digits", str(SAMPLE), "--accept", "image/png"]
    done = call.run(*words, "--output", str(path))
    assert (done.exit_code, done.stdout) == (0, "")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert call.run(*words).stdout_bytes.startswith(b"\x89PNG")
    assert call.run(*words, "--json").exit_code == 2


def test_several_files_are_one_call_each(call: Caller, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    files = [str(SAMPLE), str(tmp_path / "bad.png"), str(SAMPLE)]
    done = call.run("digits", *files, "--parallel", "2")
    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["file"] for line in lines] == files
    assert lines[0]["result"]["label"] == lines[2]["result"]["label"] == 3
    assert lines[1]["error"]["code"] == "refused_by_model"
    assert "1 of 3 predictions have failed" in done.stderr
    folder = tmp_path / "results"
    done = call.run("digits", "--image", files[0], files[2], "--output", str(folder))
    assert done.exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["3-2.json", "3.json"]
    assert json.loads((folder / "3.json").read_text())["label"] == 3


def test_results_in_a_directory_replace_no_file(call: Caller, tmp_path: Path) -> None:
    image = SAMPLE.read_bytes()
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.write_bytes(image)
    words = [*map(str, files), "--accept", "image/png", "--output", str(tmp_path)]
    lines = call.printed("digits", *words).splitlines()
    assert all(file.read_bytes() == image for file in files)
    saved = [Path(json.loads(line)["output"]) for line in lines]
    assert saved == [tmp_path / "a-2.png", tmp_path / "b-2.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in saved)


def test_error_of_the_model_is_explained(call: Caller) -> None:
    done = call.run("raises", "--kind", "value", "--json")
    assert done.exit_code == 1
    assert "code predict_failed, status 500" in done.stderr
    error = json.loads(done.stdout)["error"]
    assert (error["status"], error["code"]) == (500, "predict_failed")


def test_model_that_is_not_there_names_the_nearest(call: Caller) -> None:
    done = call.run("digit")
    assert done.exit_code == 1
    assert "has no model digit; did you mean digits?" in done.stderr


def test_address_of_a_model_contains_that_of_the_server(call: Caller) -> None:
    url = call.url
    for address in (f"{url}/raises", f"{url}/v2/models/raises/"):
        assert Caller("http://127.0.0.1:1").printed(address, "--text", "a") == "a\n"


# --- trainings


def test_training_is_followed_to_its_end(call: Caller, tmp_path: Path) -> None:
    done = call.run("digits", "train", "--epochs", "2", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["status"] == "done"
    assert record["args"]["epochs"] == 2
    uuid = record["uuid"]
    assert uuid in call.printed("digits", "list")
    assert call.json("digits", "show", uuid, "--json") == json.loads(
        call.printed("--json", "digits", "wait", uuid)
    )
    assert "epoch" in call.printed("digits", "log", uuid)
    assert "learning-curve.csv" in call.printed("digits", "files", uuid)
    call.printed("digits", "files", uuid, "--output", str(tmp_path))
    assert (tmp_path / "learning-curve.csv").stat().st_size > 0
    assert call.run("digits", "cancel", uuid).exit_code == 1
    call.printed("digits", "delete", uuid)
    gone = call.run("digits", "show", uuid)
    assert gone.exit_code == 1
    assert f"has no record {uuid}" in gone.stderr


def test_training_that_fails_has_its_exit_code(call: Caller) -> None:
    done = call.run("trains", "train", "--do", "raise")
    assert done.exit_code == 4, done.output
    assert "training begins" in done.stderr
    assert "has failed:" in done.stderr


def test_asynchronous_prediction_is_waited_for(call: Caller) -> None:
    uuid = call.printed("raises", "--async", "--text", "later").strip()
    assert call.printed("raises", "wait", uuid).endswith("later\n")


class Terminal:
    """The program in a terminal of its own."""

    def __init__(self, *words: str, url: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.execve(PROGRAM, ["deepaas", "call", *words], {**os.environ, "DEEPAAS_URL": url})
        self.shown = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # raised at the end
            while data := os.read(self._fd, 65536):
                self.shown += data

    def wait_for(self, text: bytes) -> None:
        wait_until(lambda: text in self.shown, within=SECONDS, what=f"{text!r}: {self.shown!r}")

    def press(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> int:
        """Return the exit code."""
        try:
            self._reader.join(timeout=SECONDS)
            assert not self._reader.is_alive(), self.shown
        except BaseException:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            _, status = os.waitpid(self.pid, 0)
            os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize(
    ("answer", "code", "status"), [(b"y\n", 4, "cancelled"), (b"n\n", 130, "running")]
)
def test_interrupted_training_is_cancelled_or_goes_on(
    call: Caller, tmp_path: Path, answer: bytes, code: int, status: str
) -> None:
    terminal = Terminal("trains", "train", "--place", str(tmp_path), url=call.url)
    terminal.wait_for(b"training begins")
    terminal.press(b"\x03")
    terminal.wait_for(b"Cancel it?")
    terminal.press(answer)
    assert terminal.end() == code, terminal.shown
    uuid = terminal.shown.split(b"training ")[1].split()[0].decode()
    record = call.json("trains", "show", uuid, "--json")
    assert isinstance(record, dict)
    assert record["status"] == status
    (tmp_path / "gate").touch()
    call.run("trains", "wait", uuid)


# --- sign-in, and servers that fail


def test_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    token = tokens.add("me")["Authorization"].removeprefix("Bearer ")
    (tmp_path / "token").write_text(f"{token}\n")
    with Server(models={"raises": "zoo.raises", "trains": "zoo.trains"}, args=tokens.flags) as one:
        call = Caller(one.url)
        refused = call.run("raises")
        assert refused.exit_code == 1
        assert "not_signed_in" in refused.stderr
        assert "--token-file" in refused.stderr
        assert (
            call.printed("raises", "--text", "a", "--token-file", str(tmp_path / "token")) == "a\n"
        )
        environment = {"DEEPAAS_URL": one.url, "DEEPAAS_TOKEN": token}
        done = CliRunner().invoke(main, ["call", "raises", "--text", "b"], env=environment)
        assert done.stdout == "b\n"
        waiting = start(
            "trains", "--place", str(tmp_path), "--token-file", str(tmp_path / "token"), url=one.url
        )
        wait_until((tmp_path / "attempts").exists, within=SECONDS)
        one.kill()
        _, said = waiting.communicate(timeout=SECONDS)
        assert waiting.returncode == 3
        assert "broke before the response was complete" in said
        done = call.run("raises")
        assert done.exit_code == 3
        assert "Connection refused" in done.stderr


HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"SSH-2.0-server\r\n\r\n", "does not answer in HTTP"),
        (b"", "broke before the response was complete"),
        (HTTP + b"10\r\n\r\n{", "broke before the response was complete"),
        (HTTP + b"2\r\n\r\n[]", "is not the address of a DEEPaaS server"),
        (HTTP + b"3\r\n\r\n<p>", "and not JSON"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://a/\r\n\r\n", "redirects to http://a/"),
        (None, "has sent nothing for 0.3 s; raise --timeout"),
    ],
)
def test_other_servers_are_reported(sent: bytes | None, said: str) -> None:
    with leased_port() as port, socket.create_server((HOST, port)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):  # raised at the end
                while True:  # a client may try again
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(65536)
                        if sent is None:
                            connection.recv(1)  # until the client gives up
                        else:
                            connection.sendall(sent)

        thread = threading.Thread(target=serve)
        thread.start()
        timeout = ["--timeout", "0.3"] if sent is None else []
        done = Caller(f"http://{HOST}:{port}").run(*timeout, "model")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=SECONDS)
    assert done.exit_code == 3, done.output
    assert said in done.stderr


# --- without a server


def run_locally(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), "call", "--local", *words],
        env={**os.environ, "DEEPAAS_URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_local_model_gives_the_same_result(call: Caller) -> None:
    words = ["--numbers", "[1, 2]", "--nested", '{"count": 1}', "--files", str(SAMPLE), str(SAMPLE)]
    done = run_locally(str(ZOO / "sources.py"), *words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == call.json("sources", *words, "--json")


def test_local_model_refuses_and_fails_as_a_server_does() -> None:
    done = run_locally(str(ZOO / "sources.py"), "--number", "many")
    assert done.returncode == 2
    assert "--number: Not a valid integer." in done.stderr
    done = run_locally(str(ZOO / "raises.py"), "--kind", "werkzeug")
    assert done.returncode == 1
    assert "it went wrong (code refused_by_model, status 400)" in done.stderr


def test_local_training_prints_its_result_apart_from_its_output() -> None:
    done = run_locally(str(ZOO / "trains.py"), "train", "--do", "return", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"
    assert "training begins" in done.stderr


# --- completion


def complete(url: str, *words: str) -> Sequence[str]:
    """Return what bash offers for the last word, with the script that the program prints."""
    script = """
eval "$(_DEEPAAS_COMPLETE=bash_source deepaas)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _deepaas_completion deepaas
printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env={**os.environ, "DEEPAAS_URL": url, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return done.stdout.split()


def test_bash_completes_commands_options_and_models(call: Caller) -> None:
    assert complete(call.url, "deepaas", "cal") == ["call"]
    assert complete(call.url, "deepaas", "call", "--out") == ["--output"]
    assert complete(call.url, "deepaas", "call", "d") == ["digits"]
    assert complete("http://127.0.0.1:1", "deepaas", "call", "d") == []
