"""`deepaas call` with servers that send anything, and with files that are there already."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deepaas.client.address import proxy_for
from deepaas.commands import main
from deepaas.commands.calling.completion import models_like
from deepaas.commands.calling.results import Results, save
from deepaas.commands.calling.settings import CallError
from deepaas.commands.calling.training import MAX_REST, View, bar_of
from tests.support import HOST

UUID = "0" * 32
ESCAPES = "\x1b[2J\x1b]0;title\x07\x9b2J"


@dataclass
class Answers:
    """A server that sends what a test says: a status and a body for each path.

    `seen` has the lines and the headers of the requests.
    """

    url: str
    bodies: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def sends(self, path: str, value: object, status: int = 200) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.bodies[path] = (status, body)

    def run(self, *words: str, **variables: str | None) -> Result:
        environment = {"DEEPAAS_URL": self.url, "DEEPAAS_TOKEN": None, **variables}
        return CliRunner().invoke(main, ["call", *words], env=environment)


@pytest.fixture(scope="module")
def answering() -> Iterator[Answers]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.seen.append((self.path, dict(self.headers)))
            status, body = sent.bodies.get(self.path, (404, b"{}"))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    sent = Answers(f"http://{HOST}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield sent
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def answers(answering: Answers) -> Answers:
    answering.bodies.clear()
    answering.seen.clear()
    answering.sends("/openapi.json", {"paths": {"/v2/models/m/": {}}})
    return answering


# --- files that are there already


async def _chunks(*data: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for one in data:
        yield one
    if error is not None:
        raise error


def test_file_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    path, link = tmp_path / "kept", tmp_path / "link"
    path.write_text("before")
    path.chmod(0o640)
    link.symlink_to(path)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(save(str(path), _chunks(b"half", error=ZeroDivisionError())))
    assert path.read_text() == "before"
    assert asyncio.run(save(str(link), _chunks(b"the ", b"whole"))) == 9
    assert path.read_text() == "the whole"
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["kept", "link"]
    with pytest.raises(CallError, match="Is a directory"):
        asyncio.run(save(str(tmp_path), _chunks(b"x")))
    reading, writing = os.pipe()
    try:
        assert asyncio.run(save(f"/dev/fd/{writing}", _chunks(b"x"))) == 1
        assert os.read(reading, 2) == b"x"
    finally:
        os.close(reading)
        os.close(writing)


# --- addresses


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://user:s3cret@127.0.0.1:1", "write no password in the address"),
        ("user:s3cret@127.0.0.1:1", "write no password in the address"),
        ("http://user:s3cret@[::1", "write no password in the address"),
        ("http://[::1", "is no address"),
        ("http://127.0.0.1:99999", "is no address"),
        ("http://a b", "is no address"),
        ("ftp://a", "is no address"),
    ],
)
def test_address_is_checked_wherever_it_comes_from(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    done = answers.run("m", DEEPAAS_URL=address)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "DEEPAAS_URL" in done.stderr
    assert "s3cret" not in done.output
    if "://" in address:
        assert answers.run(f"{address}/m").exit_code == 2
        assert models_like(f"{address}/m") == []
    monkeypatch.setenv("DEEPAAS_URL", address)
    assert models_like("m") == []


def test_completion_is_silent_about_a_bad_token(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPAAS_URL", answers.url)
    monkeypatch.delenv("DEEPAAS_TOKEN", raising=False)
    assert models_like("") == ["m"]
    monkeypatch.setenv("DEEPAAS_TOKEN", "two words")
    assert models_like("") == []


def test_token_is_sent_through_a_proxy_and_netrc_is_not_read(
    answers: Answers, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine models.invalid login me password other\n")
    path = f"/v2/models/m/train/{UUID}"
    answers.sends(f"http://models.invalid{path}", {"uuid": UUID, "status": "done"})
    variables = {
        "NETRC": str(tmp_path / "netrc"),
        "DEEPAAS_TOKEN": "secret-token",
        "http_proxy": answers.url.replace("//", "//user:word@"),
        "no_proxy": None,
    }
    done = answers.run("http://models.invalid/m", "show", UUID, "--json", **variables)
    assert done.exit_code == 0, done.output
    ((line, headers),) = answers.seen
    assert line == f"http://models.invalid{path}"
    assert headers["Authorization"] == "Bearer secret-token"
    assert headers["Proxy-Authorization"] == "Basic dXNlcjp3b3Jk"


def test_proxy_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy:3128")
    monkeypatch.setenv("no_proxy", "a.example,b.example:81")
    assert (
        proxy_for("http://c.example/base") == proxy_for("http://b.example") == "http://proxy:3128"
    )
    for address in ("http://a.example:80", "http://b.example:81", "http://[::1]:1"):
        assert proxy_for(address) is None


# --- answers


def test_answers_of_any_form_give_no_traceback(answers: Answers) -> None:
    for deep in (b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900):
        answers.sends("/openapi.json", deep, 500)
        done = answers.run("m", "--json")
        assert done.exit_code in (1, 2), repr(done.exception)
        assert isinstance(done.exception, SystemExit)
    odd = {"uuid": UUID, "status": ["x"], "progress": float("nan"), "date": 1, "message": {}}
    answers.sends(f"/v2/models/m/train/{UUID}", odd)
    answers.sends("/v2/models/m/train/?limit=20", [odd, {**odd, "progress": 10**400}])
    answers.sends("/v2/models/m/jobs/?limit=20", [])
    files = [1, {}, {"path": 1}, {"path": "a", "size": None}]
    for listed in (files, 5, None):
        answers.sends(f"/v2/models/m/train/{UUID}/artifacts/", {"artifacts": listed})
        done = answers.run("m", "files", UUID)
        assert done.exit_code == 0, repr(done.exception)
        assert done.stdout.split() == (["None", "a"] if listed == files else [])
    done = answers.run("m", "list")
    assert done.exit_code == 0, repr(done.exception)
    assert done.stdout.count(UUID) == 2
    assert bar_of(odd, 10) == "['x']"
    answers.sends(f"/v2/models/m/train/{UUID}", {"uuid": "\ud800", "status": "running"})
    assert answers.run("m", "wait", UUID).exit_code == 3
    schema = {"properties": {"a": {"description": f"lone \ud800{ESCAPES}"}}}
    predict = {"requestBody": {"content": {"application/json": {"schema": schema}}}}
    paths = {"/v2/models/m/": {}, "/v2/models/m/predict/": {"post": predict}}
    answers.sends("/openapi.json", {"paths": paths})
    done = answers.run("m", "--help")
    assert done.exit_code == 0, repr(done.exception)
    assert "lone \\ud800\\u001b[2J" in done.stdout


def test_rows_and_errors_have_no_control_characters(answers: Answers) -> None:
    record = {"uuid": UUID, "status": "error", "message": f"one\n{UUID}  training{ESCAPES}"}
    answers.sends(f"/v2/models/m/train/{UUID}", record)
    answers.sends("/v2/models/m/train/?limit=20", [record])
    answers.sends("/v2/models/m/jobs/?limit=20", [])
    listed = {"artifacts": [{"path": f"x\ny{ESCAPES}", "size": 1}]}
    answers.sends(f"/v2/models/m/train/{UUID}/artifacts/", listed)
    for words, lines in ((["list"], 1), (["show", UUID], 3), (["files", UUID], 1)):
        done = answers.run("m", *words)
        assert done.exit_code == 0, done.output
        assert done.stdout.count("\n") == lines
        assert done.stdout.replace("\n", "").isprintable()
        assert "\\u001b[2J" in done.stdout
    done = answers.run("m", "wait", UUID)
    assert done.exit_code == 4
    assert done.stderr.replace("\n", "").isprintable()
    answers.sends("/openapi.json", {"message": ESCAPES, "code": "a"}, 500)
    done = answers.run("m")
    assert done.exit_code == 1
    assert done.stderr.replace("\n", "").isprintable()


def test_values_keep_control_characters_except_on_a_terminal(tmp_path: Path) -> None:
    for value, as_json in ((f"a\tb\n{ESCAPES}", False), ({"a": ESCAPES}, True)):
        with open(tmp_path / "file", "w+b") as file:
            Results(as_json=as_json, stream=file).value(value)
            file.seek(0)
            plain = file.read().decode()
        assert "\x9b" in plain
        reading, writing = pty.openpty()
        try:
            with os.fdopen(writing, "wb", buffering=0) as stream:
                Results(as_json=as_json, stream=stream).value(value)
                shown = os.read(reading, 65536).decode()
        finally:
            os.close(reading)
        assert "\\u001b[2J" in shown
        assert "\\u009b2J" in shown
        assert not set(shown) & {"\x1b", "\x07", "\x9b"}
        if as_json:
            assert json.loads(shown) == value


# --- the log


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_bar_of_a_training_is_shown_while_it_runs(
    capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    view = View(is_terminal=is_terminal)
    view.progress({"uuid": UUID, "progress": 0.5})
    capsys.readouterr()
    view.log(b"\r 1%")
    view.log(b"\r 2%")
    assert capsys.readouterr().err.endswith(" 1%\r")  # no bar of the program covers it
    view.log(b"\r 3%")
    view.log(b"\ndone\r")
    view.log(b"\nrest")
    shown = capsys.readouterr().err
    assert " 2%\r" in shown
    assert "done\r\n" in shown
    assert "rest" not in shown
    view.end()
    assert capsys.readouterr().err.endswith("rest\n")


def test_line_of_any_length_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    view = View(is_terminal=False)
    for _ in range(MAX_REST // 1024 + 1):
        view.log(b"." * 1024)
    assert len(capsys.readouterr().err) > MAX_REST
    view.log(b".")
    view.end()
    assert capsys.readouterr().err == ".\n"
