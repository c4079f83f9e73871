"""What pages of other sites can do to a server, tested in a real browser."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.api.browser import Page, browsing, needs_chromium, predict
from tests.conftest import Serve
from tests.support import HOST, Server, wait_until

pytestmark = needs_chromium

RESOLVE = "--host-resolver-rules=MAP *.test 127.0.0.1"
"""The browser resolves names that end in .test to this machine."""

TRAIN = "/v2/models/trains/train/"

FORM = """
(() => {
  const form = document.createElement("form");
  form.action = "ACTION"; form.method = "post"; form.enctype = "multipart/form-data";
  document.body.append(form);
  form.submit();
})()
"""

FETCH = """
fetch("ACTION", {method: "METHOD", mode: "no-cors", body: new FormData()})
  .then((answer) => answer.type, (error) => "failed")
"""

SANDBOX = """
(async () => {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  const heard = new Promise((resolve) => { window.onmessage = (event) => resolve(event.data); });
  frame.srcdoc = `<script>
    fetch("ACTION", {method: "POST", mode: "no-cors"})
      .then((answer) => parent.postMessage(answer.type, "*"))
  </` + "script>";
  document.body.append(frame);
  return await heard;
})()
"""


class _Pages(BaseHTTPRequestHandler):
    """An empty page at every address. A POST is redirected to the address in the query."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!DOCTYPE html><title>a page</title><body></body>")

    def do_POST(self) -> None:
        self.send_response(307)
        self.send_header("Location", parse_qs(urlsplit(self.path).query)["to"][0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def other_site() -> Iterator[int]:
    """Serve a web site that is not the server's; yield its port."""
    with ThreadingHTTPServer((HOST, 0), _Pages) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield site.server_address[1]
        finally:
            site.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with other_site() as port:
        yield port


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.trains", "zoo.echo", "--allow-hosts", "model.test")


class Answers:
    """The statuses of the requests to one path, read from the log."""

    def __init__(self, server: Server, method: str = "POST") -> None:
        self._server = server
        self._start = f'"{method} {TRAIN} HTTP/1.1" '
        self._before = len(self._all())

    def _all(self) -> list[str]:
        lines = self._server.log().splitlines()
        return [line.partition(self._start)[2][:3] for line in lines if self._start in line]

    def wait(self, count: int) -> list[str]:
        """Wait for `count` new responses; return all statuses since this object was created."""
        wait_until(lambda: len(self._all()) >= self._before + count, within=20, what="the answers")
        return self._all()[self._before :]


async def attack(page: Page, action: str, answers: Answers, other: int) -> list[str]:
    """Request a training from the current page in each way that needs no consent."""
    for method in ("POST", "DELETE"):
        fetch = FETCH.replace("ACTION", action).replace("METHOD", method)
        assert await page.run(fetch) == ("opaque" if method == "POST" else "failed")
    assert await page.run(SANDBOX.replace("ACTION", action)) == "opaque"
    await page.run(FORM.replace("ACTION", action))
    return answers.wait(3)


@pytest.mark.parametrize("name", ["evil.test", "localhost", HOST], ids=["site", "name", "port"])
@pytest.mark.parametrize("called", [HOST, "model.test"], ids=["trusted", "not trusted"])
async def test_page_of_another_origin_starts_no_training(
    server: Server, port: int, tmp_path: Path, name: str, called: str
) -> None:
    """Browsers send `Sec-Fetch-Site` only to trusted addresses; others get only `Origin`."""
    answers = Answers(server)

    async def visit() -> list[str]:
        async with browsing(tmp_path, RESOLVE) as page:
            await page.open(f"http://{name}:{port}/")
            return await attack(page, f"http://{called}:{server.port}{TRAIN}", answers, port)

    assert await visit() == ["403"] * 3
    assert server.get(TRAIN).json() == []


async def test_redirect_by_another_site_starts_no_training(
    server: Server, port: int, tmp_path: Path
) -> None:
    answers = Answers(server)
    action = f"http://evil.test:{port}/?to={server.url}{TRAIN}"

    async def visit() -> list[str]:
        async with browsing(tmp_path, RESOLVE) as page:
            await page.open(f"http://evil.test:{port}/")
            await page.run(FORM.replace("ACTION", action))
            return answers.wait(1)

    assert await visit() == ["403"]
    assert server.get(TRAIN).json() == []


async def test_page_of_an_allowed_site_reads_answers(
    serve: Serve, port: int, tmp_path: Path
) -> None:
    allowed = serve({}, "zoo.sized", "--allow-origins", f"http://evil.test:{port}")
    script = """
    (async () => {
      const sent = {method: "POST", headers: {"X-Request-ID": "mine"}, body: "{}"};
      const answer = await fetch("URL", sent);
      return [answer.status, (await answer.text()).length > 0, answer.headers.get("X-Request-ID")];
    })()
    """

    async def visit() -> Any:
        async with browsing(tmp_path, RESOLVE) as page:
            await page.open(f"http://evil.test:{port}/")
            url = f"{allowed.url}/v2/models/sized/predict/"
            return await page.run(script.replace("URL", url))

    assert await visit() == [200, True, "mine"]


async def test_page_of_another_site_cannot_read_answers(
    server: Server, port: int, tmp_path: Path
) -> None:
    """The server answers its safe requests, but the browser hides the responses from it."""
    url = f"{server.url}/v2/models/"
    script = """
    (async () => {
      const text = await fetch("URL").then((answer) => answer.text(), () => "not to be read");
      const opaque = await fetch("URL", {mode: "no-cors"}).then((answer) => answer.text());
      const script = document.createElement("script");
      script.src = "URL";
      const ran = new Promise((resolve) => {
        script.onload = () => resolve("ran");
        script.onerror = () => resolve("not run");
      });
      document.body.append(script);
      return [text, opaque, await ran];
    })()
    """

    async def visit() -> Any:
        async with browsing(tmp_path, RESOLVE) as page:
            await page.open(f"http://evil.test:{port}/")
            return await page.run(script.replace("URL", url))

    assert await visit() == ["not to be read", "", "not run"]


async def test_page_whose_name_is_rebound_reads_nothing(server: Server, tmp_path: Path) -> None:
    """After the rebinding, the browser treats the server as the page's own site."""
    read = f'fetch("{TRAIN}").then(async (answer) => [answer.status, await answer.text()])'

    async def visit() -> Any:
        async with browsing(tmp_path, RESOLVE) as page:
            await page.open(f"http://evil.test:{server.port}/api")
            return await page.run(read)

    status, text = await visit()
    assert status == 421
    assert "--allow-hosts" in text


@pytest.mark.parametrize("name", [HOST, "localhost", "model.test", "a.localhost"])
async def test_own_page_works_by_every_name_of_the_server(
    server: Server, tmp_path: Path, name: str
) -> None:
    async def visit() -> Any:
        async with browsing(tmp_path, RESOLVE) as page:
            await page.open(f"http://{name}:{server.port}/api")
            return await page.run(predict())

    assert '"status": "OK"' in (await visit())["answer"]


async def test_page_of_an_allowed_origin_starts_a_training(
    serve: Serve, port: int, tmp_path: Path
) -> None:
    server = serve({}, "zoo.trains", "--allow-origins", f"http://good.test:{port}")
    answers = Answers(server)
    fetch = FETCH.replace("ACTION", f"{server.url}{TRAIN}").replace("METHOD", "POST")
    read = f'fetch("{server.url}{TRAIN}").then((answer) => answer.text(), () => "not to be read")'

    async def visit() -> list[str]:
        async with browsing(tmp_path, RESOLVE) as page:
            for name in ("good.test", "evil.test"):
                await page.open(f"http://{name}:{port}/")
                assert await page.run(fetch) == "opaque"
                hides = await page.run(read) == "not to be read"
                assert hides is (name == "evil.test")
            return answers.wait(2)

    assert await visit() == ["200", "403"]
    assert len(server.get(TRAIN).json()) == 1
