"""The page at /api in a real browser: a prediction is made by clicking, as a person would."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import Server

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="needs chromium: apt-get install chromium"
)

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
]

PREDICT = """
(async () => {
  const find = async (selector) => {
    for (let i = 0; i < 200; i++) {
      const element = document.querySelector(selector);
      if (element) return element;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("there is no " + selector + " on " + document.body.innerText);
  };
  (await find(".opblock-post .opblock-summary-control")).click();
  (await find(".try-out__btn")).click();
  (await find(".execute")).click();
  const answer = await find(".live-responses-table .response-col_description pre");
  const outside = performance.getEntriesByType("resource")
    .map((entry) => entry.name).filter((name) => !name.startsWith(location.origin));
  return {answer: answer.innerText, outside};
})()
"""


@asynccontextmanager
async def chromium(home: Path) -> AsyncIterator[int]:
    """A browser with one empty page; yields the port of its debugger."""
    assert CHROMIUM is not None, "chromium is missing: apt-get install chromium"
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={home}",
        "about:blank",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port_file = home / "DevToolsActivePort"
        deadline = time.monotonic() + 30
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert time.monotonic() < deadline, "chromium did not open its debugger"
            await asyncio.sleep(0.05)
        yield int(port_file.read_text().splitlines()[0])
    finally:
        process.terminate()
        await process.wait()


async def evaluate(home: Path, url: str, script: str) -> Any:
    """What a script returns on the page at `url`."""
    async with (
        chromium(home) as port,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session,
    ):
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        async with session.ws_connect(pages[0]["webSocketDebuggerUrl"]) as debugger:

            async def command(method: str, **parameters: Any) -> Any:
                await debugger.send_json({"id": 1, "method": method, "params": parameters})
                return (await debugger.receive_json(timeout=60))["result"]

            await command("Page.navigate", url=url)
            evaluated = await command(
                "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
            )
            return evaluated["result"]["value"]


@pytest.mark.parametrize("base", ["", "/models/x"])
def test_prediction_can_be_tried_on_the_page(tmp_path: Path, base: str) -> None:
    args = ["--base-path", base] if base else []
    with Server({"echo": "zoo.echo"}, args) as server:
        url = f"http://127.0.0.1:{server.port}{base}/api"
        seen = asyncio.run(evaluate(tmp_path, url, PREDICT))
    assert seen["answer"].split() == ["{", '"status":', '"OK",', '"predictions":', "{}", "}"]
    assert seen["outside"] == []
