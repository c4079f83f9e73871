"""A person tries the example digits on the page at /api, in a real browser, at any width.

The browser is offline: it resolves no name, and the page may only call the server.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from PIL import Image, ImageDraw

from tests.api.browser import FIND, Page, browsing, needs_chromium
from tests.api.browser import predict as predict_without_file
from tests.conftest import Serve
from tests.support import Server

pytestmark = needs_chromium

OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
WIDTHS = (320, 390, 640, 641, 800, 1024, 1400)
"""Those of phones to those of desktops, and both sides of the width at which the style changes."""

SHOWN = """
(async () => {
  FIND
  await find(".opblock-tag");
  const tags = [...document.querySelectorAll(".opblock-tag")];
  const shown = [...document.querySelectorAll(".opblock-summary")].map((one) => one.innerText);
  return {
    title: document.title,
    heading: document.querySelector(".info .title").childNodes[0].textContent.trim(),
    tags: tags.map((tag) => [tag.dataset.tag, tag.dataset.isOpen]),
    first: shown[0].split(/\\s+/).slice(0, 2),
  };
})()
"""
TRY_PREDICT = """
(async () => {
  FIND
  (await find("#operations-digits-predict_digits .opblock-summary-control")).click();
  (await find(".try-out__btn")).click();
  await find("input[type=file]");
  return [...document.querySelectorAll(".response-control-media-type select")]
    .filter((one) => one.checkVisibility()).map((one) => [...one.options].map((o) => o.value));
})()
"""
EXECUTE = """
(async () => {
  FIND
  const choice = await find(".response-control-media-type--accept-controller select");
  Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, "value").set.call(choice, "TYPE");
  choice.dispatchEvent(new Event("change", {bubbles: true}));
  (await find(".execute")).click();
  const answer = ".live-responses-table .response-col_description ANSWER";
  const width = () => document.querySelector(answer)?.naturalWidth;  // Swagger UI makes it anew
  for (await find(answer); width() === 0;) await new Promise((resolve) => setTimeout(resolve, 20));
  return {
    text: document.querySelector(answer).innerText,
    width: width(),
    url: document.querySelector(".request-url pre").innerText,
  };
})()
"""
TRAINING = """
(async () => {
  FIND
  (await find("#operations-digits-train_digits .opblock-summary-control")).click();
  (await find("#operations-digits-train_digits .try-out__btn")).click();
  return (await find("#operations-digits-train_digits textarea")).value;
})()
"""
FORM = """
(async () => {
  FIND
  const rich = "#operations-rich-predict_rich";
  (await find(`${rich} .opblock-summary-control`)).click();
  (await find(`${rich} .try-out__btn`)).click();
  await find(`${rich} [data-property-name]`);
  (await find(`${rich} .execute`)).click();
  return (await find(`${rich} .live-responses-table .response-col_description pre`)).innerText;
})()
"""
"""Executes a form with lists, optional fields and files; only the defaults are filled in."""

WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"digits": "deepaas_digits.api"})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return a picture of the digit 1."""
    image = Image.new("L", (64, 64), "white")
    ImageDraw.Draw(image).rectangle((28, 8, 36, 56), "black")
    path = tmp_path / "one.png"
    image.save(path)
    return path


async def check_widths(page: Page) -> None:
    """Check that the page can be read at each width without scrolling to the side."""
    widths = {}
    for width in WIDTHS:
        await page.resize(width)
        widths[width] = await page.run(WIDTH)
    assert {wanted: found for wanted, found in widths.items() if found > wanted} == {}


async def execute(page: Page, media_type: str, answer: str) -> Any:
    """Choose the media type of the response, execute, and return the shown response."""
    script = EXECUTE.replace("FIND", FIND).replace("TYPE", media_type)
    return await page.run(script.replace("ANSWER", answer))


async def predict(page: Page, picture: Path) -> Any:
    """Upload the picture and execute; return the shown JSON, and the address of the request."""
    await page.run(TRY_PREDICT.replace("FIND", FIND))
    await page.choose_file("input[type=file]", picture)
    seen = await execute(page, "application/json", "pre")
    return json.loads(seen["text"]), seen["url"]


