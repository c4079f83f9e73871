"""A headless browser that opens pages and runs scripts on them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = shutil.which("chromium")

needs_chromium = pytest.mark.skipif(
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

AT_THE_START = """
window.refusedByPolicy = [];
document.addEventListener("securitypolicyviolation", (event) => window.refusedByPolicy.push(
  `${event.effectiveDirective} refuses ${event.blockedURI || "inline"} ${event.sample}`));
"""
"""Runs on every page before the page's scripts, and records violations of its policy."""


@asynccontextmanager
async def chromium(home: Path, flags: Sequence[str] = ()) -> AsyncIterator[int]:
    """Start a browser with one empty page; yield the port of its debugger."""
    assert CHROMIUM is not None, "chromium is missing: apt-get install chromium"
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        *flags,
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


class Page:
    """The page of a browser, controlled through its debugger.

    `requested` has the addresses of all requests of the page, except those with data in them.
    """

    def __init__(self, debugger: Any) -> None:
        self.requested: list[str] = []
        self._debugger = debugger
        self._number = 0
        self._is_loaded = False

    async def command(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        await self._debugger.send_json(message)
        while True:
            answer = await self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    async def _receive(self) -> Any:
        message = await self._debugger.receive_json(timeout=60)
        if message.get("method") == "Page.loadEventFired":
            self._is_loaded = True
        elif message.get("method") == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith(("data:", "blob:")):
                self.requested.append(url)
        return message

    async def open(self, url: str) -> None:
        """Open `url`, and wait until the page is loaded."""
        self._is_loaded = False
        answer = await self.command("Page.navigate", url=url)
        assert not answer.get("errorText"), (url, answer)
        while not self._is_loaded:
            await self._receive()

    async def resize(self, width: int, height: int = 800) -> None:
        """Give the window this size in pixels."""
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in an input of the page, as a person would."""
        found = await self.command(
            "Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})"
        )
        place = found["result"]["objectId"]
        await self.command("DOM.setFileInputFiles", files=[str(path)], objectId=place)

    async def run(self, script: str) -> Any:
        """Run a script, wait for it if it returns a promise, and return its value."""
        evaluated = await self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in evaluated, evaluated
        return evaluated["result"].get("value")


@asynccontextmanager
async def browsing(home: Path, *flags: str) -> AsyncIterator[Page]:
    async with (
        chromium(home, flags) as port,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session,
    ):
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        async with session.ws_connect(pages[0]["webSocketDebuggerUrl"]) as debugger:
            page = Page(debugger)
            await page.command("Page.enable")
            await page.command("Network.enable")
            await page.command("Page.addScriptToEvaluateOnNewDocument", source=AT_THE_START)
            yield page


FIND = """
const find = async (selector, wanted = true) => {
  for (let i = 0; i < 400; i++) {
    const element = document.querySelector(selector);
    if (Boolean(element) === wanted) return element;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited for ${selector} ${wanted} on ${document.body.innerText}`);
};
"""
"""A function that waits for an element, or for its absence."""

PREDICT = """
(async () => {
  FIND
  (await find(".opblock-post .opblock-summary-control")).click();
  (await find(".try-out__btn")).click();
  (await find(".execute")).click();
  const answer = await find(".live-responses-table .response-col_description ANSWER");
  const outside = performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => !name.startsWith(location.origin) && !name.startsWith("blob:"));
  const picture = () => document.querySelector(".live-responses-table img");
  for (let i = 0; i < 400 && picture() && !picture().naturalWidth; i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const width = picture() && picture().naturalWidth;
  return {answer: answer.innerText, width, outside, refused: window.refusedByPolicy};
})()
"""


def predict(answer: str = "pre") -> str:
    """Return a script that makes a prediction by clicking on Swagger UI, as a person would.

    `answer` selects the element in which the page shows the prediction.
    """
    return PREDICT.replace("FIND", FIND).replace("ANSWER", answer)
