"""No log line shows secrets from request targets, whatever happens to the requests."""

from __future__ import annotations

import time
from urllib.parse import quote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.http.secrets import MASK, masked
from tests.conftest import Serve
from tests.serving.segments import Line, predict
from tests.support import HOST, Server, wait_until
from tests.zoo.guarded import ODD_NAMES

SECRET = "HIDDEN"
EVIL = {"Origin": "https://evil.test"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.guarded", "zoo.echo", "--client-max-size", "100", "--debug")


def logged(server: Server, method: str, target: str, host: str = HOST, **kwargs: str) -> str:
    """Send a request; return its log line, which must not contain the secret."""
    before = len(server.log())
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in kwargs.items()]
    lines += [] if kwargs else ["Content-Length: 0"]
    server.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    def line() -> str:
        new = server.log()[before:].splitlines()
        return next((line for line in new if " deepaas.access " in line), "")

    wait_until(line, within=10, what="the line")
    assert SECRET not in server.log()
    return line()


@pytest.mark.parametrize("path", ["/v2/models/guarded/predict/", "/nowhere"])
def test_secret_is_hidden_in_a_request_with_an_unusual_transfer_coding(
    server: Server, path: str
) -> None:
    target = f"{path}?token={SECRET}"
    line = logged(server, "POST", target, Transfer_Encoding="gzip, chunked")
    assert f'"POST {path}?token={MASK} HTTP/1.1" 400 ' in line


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/guarded/predict/", 200),
        ("POST", "/v2/models/guarded/train/", 200),
        ("GET", "/v2/models/guarded/train/", 200),
        ("GET", "/v2/models/guarded/jobs/", 200),
        ("GET", "/v2/models/guarded/train/0123456789abcdef0123456789abcdef", 404),
        ("GET", "/v2/models/guarded/train/0123456789abcdef0123456789abcdef/logs", 404),
        ("DELETE", "/v2/models/guarded/train/0123456789abcdef0123456789abcdef", 404),
        ("GET", "/v2/models/guarded/", 200),
        ("GET", "/v2/models/guarded/ready", 200),
        ("POST", "/v2/models/guarded/reload/", 402),
        ("GET", "/v2/models/guarded/predict/", 405),
        ("HEAD", "/v2/models/guarded/predict/", 405),
        ("OPTIONS", "/v2/models/guarded/predict/", 204),
        ("PUT", "/v2/models/guarded/predict/", 405),
        ("POST", "/v2/models/guardde/predict/", 404),
        ("POST", "/v2/models/guarded/predct/", 404),
        ("POST", "/v2/models/guarded/predict/more/", 404),
        ("POST", "/v2/models/%67uarded//predict", 200),
        ("POST", "/predict/", 404),
        ("GET", "/", 200),
        ("GET", "/v2/models/", 200),
        ("GET", "/api", 200),
        ("GET", "/ui", 302),
        ("GET", "/swagger.json", 200),
        ("GET", "/static/swagger/swagger-ui.css", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/debug/", 204),
        ("POST", f"http://{HOST}/v2/models/guarded/predict/", 200),
        ("POST", f"http://{HOST}/v2/models/guardde/predict/", 404),
    ],
)
@pytest.mark.parametrize("name", ["token", "passphrase", "api-key"])
def test_secret_is_hidden_on_every_path_and_method(
    server: Server, method: str, path: str, status: int, name: str
) -> None:
    line = logged(server, method, f"{path}?text=shown&{name}={SECRET}")
    assert f'"{method} {path}?text=shown&{name}={MASK} HTTP/1.1" {status} ' in line


