"""The proxy configurations on docs/proxies.md, exactly as on the page, with real browsers.

The tests replace only addresses and the paths of certificates.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.api.browser import browsing, needs_chromium, predict
from tests.api.test_cross_site_browser import FETCH, other_site
from tests.support import HOST, Server, leased_port, wait_until

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "proxies.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = "public.example"
PUBLIC = f"https://{NAME}"
PREDICT = "/v2/models/sized/predict/"
MODELS = ["zoo.sized", "zoo.trains", "zoo.streaming:Plain"]

CADDY_OPTIONS = """{
    admin off
    auto_https disable_redirects
    local_certs
    skip_install_trust
    https_port PORT
}
"""
NGINX = """
daemon off;
master_process off;
pid DIRECTORY/nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    client_body_temp_path DIRECTORY/body;
    proxy_temp_path DIRECTORY/proxy;
    fastcgi_temp_path DIRECTORY/fastcgi;
    uwsgi_temp_path DIRECTORY/uwsgi;
    scgi_temp_path DIRECTORY/scgi;
    TEXT
}
"""


@dataclass(frozen=True)
class Configuration:
    """A proxy's configuration, and the matching options of the server."""

    title: str
    kind: str
    text: str
    flags: tuple[str, ...]

    @property
    def program(self) -> str | None:
        return shutil.which({"nginx": "nginx", "caddyfile": "caddy"}[self.kind])

    @property
    def replaces_host(self) -> bool:
        if self.kind == "nginx":
            return "proxy_set_header Host" not in self.text
        return "header_up Host" in self.text

    @property
    def prefix(self) -> str:
        """Return the beginning of the path that the proxy removes, or ""."""
        found = re.search(r"X-Forwarded-Prefix ([^;\s]+)", self.text)
        return found[1] if found else ""


def on_the_page() -> list[Configuration]:
    """Return the configurations of the page, each with the options of the server's command line."""
    found = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        match FENCE.findall(section):
            case [(kind, text), ("sh", command)]:
                program, *flags = shlex.split(command)
                assert program == "deepaas-run"
                title = section.partition("\n")[0]
                found.append(Configuration(title, kind, text, tuple(flags)))
            case blocks:
                assert blocks == [], "a configuration without a command"
    return found


@dataclass(frozen=True)
class Proxied:
    """A server behind a proxy that listens on `port`."""

    server: Server
    port: int
    configuration: Configuration

    def post(self, path: str = PREDICT, **kwargs: Any) -> httpx.Response:
        """Return the response to a client that uses the public name of the proxy."""
        return self.request("POST", self.url(path), **kwargs)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("GET", self.url(path), **kwargs)

    def url(self, path: str) -> str:
        """Return the public address of a path of the server."""
        return f"{PUBLIC}{self.configuration.prefix}{path}"

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        with self.open(method, url, **kwargs) as answer:
            answer.read()
            return answer

    def stream(self, path: str, **kwargs: Any) -> AbstractContextManager[httpx.Response]:
        return self.open("POST", self.url(path), **kwargs)

    @contextlib.contextmanager
    def open(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> Iterator[httpx.Response]:
        """Send a request for a public address to the proxy."""
        assert url.startswith(f"{PUBLIC}/")
        with (
            httpx.Client(verify=False, trust_env=False, timeout=20) as client,
            client.stream(
                method,
                url.replace(PUBLIC, f"https://{HOST}:{self.port}", 1),
                headers={"Host": NAME, **(headers or {})},
                extensions={"sni_hostname": NAME},
                **kwargs,
            ) as answer,
        ):
            yield answer

    @property
    def resolve(self) -> str:
        """Return a browser flag that resolves the names of the proxy and of another site."""
        rules = f"MAP {NAME} {HOST}:{self.port}, MAP evil.test {HOST}"
        return f"--host-resolver-rules={rules}"


def nginx(text: str, directory: Path, port: int) -> list[str]:
    """Write the files of nginx; return its command line."""
    certificate = directory / "certificate.pem"
    key = directory / "certificate.key"
    subject = f"-subj /CN={NAME} -addext subjectAltName=DNS:{NAME} -days 2"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-keyout", str(key), "-out", str(certificate), *subject.split()],
        check=True,
        capture_output=True,
    )
    for name, value in (
        ("listen 443 ssl", f"listen {HOST}:{port} ssl"),
        (f"/etc/ssl/{NAME}.pem", str(certificate)),
        (f"/etc/ssl/{NAME}.key", str(key)),
    ):
        assert name in text
        text = text.replace(name, value)
    whole = NGINX.replace("DIRECTORY", str(directory)).replace("TEXT", text)
    (directory / "nginx.conf").write_text(whole)
    return ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf")]


