"""The server refuses requests that a browser sends for another site or under a foreign name.

test_cross_site_browser.py tests what a real browser sends, and test_proxies.py tests requests that
pass through proxies.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from deepaas.exceptions import ConfigurationError
from deepaas.http.cross_site import SiteRules, is_loopback
from tests.conftest import Serve
from tests.serving.segments import Ask, Line, padded, predict
from tests.support import RawAnswer, Server, leased_port, program, wait_until

ALLOWED = "https://a.example:8443"
EVIL = {"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}
UNSAFE = ["POST", "PUT", "PATCH", "DELETE"]
PATHS = [
    "/",
    "/api",
    "/ui",
    "/swagger.json",
    "/static/swagger/swagger-ui.css",
    "/v2",
    "/v2/debug/",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/",
    "/v2/models/echo/",
    "/v2/models/echo/ready",
    "/v2/models/echo/predict/",
    "/v2/models/echo/predict/?text=a",
    "//v2//models/%65cho/predict",
    "/v2/models/echo/reload/",
    "/v2/models/echo/train/",
    "/v2/models/echo/train/0123456789abcdef0123456789abcdef",
    "/v2/models/echo/train/0123456789abcdef0123456789abcdef/logs/",
    "/v2/models/echo/train/0123456789abcdef0123456789abcdef/artifacts/a/b",
    "/v2/models/echo/jobs/",
    "/v2/models/echo/jobs/0123456789abcdef0123456789abcdef/result",
    "/v2/models/nobody/predict/",
    "/nowhere",
]


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.echo", "zoo.trains", "--admin-endpoint")


@pytest.fixture(scope="module")
def friendly(serve_all: Serve) -> Server:
    """Start a server that allows two other origins, and two host names."""
    return serve_all(
        {},
        "zoo.echo",
        *("--allow-origins", "HTTPS://A.example:8443/", "--allow-origins", "http://b.example:80"),
        *("--allow-hosts", "Public.example", "--allow-hosts", "other.example:8080"),
    )


def code(answer: RawAnswer) -> str:
    return str(json.loads(answer.body)["code"])


def ask(server: Server, method: str = "POST", host: str | None = None, **headers: str) -> int:
    """Return the status of a request for the path of predictions, with these headers."""
    lines = [f"{method} /v2/models/echo/predict/?text=a HTTP/1.1", "Connection: close"]
    lines.append(f"Host: {f'127.0.0.1:{server.port}' if host is None else host}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += ["Content-Length: 0"] if method not in ("GET", "HEAD") else []
    return server.raw("\r\n".join(lines).encode() + b"\r\n\r\n").status


# --- pages of other sites


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize("path", PATHS)
def test_no_path_and_no_method_takes_what_is_sent_for_another_site(
    server: Server, method: str, path: str
) -> None:
    answer = server.raw_request(method, path, headers=EVIL, body=b"{}")
    assert (answer.status, code(answer)) == (403, "cross_site")
    assert "--allow-origins" in answer.body.decode()
    assert "https://evil.test" in answer.body.decode()


def test_training_that_another_site_asks_for_does_not_begin(server: Server) -> None:
    path = "/v2/models/trains/train/"
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = server.post(path, headers={**EVIL, "Content-Type": media})
        assert answer.status_code == 403
    assert server.get(path).json() == []


def test_training_is_not_deleted_for_another_site(server: Server) -> None:
    path = "/v2/models/trains/train/"
    uuid = server.post(path).json()["uuid"]
    assert server.request("DELETE", f"{path}{uuid}", headers=EVIL).status_code == 403
    wait_until(
        lambda: server.get(f"{path}{uuid}").json()["status"] == "done", within=30, what="its end"
    )
    assert server.request("DELETE", f"{path}{uuid}").status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_method_that_changes_nothing_is_answered_to_any_site(server: Server, method: str) -> None:
    assert server.request(method, "/v2/models/", headers=EVIL).status_code in (200, 204)


@pytest.mark.parametrize(
    ("site", "origin", "status"),
    [
        ("same-origin", None, 200),
        ("same-origin", "https://public.example", 200),
        ("none", None, 200),
        ("same-site", None, 403),
        ("cross-site", None, 403),
        ("same-site", "http://{own}", 403),
        ("cross-site", "http://{own}", 403),
        ("cross-site", "null", 403),
        ("a-value-of-the-future", None, 403),
        ("Same-Origin", None, 403),
        ("same-origin, cross-site", None, 403),
    ],
)
def test_sec_fetch_site_decides(server: Server, site: str, origin: str | None, status: int) -> None:
    headers = {"Sec_Fetch_Site": site}
    if origin is not None:
        headers["Origin"] = origin.format(own=f"127.0.0.1:{server.port}")
    assert ask(server, **headers) == status


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site"])
def test_header_that_comes_twice_is_not_believed(server: Server, name: str) -> None:
    own = {"Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": "same-origin"}[name]
    other = {"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}[name]
    for values in ((own, other), (other, own)):
        head = "".join(f"{name}: {value}\r\n" for value in values)
        answer = server.raw(
            f"POST /v2/models/echo/predict/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            f"Content-Length: 0\r\n{head}\r\n".encode()
        )
        assert answer.status in (400, 403)


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://localhost:5000", "localhost:5000", 200),
        ("https://localhost:5000", "localhost:5000", 200),
        ("HTTP://LocalHost:5000", "localhost.:5000", 200),
        ("http://localhost", "localhost", 200),
        ("https://localhost", "localhost", 200),
        ("https://localhost", "localhost:443", 200),
        ("http://localhost:80", "localhost", 200),
        ("http://[::1]:5000", "[::1]:5000", 200),
        ("http://localhost:5001", "localhost:5000", 403),
        ("http://localhost", "localhost:5000", 403),
        ("http://localhost:5000", "localhost", 403),
        ("https://localhost", "localhost:80", 403),
        ("http://127.0.0.1:5000", "localhost:5000", 403),
        ("http://evil.test", "localhost", 403),
        ("http://localhost.evil.test", "localhost", 403),
        ("http://localhost@evil.test", "localhost", 403),
        ("http://evil.test/localhost", "localhost", 403),
        ("chrome-extension://localhost", "localhost:5000", 403),
        ("null", "localhost", 403),
        ("localhost", "localhost", 403),
        ("://localhost", "localhost", 403),
        ("http://", "localhost", 403),
        ("http://localhost", "", 403),
    ],
)
def test_origin_is_compared_with_host_if_that_is_all_there_is(
    server: Server, origin: str, host: str, status: int
) -> None:
    assert ask(server, host=host, Origin=origin) == status


def test_client_that_is_no_browser_notices_nothing(server: Server) -> None:
    url = f"{server.url}/v2/models/echo/predict/?text=a"
    assert httpx.post(url, trust_env=False).status_code == 200
    curl = ["curl", "-s", "--noproxy", "*", "-w", "%{http_code}", "-o", "/dev/null"]
    for options in (["-d", "text=a"], ["-F", "text=a"], ["-X", "POST"]):
        ran = subprocess.run([*curl, *options, url], capture_output=True, check=True, text=True)
        assert ran.stdout == "200"


@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (ALLOWED, 200),
        ("http://b.example", 200),
        ("https://a.example", 403),
        ("http://a.example:8443", 403),
        ("https://sub.a.example:8443", 403),
        ("https://a.example:84430", 403),
        ("null", 403),
        (f"{ALLOWED}, https://evil.test", 403),
    ],
)
def test_allowed_origin_is_that_origin_alone(
    friendly: Server, origin: str, site: str | None, status: int
) -> None:
    headers = {} if site is None else {"Sec_Fetch_Site": site}
    assert ask(friendly, Origin=origin, **headers) == status


def test_allowed_origin_needs_the_header_that_says_so(friendly: Server) -> None:
    assert ask(friendly, Sec_Fetch_Site="cross-site") == 403


def test_refusal_does_not_wait_for_the_body(server: Server) -> None:
    head = f"POST /v2/models/echo/predict/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    head += "Origin: https://evil.test\r\n"
    for body in (
        "Content-Length: 100000000",
        "Content-Length: 100000000\r\nExpect: 100-continue",
        "Transfer-Encoding: chunked",
    ):
        assert server.raw(f"{head}{body}\r\n\r\n".encode()).status == 403


# --- names of the server


def foreign(server: Server, host: str, method: str = "GET") -> bool:
    """Return whether the server refuses a request under this name; check its other responses."""
    answer = server.raw(
        f"{method} /v2/models/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        "Content-Length: 0\r\n\r\n".encode()
    )
    if answer.status == 421:
        assert code(answer) == "foreign_host"
        assert "--allow-hosts" in answer.body.decode()
    else:
        assert answer.status in (200, 204, 405)
    return answer.status == 421


OWN_NAMES = [
    "127.0.0.1:5000",
    "127.0.0.1",
    "127.1",
    "127.255.0.9:1",
    "localhost",
    "LocalHost:8888",
    "localhost.",
    "a.b.localhost:5000",
    "[::1]:5000",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "localhost:",
    "",
]
FOREIGN_NAMES = [
    "evil.test",
    "evil.test:5000",
    "localhost.evil.test",
    "evil-localhost",
    "127.0.0.1.evil.test",
    "127.0.0.1@evil.test",
    "evil.test@127.0.0.1",
    "evil.test#127.0.0.1",
    "127.0.0.1, evil.test",
    "0.0.0.0",
    "[::]",
    "192.0.2.1",
    "[::2]",
    "[::1",
    "localhost:http",
    "*",
]


@pytest.mark.parametrize("name", OWN_NAMES)
def test_name_of_this_machine_is_its_own(server: Server, name: str) -> None:
    assert not foreign(server, name)


@pytest.mark.parametrize("name", FOREIGN_NAMES)
def test_other_name_is_foreign_on_a_loopback_address(server: Server, name: str) -> None:
    assert foreign(server, name)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", *UNSAFE])
def test_foreign_name_is_refused_for_every_method(server: Server, method: str) -> None:
    answer = server.raw_request(method, "/v2/models/trains/train/")
    assert answer.status != 421
    head = f"{method} /v2/models/trains/train/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    assert server.raw(head.encode()).status == 421


@pytest.mark.parametrize(
    ("name", "is_foreign"),
    [
        ("public.example", False),
        ("PUBLIC.example:8443", False),
        ("other.example:8080", False),
        ("other.example", True),
        ("other.example:80", True),
        ("sub.public.example", True),
        ("localhost:1", False),
        ("127.0.0.1", False),
    ],
)
def test_allowed_host_is_that_host_alone(friendly: Server, name: str, is_foreign: bool) -> None:
    assert foreign(friendly, name) is is_foreign


def test_request_without_a_host_is_answered(server: Server) -> None:
    """HTTP/1.0 has no Host header. Browsers always send one, so no page can cause this request."""
    assert server.raw(b"GET /v2/models/ HTTP/1.0\r\n\r\n").status == 200
    sent_for_a_page = b"POST /v2/models/echo/predict/ HTTP/1.0\r\nOrigin: http://localhost\r\n\r\n"
    assert server.raw(sent_for_a_page).status == 403


@pytest.mark.parametrize(
    ("target", "host", "is_foreign"),
    [
        ("http://localhost/v2/models/", "localhost", False),
        ("http://localhost/v2/models/", "evil.test", False),
        ("http://127.0.0.1:5000/v2/models/", "", False),
        ("http://evil.test/v2/models/", "localhost", True),
        ("http://evil.test:80/v2/models/", "evil.test", True),
        ("http://localhost@evil.test/v2/models/", "localhost", True),
        ("http://localhost:x@evil.test/v2/models/", "localhost", True),
    ],
)
def test_host_in_the_target_counts_more_than_the_header(
    server: Server, target: str, host: str, is_foreign: bool
) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    assert server.raw(head.encode()).status == (421 if is_foreign else 200)


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-Host"])
def test_header_of_a_proxy_is_not_believed(server: Server, name: str) -> None:
    """Any client can send this header."""
    value = "host=localhost" if name == "Forwarded" else "localhost"
    head = f"GET /v2/models/ HTTP/1.1\r\nHost: evil.test\r\n{name}: {value}\r\n\r\n"
    assert server.raw(head.encode()).status == 421
    value = value.replace("localhost", "evil.test")
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\nContent-Length: 0\r\n"
    assert server.raw(f"{head}Origin: http://evil.test\r\n\r\n".encode()).status == 403


def test_star_allows_every_host(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "--allow-hosts", "*")
    assert not foreign(server, "evil.test")
    assert ask(server, host="evil.test", Origin="http://other.test") == 403


def test_address_that_it_listens_on_is_its_own() -> None:
    with leased_port() as port:
        args = ["--listen-ip", "127.0.0.2", "--listen-port", str(port), "zoo.echo"]
        server = Server(args=args, listen=False, port=port).start(wait=False)
        try:
            wait_until(lambda: "Listening on" in server.log(), within=20, what="the start")
            url = f"http://127.0.0.2:{port}/v2/models/"
            assert httpx.get(url, trust_env=False).status_code == 200
            headers = {"Host": "evil.test"}
            assert httpx.get(url, headers=headers, trust_env=False).status_code == 421
            server.stop()
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("allowed", "listen", "bound", "own", "other"),
    [
        ([], "localhost", "127.0.0.1", ["localhost"], ["evil.test"]),
        ([], "Box.lan", "127.0.1.1", ["box.lan", "localhost"], ["evil.test"]),
        ([], "::1", "::1", ["[::1]:5000"], ["evil.test"]),
        ([], "0.0.0.0", "0.0.0.0", ["anything"], []),
        ([], "::", "::", ["anything"], []),
        ([], "192.0.2.1", "192.0.2.1", ["anything"], []),
        (["a.example"], "0.0.0.0", "0.0.0.0", ["a.example:1", "localhost"], ["evil.test"]),
        (["a.example:443"], "0.0.0.0", "0.0.0.0", ["a.example"], ["a.example:80"]),
        (["[2001:db8::1]"], "::", "::", ["[2001:DB8::1]:5000"], ["[2001:db8::2]"]),
        (["*"], "127.0.0.1", "127.0.0.1", ["anything"], []),
        (["a.example", "*"], "127.0.0.1", "127.0.0.1", ["anything"], []),
    ],
)
def test_names_depend_on_where_it_listens(
    allowed: list[str], listen: str, bound: str, own: list[str], other: list[str]
) -> None:
    rules = SiteRules.of([], allowed, listen, bound)
    assert [name for name in own if not rules.may_be_called(name)] == []
    assert [name for name in other if rules.may_be_called(name)] == []


def test_loopback_address_is_one_of_this_machine() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"]))
    assert not any(map(is_loopback, ["128.0.0.1", "::", "0.0.0.0", "::ffff:128.0.0.1", "", "127"]))


# --- the options


@pytest.mark.parametrize(
    "value",
    ["a.example", "https://", "*", "null", "https://*.example", "https://a.example/path", "//a"],
)
def test_allowed_origin_that_is_none_is_told(tmp_path: Path, value: str) -> None:
    ended = subprocess.run(
        [program(), "--listen-port", "0", "--allow-origins", value, "json"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert ended.returncode == 1
    assert f"--allow-origins {value!r} is not an origin" in ended.stderr
    assert "https://a.example:8443" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("value", ["a b", "https://a", "fe80::1", "*.example", "a:b", "a/b", ""])
def test_allowed_host_that_is_none_is_told(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--allow-hosts .* is not a host; give a name"):
        SiteRules.of([], [value], "127.0.0.1", "127.0.0.1")


# --- the fast path

KNOWN = predict("echo", "", padded(60, text="known"))


def changed(*fields: str) -> Ask:
    return predict("echo", "", padded(60, text="known"), *fields)


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (changed("Origin: https://evil.test"), 403),
        (changed("Sec-Fetch-Site: cross-site"), 403),
        (changed("Origin: null", "Sec-Fetch-Site: same-site"), 403),
        (Ask(KNOWN.head.replace(b"Host: 127.0.0.1", b"Host: evil.test"), KNOWN.body), 421),
    ],
    ids=["origin", "site", "both", "host"],
)
async def test_refused_request_is_refused_however_often_it_comes(
    server: Server, refused: Ask, status: int
) -> None:
    """It is refused even between requests with known heads."""

    async with Line(server.port) as line:
        for _ in range(5):
            assert (await line.ask(KNOWN)).status == 200
            assert (await line.ask(refused)).status == status
        await line.send((KNOWN.data + refused.data) * 2)
        assert [(await line.answer()).status for _ in range(4)] == [200, status] * 2