@pytest.mark.parametrize(
    ("status", "host", "more", "headers"),
    [
        (403, HOST, "", EVIL),
        (421, "evil.test", "", {}),
        (421, "evil.test", "", EVIL),
        (413, HOST, "", {"Content_Length": "101"}),
        (400, HOST, "", {"X_Request_Timeout": "soon", "Content_Length": "0"}),
        (422, HOST, "&number=many", {}),
        (500, HOST, "&text=fail", {}),
    ],
)
def test_secret_in_a_request_that_fails_is_hidden(
    server: Server, status: int, host: str, more: str, headers: dict[str, str]
) -> None:
    path = "/v2/models/guarded/predict/"
    line = logged(server, "POST", f"{path}?token={SECRET}{more}", host, **headers)
    assert f'"POST {path}?token={MASK}{more} HTTP/1.1" {status} ' in line


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (f"token={SECRET}&token={SECRET}2", f"token={MASK}&token={MASK}"),
        (f"to%6ben={SECRET}", f"to%6ben={MASK}"),
        (f"%74%6F%6B%65%6E={SECRET}", f"%74%6F%6B%65%6E={MASK}"),
        (f"TOKEN={SECRET}", f"TOKEN={MASK}"),
        (f"+token={SECRET}", f"+token={MASK}"),
        (f"token%20={SECRET}", f"token%20={MASK}"),
        (f"api-key[]={SECRET}", f"api-key[]={MASK}"),
        (f"api-key%5B0%5D={SECRET}", f"api-key%5B0%5D={MASK}"),
        (f"token={SECRET};{SECRET}", f"token={MASK}"),
        (f"token={SECRET}?{SECRET}#{SECRET}={SECRET}", f"token={MASK}"),
        (f"text=a;token={SECRET}", f"text={MASK}"),
        (f"text=a;token={SECRET}&number=5", f"text={MASK}&number=5"),
        (f"text=a%3Btoken%3D{SECRET}", f"text={MASK}"),
        (f"text=a%26token={SECRET}", f"text={MASK}"),
        (f"token%3D{SECRET}", MASK),
        (f"text=http%3A//x/%3Fa%3Db%26token%3D{SECRET}", f"text={MASK}"),
        (f"text=http%253A//x/%253Ftoken%253D{SECRET}", f"text={MASK}"),
        (f"a;b?token={SECRET}", MASK),
        ("text=token&token&tokens=5", "text=token&token&tokens=5"),
    ],
)
def test_secret_is_hidden_however_it_is_written(server: Server, query: str, shown: str) -> None:
    line = logged(server, "POST", f"/v2/models/guarded/predict/?{query}")
    assert f'/v2/models/guarded/predict/?{shown} HTTP/1.1"' in line


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("path", ["/v2/models/guarded/predict/", "/nowhere"])
def test_secret_of_any_name_is_hidden(server: Server, path: str, name: str) -> None:
    line = logged(server, "POST", f"{path}?text=shown&{quote(name, safe='')}={SECRET}&number=5")
    assert f"{path}?text=shown&" in line
    assert f"{MASK}&number=5 " in line


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (f"/v2/models/guarded/predict/%3Ftoken={SECRET}", f"/v2/models/guarded/predict/{MASK}"),
        (
            f"/v2/models/guarded/predict/;token={SECRET}",
            f"/v2/models/guarded/predict/;token={MASK}",
        ),
        (f"/v2/models/guarded/predict&token={SECRET}", f"/v2/models/guarded/predict&token={MASK}"),
        (f"/v2/models/guarded/predict%26token%3d{SECRET}", f"/v2/models/guarded/predict{MASK}"),
        (f"http://user:{SECRET}@{HOST}/nowhere", f"http://{HOST}/nowhere"),
        ("/v2/models/nobody=5/%61?text=5", "/v2/models/nobody=5/%61?text=5"),
    ],
)
def test_secret_that_is_not_in_the_query_is_hidden(server: Server, target: str, shown: str) -> None:
    assert f'"POST {shown} HTTP/1.1" 404 ' in logged(server, "POST", target)


def test_long_target_with_a_secret_shows_no_value(server: Server) -> None:
    """Masking each of many values separately would block the server."""
    target = f"/v2/models/guarded/predict/?token={SECRET}"
    line = logged(server, "POST", target + "&a=5" * 10_000)
    assert f'/v2/models/guarded/predict/?{MASK} HTTP/1.1"' in line
    began = time.thread_time()
    for long in ("&a=5" * 16_000, "%41" * 21_000, "%2541" * 13_000, ";" * 64_000, "[" * 64_000):
        masked(target + long, SECRETS)
    assert time.thread_time() - began < 5 * 0.05


def test_known_model_hides_its_own_secrets_alone(server: Server) -> None:
    target = "/v2/models/echo/predict/?text=a&token=SHOWN"
    assert f'"POST {target} HTTP/1.1"' in logged(server, "POST", target)
    assert f"?text=a&token={MASK} " in logged(server, "POST", target.replace("echo", "ehco"))


