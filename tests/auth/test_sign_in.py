"""The sign-in of a real server: start, tokens that change, what is shown, logged and recorded."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.auth.token_files import UNKNOWN, TokenFile
from tests.conftest import Serve
from tests.serving.callers import Caller
from tests.support import (
    HOST,
    Server,
    install_models,
    predictions,
    run_program,
    wait_until,
)
from tests.training.trainings import END_SECONDS

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "sign-in.md"
ORIGIN = "https://page.example"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    return TokenFile(tmp_path_factory.mktemp("tokens") / "tokens")


@pytest.fixture(scope="module")
def alice(file: TokenFile) -> dict[str, str]:
    """A client that may do everything."""
    return file.add("alice", "admin")


@pytest.fixture(scope="module")
def limited(file: TokenFile) -> dict[str, str]:
    return file.add("limited", "train,predict", models=["trains"])


@pytest.fixture(scope="module")
def server(
    serve_all: Serve, file: TokenFile, alice: dict[str, str], limited: dict[str, str]
) -> Server:
    models = ("zoo.echo", "zoo.trains", "zoo.authorization", "zoo.rich")
    return serve_all(
        {}, *file.flags, "--admin-endpoint", "--debug", "--allow-origins", ORIGIN, *models
    )


# --- tokens that change


class Session:
    """A connection on which every prediction has the same head, so that it takes the fast path."""

    def __init__(self, server: Server, headers: dict[str, str]) -> None:
        self._caller = Caller(server)
        self._headers = {"Content-Type": "application/json", **headers}

    def predict(self) -> tuple[int, Any]:
        """Send a prediction in one piece, and return the status and the code of an error."""
        path = "/v2/models/echo/predict/"
        self._caller.request("POST", path, headers=self._headers, body=b'{"number": 5}')
        answer = self._caller.answer()
        return answer.status, json.loads(answer.body).get("code")

    def close(self) -> None:
        self._caller.leave()


@pytest.fixture
def sessions() -> Iterator[list[Session]]:
    opened: list[Session] = []
    yield opened
    for session in opened:
        session.close()


def test_token_is_accepted_and_revoked_while_the_server_runs(
    server: Server, file: TokenFile, sessions: list[Session]
) -> None:
    """The same connection sends requests with the same head all the time."""
    session = Session(server, file.add("new"))
    sessions.append(session)
    wait_until(lambda: session.predict() == (200, None), within=20, what="the new token")
    for _ in range(3):
        assert session.predict() == (200, None)
    file.remove("new")
    wait_until(lambda: session.predict() == (401, "bad_token"), within=20, what="its end")
    assert session.predict() == (401, "bad_token")


def test_token_expires_while_its_client_sends_requests(
    server: Server, file: TokenFile, sessions: list[Session]
) -> None:
    expires = int(time.time() + 10)  # the file has whole seconds
    session = Session(server, file.add("short", seconds=10))
    sessions.append(session)
    wait_until(lambda: session.predict() != (401, "bad_token"), within=20, what="the new token")
    wait_until(lambda: session.predict() == (401, "token_expired"), within=20, what="its end")
    assert time.time() >= expires
    assert session.predict() == (401, "token_expired")
    file.remove("short")


def test_malformed_file_is_logged_and_changes_nothing(
    server: Server, file: TokenFile, alice: dict[str, str]
) -> None:
    before = file.path.read_text()
    said = f"The tokens stay as they were: --token-file {file.path}: line 2: "
    file.write("# a comment\nalice my-secret scopes=all\n")
    try:
        wait_until(
            lambda: server.get("/v2/models/", headers=alice) and said in server.log(),
            within=20,
            what="the line in the log",
        )
        assert server.get("/v2/models/", headers=alice).status_code == 200
        assert "my-secret" not in server.log()
    finally:
        file.write(before)


# --- refusals


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [("", 401, "not_signed_in"), ("limited", 403, "not_allowed"), ("alice", 400, "bad_request")],
)
def test_unusual_transfer_coding_is_refused_after_the_sign_in(
    request: pytest.FixtureRequest, server: Server, headers: str, status: int, code: str
) -> None:
    """Whatever the response is, the connection ends: what follows may be part of the body."""
    given = request.getfixturevalue(headers) if headers else {}
    lines = [f"{name}: {value}" for name, value in given.items()]
    coding = "Transfer-Encoding: gzip, chunked"
    head = ["POST /v2/models/echo/predict/ HTTP/1.1", f"Host: {HOST}", coding, *lines, "", ""]
    smuggled = f"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(("\r\n".join(head) + smuggled).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert f'"code":"{code}"'.encode() in answer
    assert "smuggled" not in server.log()


def test_refusal_can_be_read_by_an_allowed_page(server: Server) -> None:
    answer = server.get("/v2/models/", headers={"Origin": ORIGIN})
    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "WWW-Authenticate" in answer.headers["Access-Control-Expose-Headers"]
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = server.request("OPTIONS", "/v2/models/echo/predict/", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization"


def test_refusal_says_what_is_missing(server: Server, limited: dict[str, str]) -> None:
    signed_out = server.get("/v2/models/")
    assert signed_out.headers["WWW-Authenticate"] == 'Bearer realm="deepaas"'
    wrong = server.get("/v2/models/", headers={"Authorization": f"Bearer {UNKNOWN}"})
    assert wrong.headers["WWW-Authenticate"] == 'Bearer realm="deepaas", error="invalid_token"'
    refused = server.post("/v2/models/trains/reload", headers=limited)
    assert refused.status_code == 403
    assert refused.json()["message"].startswith("This needs the scope admin for model trains")
    challenge = 'Bearer realm="deepaas", error="insufficient_scope", scope="admin"'
    assert refused.headers["WWW-Authenticate"] == challenge


def test_large_body_is_refused_before_it_is_sent(server: Server) -> None:
    answer = server.raw(
        b"POST /v2/models/echo/predict/ HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n{"
    )
    assert answer.status == 401


# --- what is shown


def test_client_sees_only_its_models(
    server: Server, alice: dict[str, str], limited: dict[str, str]
) -> None:
    everything = {"echo", "trains", "authorization", "rich"}
    for headers, names in (alice, everything), (limited, {"trains"}):
        listed = server.get("/v2/models/", headers=headers).json()["models"]
        linked = {one["links"][0]["href"].rpartition("/")[2] for one in listed}
        assert linked == names
        assert set(server.get("/v2/health/ready", headers=headers).json()["models"]) == names
        for path in ("/swagger.json", "/openapi.json"):
            paths = server.get(path, headers=headers).json()["paths"]
            described = {path.split("/")[3] for path in paths if path.startswith("/v2/models/")}
            assert described - {""} == names
        title = server.get("/api", headers=headers).text.partition("<title>")[2]
        assert {name for name in everything if name in title.partition("<")[0]} == names


def test_client_that_has_not_signed_in_sees_no_model(server: Server) -> None:
    ready = server.get("/v2/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "models": {}})
    described = ("/swagger.json", "/openapi.json")
    for path in ("/", "/v2/", *described, "/api", "/v2/health/ready", "/v2/health/live"):
        answer = server.get(path)
        assert answer.status_code == 200
        for name in ("echo", "trains", "authorization/", "rich"):
            assert name not in answer.text


def test_description_has_the_sign_in(server: Server, alice: dict[str, str]) -> None:
    described = server.get("/swagger.json", headers=alice).json()
    (scheme,) = described["securityDefinitions"].values()
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "Authorization")
    assert_sign_in_is_described(described)


def test_openapi_has_the_sign_in(server: Server, alice: dict[str, str]) -> None:
    described = server.get("/openapi.json", headers=alice).json()
    (scheme,) = described["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert_sign_in_is_described(described)


def assert_sign_in_is_described(described: dict[str, Any]) -> None:
    for path, operations in described["paths"].items():
        is_public = not path.startswith(("/v2/", "/metrics")) or path == "/v2/"
        is_public |= path.startswith("/v2/health/")
        for operation in operations.values():
            assert ("security" in operation) != is_public, path
            assert ("401" in operation["responses"]) != is_public, path


def test_description_without_a_sign_in_has_none(serve: Serve) -> None:
    server = serve({}, "zoo.echo")
    for path in ("/swagger.json", "/openapi.json"):
        described = server.get(path).text
        assert "security" not in described
        assert '"401"' not in described


# --- who has done what


def has_ended(server: Server, url: str, headers: dict[str, str]) -> bool:
    return bool(server.get(url, headers=headers).json()["status"] == "done")


def test_records_and_the_log_have_the_name_of_the_client(
    server: Server, alice: dict[str, str], limited: dict[str, str]
) -> None:
    for path, headers, name in (
        ("/v2/models/trains/train/", limited, "limited"),
        ("/v2/models/trains/predict/", {**alice, "Prefer": "respond-async"}, "alice"),
    ):
        record = server.post(path, headers=headers).json()
        assert record["principal"] == name
        uuid, url = record["uuid"], record["links"][0]["href"]
        wait_until(
            partial(has_ended, server, url, alice),
            within=END_SECONDS,
            what="the end",
        )
        assert server.get(url, headers=alice).json()["principal"] == name
        listed = server.get(url.rpartition("/")[0], headers=alice).json()
        assert {one["uuid"]: one["principal"] for one in listed}[uuid] == name
        assert server.request("DELETE", url, headers=alice).status_code == 200
        kind = "train" if name == "limited" else "predict"
        assert f"{name} asks for: {kind} of model trains ({uuid})" in server.log()
        assert f"alice asks for: remove {kind} of model trains ({uuid})" in server.log()
    assert server.post("/v2/models/echo/reload", headers=alice).status_code == 200
    assert "alice asks for: reload of model echo" in server.log()


def test_record_without_a_sign_in_has_no_name(serve: Serve) -> None:
    server = serve({}, "zoo.trains")
    record = server.post("/v2/models/trains/train/").json()
    assert record["principal"] is None
    assert "asks for" not in server.log()


def test_header_reaches_a_model_that_declares_it(
    server: Server, alice: dict[str, str], serve: Serve
) -> None:
    for _ in range(2):
        answer = server.predict("authorization", headers=alice, json={})
        assert predictions(answer) == alice["Authorization"]
    own = {"Authorization": "Basic bW9kZWw6bW9kZWw="}
    without = serve({}, "zoo.authorization")
    assert predictions(without.predict("authorization", headers=own)) == own["Authorization"]


def test_tokens_are_never_logged(server: Server, alice: dict[str, str]) -> None:
    """The server logs at level DEBUG."""
    value = alice["Authorization"]
    token = value.removeprefix("Bearer ")
    head = "POST /v2/models/echo/predict/ HTTP/1.1\r\nHost: localhost\r\n"
    for line in (
        f"Authorization: {value}\r\nAuthorization: {value}\r\n",
        f"Authorization: {value}\x00\r\n",
        f"Authorization : {value}\r\n",
        f"Authorization: {value}\r\n {value}\r\n",
        f"Authorization: Basic {token}\r\n",
        f"Authorization: {value}\r\nContent-Length: x\r\n",
        f"{value}\r\n",
    ):
        answer = server.raw(f"{head}{line}Connection: close\r\n\r\n".encode("latin-1"))
        assert 400 <= answer.status < 500
        assert token.encode() not in answer.body
    server.predict("rich", headers=alice)
    server.post("/v2/models/trains/train/", json={"do": "raise"}, headers=alice)
    assert token not in server.log()


# --- start


STARTS: dict[str, tuple[list[str], dict[str, str | None], str]] = {
    "unknown plug-in": (
        ["--auth", "tokes"],
        {},
        "--auth tokes: there is no plug-in of this name; did you mean tokens?",
    ),
    "no token": (["--auth", "tokens"], {}, "--auth tokens: no token is given; make one with: "),
    "no file": (
        ["--auth", "tokens", "--token-file", "absent"],
        {},
        "absent: it cannot be read: No such file or directory",
    ),
    "file, but no sign-in": (["--token-file", "absent"], {}, "add --auth tokens"),
    "variable, but no sign-in": ([], {"DEEPAAS_TOKENS": "x"}, "add --auth tokens"),
    "malformed variable": (
        ["--auth", "tokens"],
        {"DEEPAAS_TOKENS": "x"},
        "DEEPAAS_TOKENS, line 1: the second word must be sha256:",
    ),
}


@pytest.mark.parametrize(("flags", "env", "said"), STARTS.values(), ids=STARTS)
def test_start_without_usable_tokens_is_a_clear_error(
    tmp_path: Path, flags: list[str], env: dict[str, str | None], said: str
) -> None:
    ended = run_program(tmp_path, ["--listen-port", "0", *flags, "zoo.echo"], env=env)
    assert ended.code == 1
    assert "deepaas-run: error: " in ended.stderr
    assert said in ended.stderr.replace("\n", " ")
    assert "Traceback" not in ended.output


def test_tokens_can_come_from_the_environment_alone(serve: Serve, tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens")
    alice = file.add("alice", "read")
    env = {"DEEPAAS_AUTH": "tokens", "DEEPAAS_TOKENS": file.path.read_text()}
    server = serve({}, "zoo.echo", env=env)
    assert server.get("/v2/models/", headers=alice).status_code == 200
    assert server.get("/v2/models/").status_code == 401


# --- other plug-ins


PLUGIN = """
from deepaas.auth import Principal
from deepaas.http.routing import Access


