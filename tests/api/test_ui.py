"""The page at /api loads everything that it needs from the server itself."""

from __future__ import annotations

import gzip
import re
import sys
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx
import pytest

from deepaas.api.page_files import package_directory
from tests.conftest import Serve
from tests.support import Server

TYPES = {
    "css": {"text/css"},
    "js": {"text/javascript", "application/javascript"},
    "png": {"image/png"},
    "json": {"application/json"},
}


class References(HTMLParser):
    """The addresses that a page refers to, and its title and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.title = ""
        self._in_title = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title"
        for name, value in attrs:
            self.attributes[f"{tag}.{name}"] = value
            if name in ("src", "href", "action", "data-spec"):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
            self._in_title = False


@pytest.fixture(scope="module", params=["", "/some/where"], ids=["root", "base path"])
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(serve_all: Serve, base: str) -> Server:
    return serve_all({}, "zoo.echo", "zoo.files", "--base-path", base)


@pytest.mark.parametrize("path", ["/api", "/api/"])
def test_every_address_of_the_page_is_relative_and_there(
    server: Server, base: str, path: str
) -> None:
    addresses = References(server.get(f"{base}{path}").text).addresses
    found = set()
    for address in addresses:
        assert not address.startswith("/")
        assert "://" not in address
        response = server.get(urljoin(f"http://server{base}{path}", address).split("server")[1])
        assert response.status_code == 200, address
        kinds = TYPES[address.rpartition(".")[2]]
        assert response.headers["Content-Type"].partition(";")[0] in kinds
        assert response.content
        found.add(address.rpartition("/")[2])
    assert found >= {"openapi.json", "swagger-ui-bundle.js", "swagger-ui.css", "page.js"}


def test_page_calls_nobody_else(server: Server, base: str) -> None:
    assert "://" not in server.get(f"{base}/api").text
    script = server.get(f"{base}/static/swagger/page.js").text
    assert "://" not in script
    assert "validatorUrl: null" in script


def test_page_has_the_width_of_the_screen(server: Server, base: str) -> None:
    attributes = References(server.get(f"{base}/api").text).attributes
    assert attributes["meta.content"] == "width=device-width, initial-scale=1"


def test_style_refers_to_nothing_outside(server: Server, base: str) -> None:
    for name in ("swagger-ui.css", "page.css"):
        style = server.get(f"{base}/static/swagger/{name}").text
        urls = re.findall(r"url\(([^)]{0,200})", style)
        assert not [url for url in urls if not url.strip("\"' ").startswith(("data:", "#"))]
        assert "@import" not in style


def test_page_is_titled_by_its_models(server: Server, base: str) -> None:
    assert "echo, files" in References(server.get(f"{base}/api").text).title


def test_asset_may_be_kept_by_the_browser(server: Server, base: str) -> None:
    address = f"{base}/static/swagger/swagger-ui-bundle.js"
    response = server.get(address)
    assert "max-age" in response.headers["Cache-Control"]
    again = server.get(address, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304
    assert again.content == b""


def test_part_of_an_asset_may_be_asked_for(server: Server, base: str) -> None:
    address = f"{base}/static/swagger/swagger-ui.css"
    whole = server.get(address).content
    response = server.get(address, headers={"Range": "bytes=10-19"})
    assert response.status_code == 206
    assert response.content == whole[10:20]


def get(server: Server, address: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """Return a response and its body as it was sent, which may be compressed."""
    with (
        httpx.Client(base_url=server.url, trust_env=False) as client,
        client.stream("GET", address, headers=headers) as response,
    ):
        return response, b"".join(response.iter_raw())


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css", "page.js", "page.css"])
def test_asset_is_compressed_for_clients_that_accept_it(
    server: Server, base: str, name: str
) -> None:
    address = f"{base}/static/swagger/{name}"
    plain, whole = get(server, address, **{"Accept-Encoding": "identity"})
    small, compressed = get(server, address, **{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed) == whole
    assert len(compressed) * 2 < len(whole)
    assert {plain.headers["Vary"], small.headers["Vary"]} == {"Accept-Encoding"}
    tags = {plain.headers["ETag"], small.headers["ETag"]}
    assert len(tags) == 2
    for tag in tags:
        again, body = get(server, address, **{"If-None-Match": tag, "Accept-Encoding": "gzip"})
        assert (again.status_code, body) == (304, b"")
        assert server.get(address, headers={"If-Match": tag}).status_code == 200
    since = {"If-Modified-Since": small.headers["Last-Modified"], "Accept-Encoding": "gzip"}
    assert get(server, address, **since)[0].status_code == 304


def test_swagger_ui_is_found_without_importing_it() -> None:
    """Importing it would import other packages and start-up would take longer."""
    assert (package_directory("swagger_ui", "swagger-ui-py") / "static").is_dir()
    assert "swagger_ui" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="pip install swagger-ui-py"):
        package_directory("no_such_module", "swagger-ui-py")


def test_our_own_files_are_asked_for_again(server: Server, base: str) -> None:
    """Otherwise an old script may run on the page of a new release."""
    for name in ("page.js", "page.css"):
        assert server.get(f"{base}/static/swagger/{name}").headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "name", ["", "nothing.js", "page.html", "swagger-editor.js", "swagger-ui.css/more"]
)
def test_other_assets_are_404(server: Server, base: str, name: str) -> None:
    assert server.get(f"{base}/static/swagger/{name}").status_code == 404


def test_ui_redirects_within_the_base_path(server: Server, base: str) -> None:
    answer = server.raw_request("GET", f"{base}/ui")
    assert (answer.status, answer.header("Location")) == (302, f"{base}/api")


def test_name_of_a_model_is_no_markup(serve: Serve) -> None:
    name = '<script>"x"&'
    server = serve({}, "zoo.echo", "--model-name", name)
    page = server.get("/api").text
    assert name not in page
    assert name in References(page).title
    path = "/v2/models/%3Cscript%3E%22x%22%26/"
    assert server.get(path).json()["name"] == "echo"
    assert server.post(f"{path}predict/", json={"text": "a"}).status_code == 200


def test_without_documentation_there_are_no_assets(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "--nodoc-endpoint")
    for path in ("/api", "/ui", "/static/swagger/swagger-ui.css"):
        assert server.get(path).status_code == 404
