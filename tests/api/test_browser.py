"""A real browser makes a prediction by clicking on the page at /api."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.api.browser import browsing, needs_chromium, predict
from tests.conftest import Serve
from tests.support import Server

pytestmark = needs_chromium

INTRUDE = """
(async () => {
  const script = document.createElement("script");
  script.textContent = "window.intruder = true";
  document.body.append(script);
  const outside = await fetch("http://127.0.0.1:1/").catch(() => "refused");
  const frame = document.createElement("iframe");
  frame.src = "/api";
  document.body.append(frame);
  while (window.refusedByPolicy.length < 3) await new Promise((next) => setTimeout(next, 20));
  return {intruder: window.intruder || false, outside, refused: window.refusedByPolicy};
})()
"""
FRAMED = """
(async () => {
  const frame = document.createElement("iframe");
  frame.src = "ADDRESS";
  const loaded = new Promise((resolve) => { frame.onload = resolve; });
  document.body.append(frame);
  await loaded;
  try { return frame.contentDocument.title; } catch (error) { return "an error page"; }
})()
"""


async def evaluate(home: Path, url: str, script: str) -> Any:
    """Return the value of a script on the page at `url`."""
    async with browsing(home) as page:
        await page.open(url)
        return await page.run(script)


@pytest.mark.parametrize("base", ["", "/models/x"])
async def test_prediction_can_be_tried_on_the_page(tmp_path: Path, base: str) -> None:
    args = ["--base-path", base] if base else []
    with Server({"echo": "zoo.echo"}, args) as server:
        url = f"http://127.0.0.1:{server.port}{base}/api"
        seen = await evaluate(tmp_path, url, predict())
    assert seen["answer"].split() == ["{", '"status":', '"OK",', '"predictions":', "{}", "}"]
    assert seen["outside"] == []
    assert seen["refused"] == []


async def test_predicted_picture_is_shown_on_the_page(tmp_path: Path, serve: Serve) -> None:
    server = serve({}, "zoo.picture")
    seen = await evaluate(tmp_path, f"{server.url}/api", predict("img"))
    assert seen["width"] == 2
    assert seen["refused"] == []


async def test_page_runs_no_other_script_and_calls_nobody(tmp_path: Path, serve: Serve) -> None:
    server = serve({}, "zoo.echo")
    seen = await evaluate(tmp_path, f"{server.url}/api", INTRUDE)
    assert seen["intruder"] is False
    assert seen["outside"] == "refused"
    refused = {line.split()[0] for line in seen["refused"]}
    assert refused == {"script-src-elem", "connect-src", "frame-src"}


async def test_page_is_not_shown_in_a_frame(tmp_path: Path, serve: Serve) -> None:
    """Not even a page of the same server can show it in a frame."""
    server = serve({}, "zoo.echo")
    script = FRAMED.replace("ADDRESS", f"{server.url}/api")
    url = f"{server.url}/v2/models/"
    assert await evaluate(tmp_path, url, script) == "an error page"