def test_model_that_has_not_described_itself_hides_every_value(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "zoo.unloadable")
    for path in ("/v2/models/unloadable/predict/", "/v2/models/unloadble/predict/", "/nowhere"):
        line = logged(server, "POST", f"{path}?text={SECRET}")
        assert f'"POST {path}?{MASK} HTTP/1.1"' in line
        assert MASK in logged(server, "POST", f"{path}%3Ftext={SECRET}")
    line = logged(server, "POST", "/v2/models/echo/predict/?text=SHOWN")
    assert '/predict/?text=SHOWN HTTP/1.1" 200 ' in line


async def test_request_on_the_short_way_hides_its_secrets(server: Server) -> None:
    ask = predict("guarded", f"?token={SECRET}&text=short", b"{}")
    async with Line(server.port) as line:
        for _ in range(3):
            assert (await line.ask(ask)).predicted == {"length": len(SECRET)}
    shown = f'predict/?token={MASK}&text=short HTTP/1.1" 200 '
    wait_until(lambda: server.log().count(shown) == 3, within=5, what="three lines")
    assert SECRET not in server.log()


def test_malformed_request_is_not_quoted(server: Server) -> None:
    """This holds even with --debug."""
    before = len(server.log())
    for data in (
        f"get /?token={SECRET} HTTP/1.1\r\n\r\n",
        f"GET /?token={SECRET} HTTP/9.9\r\nHost: x\r\n\r\n",
        f"GET /?token={SECRET} x HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-Token {SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-Token: {SECRET}\x01\r\n\r\n",
    ):
        assert server.raw(data.encode()).status == 400
    malformed = " DEBUG deepaas.http A request from 127.0.0.1 is malformed: "
    wait_until(lambda: server.log()[before:].count(malformed) == 5, within=5, what="five lines")
    assert SECRET not in server.log()
    assert " ERROR " not in server.log()[before:]


def test_failure_of_the_server_hides_secrets(serve: Serve) -> None:
    """The server does not expect that its upload directory is removed."""
    server = serve({}, "zoo.guarded")
    directory = next((server.home / "tmp").glob("deepaas-*"))
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    target = f"/v2/models/guarded/predict/?token={SECRET}"
    answer = server.post(target, content=b" " * 500_000, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 500
    failed = f"Answering POST /v2/models/guarded/predict/?token={MASK} failed"
    wait_until(lambda: failed in server.log(), within=5, what="the failure")
    assert SECRET not in server.log()


# --- every way to write a secret

SECRETS = frozenset({"token", "api-key"})
TEXT = st.text(alphabet="abTOKENtoken-k=&;?#%+[]/. \u00e4", max_size=12)


def written(text: str, how: list[int]) -> str:
    """Return the text with some characters percent-encoded, once or twice."""
    encoded = ""
    for number, character in enumerate(text):
        times = how[number % len(how)] if how else 0
        for _ in range(times):
            character = quote(character, safe="") if len(character) == 1 else quote(character)
        encoded += character
    return encoded


@given(
    before=TEXT,
    separator=st.sampled_from("?&;#"),
    name=st.sampled_from(["token", "Token", "api-key", "token[]", " token"]),
    how=st.lists(st.integers(0, 2), max_size=8),
    value=TEXT,
)
def test_no_way_to_write_a_secret_shows_it(
    before: str, separator: str, name: str, how: list[int], value: str
) -> None:
    pair = written(f"{separator}{name}=", how)
    secret = f"{SECRET}{value}".replace("&", "")
    shown = masked(f"/v2/models/{before}{pair}{secret}".replace(" ", "+"), SECRETS)
    assert SECRET not in unquote_plus(unquote_plus(shown))


@given(st.text(max_size=40))
def test_without_a_description_no_value_is_shown(text: str) -> None:
    shown = masked(f"/path?{text}", None)
    assert shown == f"/path?{MASK}"


@given(path=st.text(alphabet="ab/.%=", max_size=20), query=st.text(alphabet="abc=&%+", max_size=20))
def test_target_without_secrets_is_shown_as_it_is(path: str, query: str) -> None:
    assert masked(f"/{path}?{query}", SECRETS) == f"/{path}?{query}"
