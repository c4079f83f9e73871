"""A middleware, an endpoint and a sign-in are one file each, and need no change of the server.

Each example is a file of this folder, installed as a package beside a real server, and stands on
its page word by word.
"""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import HOST, Server, install_models, predictions, run_program

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent.parent / "docs"
PAGES = {"timing": "plug-ins.md", "greeting": "plug-ins.md", "users": "sign-in.md"}

BROKEN = """
from deepaas.http.routing import Access, Route


async def handle(request):
    raise AssertionError


def returns_text(options):
    return "text"


def fails(options):
    raise RuntimeError("it went wrong")


def without_access(options):
    return [Route("GET", "/x", handle, "read", lambda _: None)]


def takes_a_path_of_a_model(options):
    return [Route("GET", "/v2/models/echo/train/{id}", handle, Access.READ, lambda _: None)]


class NotAsync:
    def __call__(self, request, route, next):
        return next(request)


class Slow:
    async def __call__(self, request, route, next):
        return await next(request)
"""

ENTRY_POINTS = """
[deepaas.middleware]
timing = timing:make
text = broken:returns_text
fails = broken:fails
plain = broken:NotAsync
slow = broken:slow

[deepaas.routes]
greeting = greeting:make
text = broken:returns_text
fails = broken:fails
open = broken:without_access
taken = broken:takes_a_path_of_a_model
absent = broken:absent

[deepaas.auth]
users = users:make
"""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """The environment of a server beside which the examples are installed."""
    site = install_models(tmp_path_factory.mktemp("site"), {})
    for name in PAGES:
        (site / f"{name}.py").write_text((HERE / f"{name}.py").read_text())
    (site / "broken.py").write_text(BROKEN + "\n\ndef slow(options):\n    return Slow()\n")
    info = site / "examples-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return {"PYTHONPATH": str(site)}


@pytest.fixture(scope="module")
def server(serve_all: Serve, env: dict[str, str | None]) -> Server:
    chosen = ("--middleware", "timing", "--routes", "greeting", "--base-path", "/base")
    return serve_all({}, *chosen, "zoo.echo", env=env)


@pytest.mark.parametrize("name", PAGES)
def test_example_stands_on_its_page(name: str) -> None:
    examples = re.findall(r"```python\n(.*?)```", (DOCS / PAGES[name]).read_text(), re.DOTALL)
    assert (HERE / f"{name}.py").read_text() in examples


def test_middleware_takes_part_in_every_response(server: Server) -> None:
    for path in ("/base/", "/base/v2/models/", "/base/greetings/you", "/base/nowhere", "/base/api"):
        assert float(server.get(path).headers["X-Seconds"]) >= 0


def test_middleware_takes_part_in_the_fast_path(server: Server) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    for _ in range(3):
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/base/v2/models/echo/predict/", b"{}", headers)
        answer = connection.getresponse()
        assert json.loads(answer.read())["status"] == "OK"
        assert float(answer.getheader("X-Seconds", "")) >= 0
    connection.close()
    assert "The fast path is on" in server.log()


def test_endpoint_is_served(server: Server) -> None:
    answer = server.get("/base/greetings/you/")
    assert answer.json() == {"greeting": "Hello you", "client": None}
    assert answer.headers["X-Request-ID"]
    options = server.request("OPTIONS", "/base/greetings/you")
    assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert server.post("/base/greetings/you").status_code == 405


def test_endpoint_is_described(server: Server) -> None:
    paths = server.get("/base/swagger.json").json()["paths"]
    assert paths["/base/greetings/{name}"]["get"]["summary"] == "Greet somebody"


def test_plugin_that_is_not_chosen_has_no_effect(serve: Serve, env: dict[str, str | None]) -> None:
    server = serve({}, "zoo.echo", env=env)
    answer = server.get("/greetings/you")
    assert answer.status_code == 404
    assert "X-Seconds" not in answer.headers


def test_endpoint_needs_the_access_that_it_declares(
    serve: Serve, env: dict[str, str | None]
) -> None:
    """The sign-in is the example, too."""
    flags = ("--auth", "users", "--routes", "greeting", "--middleware", "timing")
    server = serve({}, *flags, "zoo.echo", env=env)
    refused = server.get("/greetings/you")
    assert (refused.status_code, refused.json()["code"]) == (401, "not_signed_in")
    assert "X-Seconds" not in refused.headers  # the sign-in is outside
    alice = {"X-User": "alice"}
    answer = server.get("/greetings/you", headers=alice)
    assert answer.json() == {"greeting": "Hello you", "client": "alice"}
    assert answer.headers["X-Seconds"]
    assert predictions(server.predict("echo", headers=alice, json={})) == {}
    assert server.post("/v2/models/echo/train/", headers=alice).status_code == 403


def test_middleware_without_hooks_turns_the_fast_path_off(
    serve: Serve, env: dict[str, str | None]
) -> None:
    server = serve({}, "--middleware", "slow", "zoo.echo", env=env)
    assert server.predict("echo", json={}).status_code == 200
    log = server.log()
    assert "The fast path is off, because a middleware does not support it" in log
    assert "The fast path is on" not in log


REFUSED: dict[str, tuple[list[str], str]] = {
    "unknown middleware": (["--middleware", "timng"], "there is no plug-in of this name; did you"),
    "unknown routes": (["--routes", "nothing-like-it"], "installed: absent, fails, greeting, open"),
    "not loadable": (["--routes", "absent"], "cannot be loaded: AttributeError"),
    "no middleware": (["--middleware", "text"], "must return a middleware"),
    "not async": (["--middleware", "plain"], "--middleware plain: "),
    "no routes": (["--routes", "text"], "must return a list of deepaas.http.routing.Route"),
    "no access": (["--routes", "open"], "must return a list of deepaas.http.routing.Route"),
    "failure": (["--routes", "fails"], "the plug-in failed: RuntimeError: it went wrong"),
    "taken": (
        ["--routes", "taken"],
        "GET /v2/models/echo/train/{id} of a plug-in is already taken",
    ),
    "twice": (
        ["--routes", "greeting", "--routes", "greeting"],
        "/greetings/{name} of a plug-in is",
    ),
}


@pytest.mark.parametrize(("flags", "said"), REFUSED.values(), ids=REFUSED)
def test_unusable_plugin_is_refused(
    tmp_path: Path, env: dict[str, str | None], flags: list[str], said: str
) -> None:
    ended = run_program(tmp_path, ["--listen-port", "0", *flags, "zoo.echo"], env=env)
    assert ended.code == 1
    assert said in ended.stderr.replace("\n", " ")
    assert "Traceback" not in ended.output