class Hosts:
    challenge = "Basic"

    async def authenticate(self, headers):
        if headers.get("X-User") == "broken":
            raise RuntimeError("my-secret is not reachable")
        if "X-User" in headers:
            return Principal(headers["X-User"], frozenset({Access.ADMIN}))


def make(options):
    return Hosts()


def fail(options):
    raise RuntimeError("no")
"""


@pytest.fixture
def plugins(tmp_path: Path) -> dict[str, str | None]:
    """The environment of a server beside which a package with plug-ins is installed."""
    site = install_models(tmp_path / "site", {})
    (site / "user_plugin.py").write_text(PLUGIN)
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (site / "my_package.py").write_text(example)
    info = site / "user_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: user-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[deepaas.auth]\nusers = user_plugin:make\nabsent = user_plugin:absent\n"
        "documented = my_package:make\n"
    )
    return {"PYTHONPATH": str(site)}


def test_package_can_add_a_plugin(serve: Serve, plugins: dict[str, str | None]) -> None:
    server = serve({}, "--auth", "users", "--admin-endpoint", "zoo.echo", env=plugins)
    refused = server.predict("echo")
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Basic")
    bob = {"X-User": "bob"}
    for _ in range(3):
        assert predictions(server.predict("echo", headers=bob, json={})) == {}
    server.post("/v2/models/echo/reload", headers=bob)
    assert "bob asks for: reload of model echo" in server.log()


def test_plugin_of_the_page_works(serve: Serve, plugins: dict[str, str | None]) -> None:
    server = serve({}, "--auth", "documented", "zoo.echo", env=plugins)
    alice = {"X-User": "alice"}
    assert server.predict("echo", headers={"X-User": "bob"}).status_code == 401
    assert predictions(server.predict("echo", headers=alice, json={})) == {}
    assert server.post("/v2/models/echo/train/", headers=alice).status_code == 403


def test_request_that_a_plugin_fails_for_is_not_answered(
    serve: Serve, plugins: dict[str, str | None]
) -> None:
    server = serve({}, "--auth", "users", "zoo.echo", env=plugins)
    failed = server.predict("echo", headers={"X-User": "broken"})
    assert (failed.status_code, failed.json()["code"]) == (500, "internal_error")
    assert "my-secret" not in failed.text


def test_plugin_that_cannot_be_loaded_is_a_clear_error(
    tmp_path: Path, plugins: dict[str, str | None]
) -> None:
    args = ["--listen-port", "0", "--auth", "absent", "zoo.echo"]
    ended = run_program(tmp_path / "home", args, env=plugins)
    assert ended.code == 1
    assert "--auth absent: the plug-in cannot be loaded: AttributeError" in ended.stderr
