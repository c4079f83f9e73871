"""A person signs in on the page at /api, in a real browser."""

from __future__ import annotations

from pathlib import Path

from tests.api.browser import FIND, browsing, needs_chromium, predict
from tests.auth.token_files import TokenFile
from tests.conftest import Serve

pytestmark = needs_chromium

SIGN_IN = """
(async () => {
  FIND
  await find(".opblock-tag");
  const before = document.querySelectorAll(".opblock-post").length;
  (await find(".btn.authorize")).click();
  const input = await find(".auth-container input");
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
  set.call(input, "TOKEN");
  input.dispatchEvent(new Event("input", {bubbles: true}));
  (await find(".auth-btn-wrapper .authorize")).click();
  await find(".opblock-post");
  (await find(".btn-done")).click();
  await find(".dialog-ux", false);
  return before;
})()
"""
SIGN_OUT = """
(async () => {
  FIND
  (await find(".btn.authorize")).click();
  await find(".auth-btn-wrapper");
  [...document.querySelectorAll(".auth-btn-wrapper .btn")]
    .find((button) => button.innerText === "Logout").click();
  await find(".opblock-post", false);
  await find(".opblock-tag");
  return document.querySelectorAll(".opblock-post").length;
})()
"""


def sign_in(token: str) -> str:
    """Return a script that signs in, and returns how many POST operations were shown before."""
    return SIGN_IN.replace("FIND", FIND).replace("TOKEN", token)


async def test_page_can_sign_in_and_out(tmp_path: Path, serve: Serve) -> None:
    file = TokenFile(tmp_path / "tokens")
    token = file.add("alice")["Authorization"].removeprefix("Bearer ")
    server = serve({}, *file.flags, "zoo.echo")
    async with browsing(tmp_path / "home") as page:
        await page.open(f"{server.url}/api")
        assert await page.run(sign_in(token)) == 0
        seen = await page.run(predict())
        assert seen["answer"].split() == ["{", '"status":', '"OK",', '"predictions":', "{}", "}"]
        assert (seen["outside"], seen["refused"]) == ([], [])
        assert await page.run(SIGN_OUT.replace("FIND", FIND)) == 0
        await page.open(f"{server.url}/api")
        assert await page.run(sign_in(f"Bearer {token}")) == 0
        assert (await page.run(predict()))["answer"] == seen["answer"]
    assert token not in server.log()
