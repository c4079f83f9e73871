"""The headers X-Forwarded-Prefix, -Proto and -Host count if a trusted proxy sends them.

All connections come from loopback addresses: 127.0.0.2 is a trusted proxy, 127.0.0.1 is not.
test_proxies.py has real proxies.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
import uvloop
from multidict import CIMultiDict, CIMultiDictProxy

from deepaas.exceptions import BadRequestError, ConfigurationError
from deepaas.http.cross_site import SiteRules
from deepaas.http.forwarded import UNKNOWN, PublicAddress, TrustedProxies, public_address
from tests.conftest import Serve
from tests.serving.inside import Client, House
from tests.serving.segments import Ask, Line, get, padded, predict
from tests.support import HOST, Server, wait_until

new_loop = uvloop.new_event_loop

PROXY = "127.0.0.2"
OTHERS = [HOST, "127.0.0.3"]
NAME = "public.example"
BASE = "/base"
SENT = {
    "X-Forwarded-Prefix": "/models/x",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": NAME,
}
DESCRIPTIONS = ["/openapi.json", "/swagger.json"]
MODEL = f"{BASE}/v2/models/trains"


def parsed(*lines: tuple[str, str]) -> PublicAddress:
    return public_address(CIMultiDictProxy(CIMultiDict(lines)))


# --- the values


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        ("/models/x", "/models/x"),
        ("/models/x/", "/models/x"),
        ("/", ""),
        ("", ""),
        ("  /x\t", "/x"),
        ("/x, /y", "/x"),
        (", /y", ""),
        ("/user/name@x.example/proxy/5000", "/user/name@x.example/proxy/5000"),
        ("/a%20b/%C3%A4", "/a%20b/%C3%A4"),
        ("/..a/b..", "/..a/b.."),
        ("/" + "x" * 511, "/" + "x" * 511),
    ],
)
def test_prefix_is_a_path(value: str, prefix: str) -> None:
    assert parsed(("X-Forwarded-Prefix", value)) == PublicAddress(prefix=prefix)


@pytest.mark.parametrize(
    "value",
    [
        "models",
        "//evil.example",
        "//evil.example/x",
        "///evil.example",
        "/x//y",
        "/x//",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "/..",
        "/../x",
        "/x/../../y",
        "/x/..",
        "/.",
        "/x/./y",
        "/%2e%2e/x",
        "/.%2E",
        "/x%2f..%2f..",
        "/%5cevil.example",
        "/x%00",
        "/x%0d%0aSet-Cookie:a",
        "/x\x00",
        "/x\x7f",
        "/x y",
        "/x?a=b",
        "/x#a",
        '/"><script>',
        "/x{y}",
        "/%zz",
        "/ä",
        "/\udce4",
        "//evil.example, /x",
        "/" + "x" * 512,
    ],
)
def test_prefix_that_leads_elsewhere_is_refused(value: str) -> None:
    with pytest.raises(BadRequestError, match=r"X-Forwarded-Prefix .* must be a path that begins"):
        parsed(("X-Forwarded-Prefix", value))


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("https", "https"), ("HTTP", "http"), ("https, http", "https"), ("", "")],
)
def test_scheme_is_that_of_the_client(value: str, scheme: str) -> None:
    assert parsed(("X-Forwarded-Proto", value)) == PublicAddress(scheme=scheme)


@pytest.mark.parametrize("value", ["ftp", "javascript", "https:", "h ttp", "ftp, https"])
def test_other_scheme_is_refused(value: str) -> None:
    with pytest.raises(BadRequestError, match=r"X-Forwarded-Proto .* must be http or https"):
        parsed(("X-Forwarded-Proto", value))


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("public.example", "public.example"),
        ("Public.example:8443", "Public.example:8443"),
        ("a_b-c.example.", "a_b-c.example."),
        ("192.0.2.1:1", "192.0.2.1:1"),
        ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
        ("a.example, b.example", "a.example"),
        ("", ""),
    ],
)
def test_host_is_that_of_the_client(value: str, host: str) -> None:
    assert parsed(("X-Forwarded-Host", value)) == PublicAddress(host=host)


@pytest.mark.parametrize(
    "value",
    [
        "a b",
        "a/b",
        "a@b",
        "a:b",
        "a:",
        "a:0",
        "a:65536",
        "http://a",
        "-a",
        "a\\b",
        "a<b>",
        '"a"',
        "a%62",
        "ä.example",
        "a\x00",
        "[::1",
        "[:::1]",
        "[1]",
        "::1",
        "a{b}",
        "a?b",
        "a#b",
        "*",
        "x" * 256,
    ],
)
def test_text_that_is_no_host_is_refused(value: str) -> None:
    with pytest.raises(BadRequestError, match=r"X-Forwarded-Host .* must be a host"):
        parsed(("X-Forwarded-Host", value))


def test_first_of_several_lines_counts() -> None:
    assert parsed(("X-Forwarded-Host", "a.example"), ("x-forwarded-host", "b")).host == "a.example"


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(BadRequestError) as raised:
        parsed(("X-Forwarded-Host", "/" * 10_000))
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (UNKNOWN, "/"),
        (PublicAddress(prefix="/x"), "/x"),
        (PublicAddress("/x", "https", ""), "/x"),
        (PublicAddress("/x", "", NAME), "/x"),
        (PublicAddress("/x", "https", NAME), f"https://{NAME}/x"),
        (PublicAddress("", "http", f"{NAME}:8080"), f"http://{NAME}:8080"),
    ],
)
def test_address_is_absolute_if_scheme_and_host_are_known(address: PublicAddress, url: str) -> None:
    assert address.base_url == url


# --- the proxies


@pytest.mark.parametrize(
    ("networks", "trusted", "others"),
    [
        ([], [], ["127.0.0.1", "::1"]),
        (["127.0.0.1"], ["127.0.0.1", "::ffff:127.0.0.1"], ["127.0.0.2", "::1"]),
        ([" 10.0.0.0/8 ", "::1"], ["10.9.8.7", "::ffff:10.0.0.1", "::1"], ["11.0.0.1", "::2"]),
        (["fd00::/8"], ["fd12::1", "fd00::1%eth0"], ["fe80::1", "10.0.0.1"]),
        (["::ffff:10.0.0.0/104"], ["::ffff:10.1.1.1"], ["::ffff:11.1.1.1"]),
        (["0.0.0.0/0"], ["192.0.2.1"], ["::1", "", "None", "/run/socket"]),
    ],
)
def test_peer_of_a_network_is_trusted(
    networks: list[str], trusted: list[str], others: list[str]
) -> None:
    proxies = TrustedProxies.of(networks)
    assert [one for one in trusted if not proxies.trust(one)] == []
    assert [one for one in others if proxies.trust(one)] == []


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("proxy.example", "such as 127.0.0.1, 10.0.0.0/8 or fd00::/8"),
        ("10.0.0.0/33", "such as 127.0.0.1"),
        ("127.0.0.1:80", "such as 127.0.0.1"),
        ("[::1]", "such as 127.0.0.1"),
        ("*", "such as 127.0.0.1"),
        ("", "such as 127.0.0.1"),
        ("10.1.2.3/8", "such as 10.0.0.0/8, which contains that address"),
    ],
)
def test_wrong_network_is_told(value: str, advice: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        TrustedProxies.of([value])
    assert str(raised.value).startswith(f"--trusted-proxies {value!r} is not an IP address")
    assert advice in str(raised.value)


# --- a server


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    flags = ("--base-path", BASE, "--trusted-proxies", PROXY, "--trusted-proxies", "192.0.2.0/24")
    return serve_all({}, "zoo.trains", "zoo.echo", "--allow-hosts", NAME, *flags)


def ask(
    server: Server,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    peer: str = PROXY,
    method: str = "GET",
    **kwargs: Any,
) -> httpx.Response:
    """Return the response to a request that comes from the address `peer`."""
    transport = httpx.HTTPTransport(local_address=peer)
    with httpx.Client(transport=transport, base_url=server.url, timeout=60) as client:
        return client.request(method, path, headers=headers, **kwargs)


def test_openapi_names_the_public_address(server: Server) -> None:
    document = ask(server, f"{BASE}/openapi.json", SENT).json()
    assert document["servers"] == [{"url": f"https://{NAME}/models/x"}]
    assert f"{MODEL}/train/" in document["paths"]


def test_openapi_is_relative_if_only_the_prefix_is_known(server: Server) -> None:
    document = ask(server, f"{BASE}/openapi.json", {"X-Forwarded-Prefix": "/models/x"}).json()
    assert document["servers"] == [{"url": "/models/x"}]


def test_swagger_names_the_public_address(server: Server) -> None:
    document = ask(server, f"{BASE}/swagger.json", SENT).json()
    assert document["basePath"] == "/models/x"
    assert (document["host"], document["schemes"]) == (NAME, ["https"])
    assert f"{MODEL}/train/" in document["paths"]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("X-Forwarded-Prefix", "basePath", "/models/x"),
        ("X-Forwarded-Proto", "schemes", ["https"]),
        ("X-Forwarded-Host", "host", NAME),
    ],
)
def test_swagger_has_only_what_the_proxy_says(
    server: Server, name: str, key: str, value: object
) -> None:
    plain = ask(server, f"{BASE}/swagger.json").json()
    changed = ask(server, f"{BASE}/swagger.json", {name: SENT[name]}).json()
    assert changed == plain | {key: value}


def test_swagger_cannot_express_an_ipv6_host(server: Server) -> None:
    headers = {"X-Forwarded-Host": "[::1]:8443", "X-Forwarded-Proto": "https"}
    swagger = ask(server, f"{BASE}/swagger.json", headers).json()
    assert "host" not in swagger
    openapi = ask(server, f"{BASE}/openapi.json", headers).json()
    assert openapi["servers"] == [{"url": "https://[::1]:8443"}]


@pytest.mark.parametrize("path", DESCRIPTIONS)
def test_other_clients_cannot_change_a_description(server: Server, path: str) -> None:
    plain = ask(server, BASE + path, peer=HOST)
    without = ask(server, BASE + path)  # of the proxy
    assert plain.content == without.content
    for peer in OTHERS:
        changed = ask(server, BASE + path, SENT, peer=peer)
        assert changed.content == plain.content
        assert changed.headers["ETag"] == plain.headers["ETag"]
        assert changed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding, Authorization"


@pytest.mark.parametrize("path", DESCRIPTIONS)
@pytest.mark.parametrize("name", SENT)
def test_etag_depends_on_each_header(server: Server, path: str, name: str) -> None:
    plain, changed = ask(server, BASE + path), ask(server, BASE + path, SENT)
    without = ask(server, BASE + path, {key: SENT[key] for key in SENT if key != name})
    tags = {answer.headers["ETag"] for answer in (plain, changed, without)}
    assert len(tags) == 3
    for tag, status in ((changed.headers["ETag"], 304), (plain.headers["ETag"], 200)):
        again = ask(server, BASE + path, {**SENT, "If-None-Match": tag})
        assert again.status_code == status
        assert "X-Forwarded-Prefix" in again.headers["Vary"]


@pytest.mark.parametrize(
    "path", [*DESCRIPTIONS, "/", "/v2/", "/v2/models/", "/api", "/ui", "/v2/models/trains/train/"]
)
def test_caches_are_told_what_the_proxy_may_change(server: Server, path: str) -> None:
    told = {one.strip() for one in ask(server, BASE + path).headers["Vary"].split(",")}
    assert told >= set(SENT)
    assert not told & {
        one.strip()
        for one in ask(server, BASE + path, peer=HOST).headers.get("Vary", "").split(",")
    } - {"Accept-Encoding", "Authorization"}


def links_in(value: object) -> list[str]:
    """Return the values of all keys `href` in a document."""
    if isinstance(value, dict):
        own = [value["href"]] if "href" in value else []
        return own + [one for inner in value.values() for one in links_in(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in links_in(inner)]
    return []


@pytest.mark.parametrize("path", ["/", "/v2/", "/v2/models/", "/v2/models/trains/"])
def test_links_have_the_prefix(server: Server, path: str) -> None:
    plain = links_in(ask(server, BASE + path, SENT, peer=HOST).json())
    assert plain
    assert all(one.startswith(f"{BASE}/") for one in plain)
    assert links_in(ask(server, BASE + path, SENT).json()) == [f"/models/x{one}" for one in plain]


def test_links_of_a_training_have_the_prefix(server: Server) -> None:
    path = f"{MODEL}/train/"
    record = ask(server, path, SENT, method="POST").json()
    one = f"{path}{record['uuid']}"
    wait_until(lambda: server.get(one).json()["status"] == "done", within=60, what="its end")
    answers: list[Any] = [record]
    for address in (path, one, f"{one}/artifacts/"):
        answers.append(ask(server, address, SENT).json())
        plain = links_in(ask(server, address, SENT, peer=HOST).json())
        assert links_in(answers[-1]) == [f"/models/x{link}" for link in plain]
    answers.append(ask(server, one, SENT, method="DELETE").json())
    assert all(link.startswith(f"/models/x{one}") for link in links_in(answers))
    assert len(links_in(answers)) >= 12


def test_location_of_a_job_has_the_prefix(server: Server) -> None:
    path = f"{BASE}/v2/models/echo/predict/"
    for peer, prefix in ((PROXY, "/models/x"), (HOST, "")):
        headers = {**SENT, "Prefer": "respond-async"}
        answer = ask(server, path, headers, peer=peer, method="POST", data={"text": "a"})
        assert answer.status_code == 202
        job = f"{BASE}/v2/models/echo/jobs/{answer.json()['uuid']}"
        assert answer.headers["Location"] == prefix + job
        assert answer.json()["links"][0]["href"] == prefix + job


def test_redirect_to_the_page_has_the_prefix(server: Server) -> None:
    for peer, prefix in ((PROXY, "/models/x"), (HOST, "")):
        answer = ask(server, f"{BASE}/ui", SENT, peer=peer)
        assert (answer.status_code, answer.headers["Location"]) == (302, f"{prefix}{BASE}/api")


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "/\\evil.example", "https://evil.example", "/x/../..", "x"]
)
@pytest.mark.parametrize("path", ["/ui", "/api", "/openapi.json", "/v2/models/echo/predict/"])
def test_prefix_that_leads_elsewhere_is_400(server: Server, prefix: str, path: str) -> None:
    method = "POST" if "predict" in path else "GET"
    answer = ask(server, BASE + path, {"X-Forwarded-Prefix": prefix}, method=method)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert "X-Forwarded-Prefix" in answer.json()["message"]
    assert "Location" not in answer.headers
    others = ask(server, BASE + path, {"X-Forwarded-Prefix": prefix}, peer=HOST, method=method)
    assert others.status_code in (200, 302)


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x7f", b"\xe4", b"\n"])
async def test_control_character_in_a_header_is_400(server: Server, byte: bytes) -> None:
    head = b"GET %b/ui HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Prefix: /x%b\r\n\r\n"
    async with Line(server.port, source=PROXY) as line:
        seen = await line.ask(Ask(head % (BASE.encode(), byte)))
    assert seen.status == 400
    assert seen.header("Location") is None


# --- the checks of Host and Origin


def call(
    server: Server, host: str, forwarded: str | None, origin: str | None = None, peer: str = PROXY
) -> str:
    """Return the code of the error that answers a prediction; "" if there is none."""
    headers = {"Host": host}
    headers |= {} if forwarded is None else {"X-Forwarded-Host": forwarded}
    headers |= {} if origin is None else {"Origin": origin}
    answer = ask(server, f"{BASE}/v2/models/echo/predict/", headers, peer=peer, method="POST")
    return "" if answer.status_code == 200 else str(answer.json()["code"])


@pytest.mark.parametrize(
    ("host", "forwarded", "code"),
    [
        ("127.0.0.1:5000", NAME, ""),
        (NAME, NAME, ""),
        ("127.0.0.1:5000", "localhost", ""),
        ("127.0.0.1:5000", "evil.example", "foreign_host"),
        (NAME, "evil.example", "foreign_host"),
        # A page can set the header after DNS rebinding, if the browser is on the proxy's machine.
        ("evil.example", NAME, "foreign_host"),
        ("evil.example", "localhost", "foreign_host"),
    ],
)
def test_forwarded_host_must_be_allowed_too(
    server: Server, host: str, forwarded: str, code: str
) -> None:
    assert call(server, host, forwarded) == code


def test_forwarded_host_of_other_clients_is_not_checked(server: Server) -> None:
    for peer in OTHERS:
        assert call(server, HOST, "evil.example", peer=peer) == ""
        assert call(server, "evil.example", NAME, peer=peer) == "foreign_host"


@pytest.mark.parametrize(
    ("forwarded", "origin", "code"),
    [
        (NAME, f"https://{NAME}", ""),
        (f"{NAME}:8443", f"https://{NAME}:8443", ""),
        (f"{NAME}:8443", f"https://{NAME}", "cross_site"),
        (NAME, "http://127.0.0.1:5000", "cross_site"),
        (NAME, "https://evil.example", "cross_site"),
        (None, f"https://{NAME}", "cross_site"),
        (None, "http://127.0.0.1:5000", ""),
    ],
)
def test_origin_is_compared_with_the_forwarded_host(
    server: Server, forwarded: str | None, origin: str, code: str
) -> None:
    assert call(server, "127.0.0.1:5000", forwarded, origin) == code


def test_origin_is_compared_with_host_for_other_clients(server: Server) -> None:
    for peer in OTHERS:
        assert call(server, HOST, NAME, f"https://{NAME}", peer=peer) == "cross_site"


# --- the fast path


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    sites = SiteRules.of([], [NAME, "other.example"], HOST, HOST)
    proxies = TrustedProxies.of([PROXY])
    async with House(settings={"proxies": proxies}, api={"sites": sites}) as opened:
        yield opened


def known(forwarded: str, *fields: str) -> Ask:
    lines = (f"X-Forwarded-Host: {forwarded}", *fields)
    return predict("gated", "", padded(60, text="abc"), *lines)


async def test_requests_of_a_proxy_take_the_fast_path(house: House) -> None:
    house.http.heads_of_proxies.clear()
    async with Client(house, PROXY) as client:
        await client.long(known(NAME, "X-Forwarded-For: 192.0.2.1"))
        for number in range(2, 5):
            seen = await client.short(known(NAME, f"X-Forwarded-For: 192.0.2.{number}"))
            assert seen.predicted["text"] == 3


@pytest.mark.parametrize(
    ("field", "other", "status"),
    [
        ("X-Forwarded-Host: {}", "other.example", 200),
        ("X-Forwarded-Host: {}", "evil.example", 421),
        ("X-Forwarded-Prefix: {}", "//evil.example", 400),
        ("X-Forwarded-Proto: {}", "ftp", 400),
    ],
)
async def test_other_value_does_not_take_the_fast_path(
    house: House, field: str, other: str, status: int
) -> None:
    house.http.heads_of_proxies.clear()
    usual = {"Host": NAME, "Prefix": "/models/x", "Proto": "https"}
    value = next(value for name, value in usual.items() if name in field)

    def make(value: str) -> Ask:
        return predict("gated", "", padded(60, text="abc"), field.format(value))

    async with Client(house, PROXY) as client:
        await client.long(make(value))
        assert (await client.short(make(value))).status == 200
        for _ in range(2):
            assert (await client.long(make(other))).status == status
            assert (await client.ask(make(value))).status == 200


async def test_head_of_a_proxy_is_not_known_for_other_clients(house: House) -> None:
    """The same head with a foreign name is refused from the proxy, and answered for others."""
    house.http.heads.clear()
    house.http.heads_of_proxies.clear()
    async with Client(house, PROXY) as proxy, Client(house) as other:
        await proxy.long(known(NAME))
        await proxy.short(known(NAME))
        await other.long(known(NAME))
        assert (await other.short(known("evil.example"))).status == 200
        for _ in range(2):
            assert (await proxy.long(known("evil.example"))).status == 421
        assert (await proxy.short(known(NAME))).status == 200


async def test_origin_known_from_a_proxy_is_refused_for_other_clients(house: House) -> None:
    ask = known(NAME, f"Origin: https://{NAME}")
    async with Client(house, PROXY) as proxy, Client(house) as other:
        for _ in range(3):
            assert (await proxy.ask(ask)).status == 200
            refused = await other.long(ask)
            assert (refused.status, json.loads(refused.body)["code"]) == (403, "cross_site")


async def test_proxy_is_trusted_without_the_private_parts_of_aiohttp() -> None:
    ask = get("/v2/", *(f"{name}: {value}" for name, value in SENT.items()))
    proxies = TrustedProxies.of([PROXY])
    async with House(is_limited=False, settings={"proxies": proxies}) as opened:
        for source, prefix in ((PROXY, "/models/x"), ("", "")):
            async with Line(opened.port, source=source) as line:
                assert links_in((await line.ask(ask)).json()) == [f"{prefix}/v2/"]