def caddy(text: str, directory: Path, port: int) -> list[str]:
    assert text.startswith(f"{NAME} {{\n")
    text = text.replace("{\n", f"{{\n    bind {HOST}\n", 1)
    (directory / "Caddyfile").write_text(CADDY_OPTIONS.replace("PORT", str(port)) + text)
    return ["caddy", "run", "--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]


@contextlib.contextmanager
def proxied(
    configuration: Configuration, directory: Path, flags: Sequence[str] | None = None
) -> Iterator[Proxied]:
    """Yield the proxy and a server with `flags`, or with the page's options if they are None."""
    if configuration.program is None and not os.environ.get("CI"):
        name = "nginx" if configuration.kind == "nginx" else "caddy"
        pytest.skip(f"needs {name}: apt-get install {name}")
    options = configuration.flags if flags is None else flags
    with contextlib.ExitStack() as resources:
        server = resources.enter_context(Server(args=[*MODELS, *options]))
        port = resources.enter_context(leased_port())
        assert "127.0.0.1:5000" in configuration.text
        text = configuration.text.replace("127.0.0.1:5000", f"{HOST}:{server.port}")
        prepare = nginx if configuration.kind == "nginx" else caddy
        command = prepare(text, directory, port)
        log = resources.enter_context((directory / "proxy.log").open("wb"))
        places = {name: str(directory) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        process = subprocess.Popen(
            command, env=os.environ | places, stdout=log, stderr=log, cwd=directory
        )
        resources.callback(process.wait, timeout=20)
        resources.callback(process.terminate)
        wait_until(
            lambda: speaks_tls(port) or process.poll() is not None, within=60, what="the proxy"
        )
        assert process.poll() is None, (directory / "proxy.log").read_text()
        yield Proxied(server, port, configuration)


def speaks_tls(port: int) -> bool:
    """Return whether the proxy is ready. Caddy opens its port before its certificate exists."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((HOST, port), timeout=25) as connection,
        context.wrap_socket(connection, server_hostname=NAME),
    ):
        return True
    return False


def test_page_has_both_proxies_and_both_ways_with_host() -> None:
    assert [(one.kind, one.replaces_host, one.prefix) for one in on_the_page()] == [
        ("nginx", False, ""),
        ("nginx", True, ""),
        ("caddyfile", False, ""),
        ("caddyfile", True, ""),
        ("nginx", True, "/models/x"),
        ("caddyfile", False, "/models/x"),
    ]


@pytest.fixture(scope="module", params=on_the_page(), ids=lambda one: one.title)
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with proxied(request.param, tmp_path_factory.mktemp("proxy")) as found:
        yield found


@needs_chromium
async def test_own_page_works_in_a_browser(behind: Proxied, tmp_path: Path) -> None:
    async def visit() -> Any:
        async with browsing(tmp_path, behind.resolve, "--ignore-certificate-errors") as page:
            await page.open(behind.url("/api"))
            return await page.run(predict())

    seen = await visit()
    assert '"status": "OK"' in seen["answer"]
    assert seen["refused"] == []


@needs_chromium
async def test_page_of_another_site_starts_no_training(behind: Proxied, tmp_path: Path) -> None:
    path = "/v2/models/trains/train/"
    fetch = FETCH.replace("ACTION", behind.url(path)).replace("METHOD", "POST")

    async def visit() -> None:
        with other_site() as port:
            async with browsing(tmp_path, behind.resolve, "--ignore-certificate-errors") as page:
                await page.open(f"http://evil.test:{port}/")
                assert await page.run(fetch) == "opaque"

    await visit()
    wait_until(lambda: f'"POST {path} HTTP/1.1" 403 ' in behind.server.log(), within=10)
    assert behind.server.get(path).json() == []


def test_own_page_works_in_a_browser_that_sends_origin_alone(behind: Proxied) -> None:
    assert behind.post(headers={"Origin": f"https://{NAME}"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.test", f"http://{NAME}:81", "null"])
def test_other_site_is_refused_in_a_browser_that_sends_origin_alone(
    behind: Proxied, origin: str
) -> None:
    answer = behind.post(headers={"Origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")


def test_foreign_name_is_hidden_by_nginx_that_replaces_host(behind: Proxied) -> None:
    """nginx accepts every name, since it has no other server here. Caddy accepts only its name.

    X-Forwarded-Host shows the name to the server.
    """
    answer = behind.post(headers={"Host": "evil.test"})
    configuration = behind.configuration
    is_nginx = configuration.kind == "nginx"
    is_hidden = configuration.replaces_host and not configuration.prefix
    assert ("predictions" in answer.text) is (is_nginx and is_hidden)
    assert (answer.status_code == 421) is (is_nginx and not is_hidden)


def test_descriptions_lead_through_the_proxy(behind: Proxied) -> None:
    """They are true for a client that knows only the address from which it has them."""
    own = behind.url("/openapi.json")
    openapi, swagger = (behind.get(path).json() for path in ("/openapi.json", "/swagger.json"))
    prefix = behind.configuration.prefix
    assert openapi["servers"] == [{"url": f"{PUBLIC}{prefix}" if prefix else "/"}]
    base = urljoin(own, openapi["servers"][0]["url"]).removesuffix("/")
    (path,) = (
        path
        for path, operations in openapi["paths"].items()
        if operations.get("post", {}).get("operationId") == "predict_sized"
    )
    of_swagger = f"{swagger.get('schemes', ['https'])[0]}://{swagger.get('host', NAME)}"
    for address in (base, of_swagger + swagger.get("basePath", "")):
        assert behind.request("POST", address + path).json()["status"] == "OK"


def test_links_and_redirects_lead_through_the_proxy(behind: Proxied) -> None:
    top = behind.url("/")
    listed = behind.get("/").json()
    links = [*listed["links"], *listed["versions"][0]["links"]]
    addresses = [urljoin(top, link["href"]) for link in links]
    moved = behind.get("/ui")
    assert moved.status_code == 302
    addresses.append(urljoin(behind.url("/ui"), moved.headers["Location"]))
    assert len(addresses) == 4
    for address in addresses:
        assert behind.request("GET", address).status_code == 200


def test_headers_of_clients_have_no_effect(behind: Proxied) -> None:
    sent = {
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.test",
    }
    for path in ("/openapi.json", "/swagger.json", "/"):
        assert behind.get(path, headers=sent).content == behind.get(path).content


def test_client_that_is_no_browser_notices_nothing(behind: Proxied) -> None:
    assert behind.post().status_code == 200


def test_large_upload_goes_through(behind: Proxied) -> None:
    files = {"data": ("data.bin", b"x" * 3_000_000)}
    assert behind.post(files=files).json()["predictions"]["files"][0]["size"] == 3_000_000


def test_stream_goes_through_item_by_item(behind: Proxied, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    parameters = {"kind": "gated", "gate": str(gate)}
    with behind.stream("/v2/models/streaming/predict/", params=parameters) as answer:
        items = answer.iter_lines()
        assert next(items) == '"first"'
        gate.touch()
        assert list(items) == ['"second"']


@pytest.mark.parametrize("configuration", on_the_page(), ids=lambda one: one.title)
def test_options_of_the_page_are_needed(configuration: Configuration, tmp_path: Path) -> None:
    """Without them the response names the missing option."""
    with proxied(configuration, tmp_path, flags=[]) as behind:
        new = behind.post(headers={"Sec-Fetch-Site": "same-origin", "Origin": f"https://{NAME}"})
        old = behind.post(headers={"Origin": f"https://{NAME}"})
    if configuration.replaces_host:
        assert (new.status_code, old.status_code) == (200, 403)
        assert "--allow-origins" in old.json()["message"]
    else:
        assert (new.status_code, old.status_code) == (421, 421)
        assert "--allow-hosts" in new.json()["message"]