def hosts(page: Page) -> set[str]:
    return {urlsplit(url).netloc for url in page.requested}


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
async def test_digit_is_predicted_on_the_page(
    server: Server, picture: Path, tmp_path: Path, width: int, height: int
) -> None:
    async with browsing(tmp_path / "home", OFFLINE) as page:
        await page.resize(width, height)
        await page.open(f"{server.url}/api")
        seen = await page.run(SHOWN.replace("FIND", FIND))
        assert (seen["title"], seen["heading"]) == ("digits - DEEPaaS", "digits")
        assert seen["tags"][0] == ["digits", "true"]
        assert {is_open for _, is_open in seen["tags"][1:]} == {"false"}
        assert [name for name, _ in seen["tags"]][-1] == "documentation"
        assert seen["first"] == ["POST", "/v2/models/digits/predict/"]
        await check_widths(page)
        await page.resize(width, height)

        choices = await page.run(TRY_PREDICT.replace("FIND", FIND))
        assert [one[:2] for one in choices] == [["application/json", "image/png"]]
        await page.choose_file("input[type=file]", picture)
        label = await execute(page, "application/json", "pre")
        assert json.loads(label["text"])["predictions"]["label"] == 1
        chart = await execute(page, "image/png", "img")
        assert chart["width"] == 480
        begun = json.loads(await page.run(TRAINING.replace("FIND", FIND)))
        assert begun == {"epochs": 2}  # the example that the model declares
        await check_widths(page)
        assert await page.run("refusedByPolicy") == []
        assert hosts(page) == {f"127.0.0.1:{server.port}"}


@contextlib.asynccontextmanager
async def proxied(server: Server, prefix: str, replacement: str = "") -> AsyncIterator[str]:
    """Run a proxy that removes or replaces the prefix of paths, and tells the server nothing of it.

    Yields the address of the prefix. Other paths are not found.
    """

    async def forward(request: web.BaseRequest) -> web.StreamResponse:
        if not request.path_qs.startswith(f"{prefix}/"):
            return web.Response(status=404)
        async with session.request(
            request.method,
            f"{server.url}{replacement}{request.path_qs.removeprefix(prefix)}",
            headers=request.headers,
            data=await request.read(),
        ) as answer:
            body = await answer.read()
            return web.Response(status=answer.status, headers=answer.headers, body=body)

    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        RawTestServer(forward) as proxy,
    ):
        yield f"http://127.0.0.1:{proxy.port}{prefix}"


async def test_page_works_behind_a_proxy_that_changes_the_path(
    server: Server, serve: Serve, picture: Path, tmp_path: Path
) -> None:
    moved = serve({}, "zoo.echo", "--base-path", "/models/x")
    async with (
        proxied(server, "/public") as stripped,
        proxied(moved, "/public") as stripped_to_base,
        proxied(moved, "/there", "/models/x") as replaced,
        browsing(tmp_path / "home", OFFLINE) as page,
    ):
        await page.open(f"{stripped}/api/")
        shown, url = await predict(page, picture)
        assert shown["predictions"]["label"] == 1
        assert url == f"{stripped}/v2/models/digits/predict/"
        for root, path in (
            (f"{stripped_to_base}/models/x", "/api"),
            (replaced, "/api"),
            (replaced, "/api//"),
        ):
            await page.open(f"{root}{path}")
            seen = await page.run(predict_without_file())
            assert json.loads(seen["answer"]) == {"status": "OK", "predictions": {}}
            assert f"{root}/v2/models/echo/predict/" in page.requested
        assert await page.run("refusedByPolicy") == []
        for url in page.requested:
            assert url.startswith((stripped, stripped_to_base, replaced))


async def test_form_sends_what_is_filled_in(serve: Serve, tmp_path: Path) -> None:
    """The form is shown first, because the model has files, which are not required."""
    server = serve({}, "zoo.rich")
    async with browsing(tmp_path, OFFLINE) as page:
        await page.open(f"{server.url}/api")
        shown = json.loads(await page.run(FORM.replace("FIND", FIND)))["predictions"]
    assert shown["integers"] == [1, 2]
    assert shown["required"] == "string"
    assert shown["nothing_new"] is None
    assert shown["choice"] == "a"
    assert not {"text", "strings", "link", "nested", "file", "raw_file", "choice_tuple"} & set(
        shown
    )


async def test_link_to_a_folded_operation_opens_it(server: Server, tmp_path: Path) -> None:
    async with browsing(tmp_path, OFFLINE) as page:
        await page.open(f"{server.url}/api#/health/check_live")
        find = f"{FIND} return (await find('.opblock.is-open')).id;"
        assert await page.run(f"(async () => {{ {find} }})()") == "operations-health-check_live"
