"""The page at /api: Swagger UI, for trying the interface in a browser.

All addresses in the page are relative, so it works below every path, also behind a proxy.
"""

from __future__ import annotations

import functools
import html
from pathlib import Path

from aiohttp import web

from deepaas.api.app import App
from deepaas.api.page_files import PageFile, package_directory
from deepaas.exceptions import NotFoundError
from deepaas.http.request import Request

_OWN = Path(__file__).parent / "page"
_OUR_FILES = ("page.css", "page.js")
_OF_SWAGGER_UI = ("favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css")
"""The files that the page needs. The package has many more, for example those of an editor."""

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "media-src": "blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Frame-Options": "DENY",
}


async def redirect(request: Request, app: App) -> web.Response:
    location = f"{app.base_of(request)}/api"
    return web.Response(status=302, text="302: Found", headers={"Location": location})


async def page(request: Request, app: App) -> web.Response:
    names = ", ".join(pool.name for pool in app.visible_pools(request))
    text = _template().format(
        title=html.escape(f"{names} - DEEPaaS" if names else "DEEPaaS"),
        base=html.escape(app.settings.base_path),
        root=_root(request),
    )
    return web.Response(text=text, content_type="text/html", headers=_HEADERS)


def _root(request: Request) -> str:
    """Return the relative address of the server's root for a page at `/api`, `/api/` or `/api//`.

    It is empty or consists of "../".
    """
    path = request.rel_url.raw_path
    return "../" * (len(path) - len(path.rstrip("/")))


@functools.cache
def _template() -> str:
    return (_OWN / "page.html").read_text("utf-8")


@functools.cache
def _files() -> dict[str, PageFile]:
    """Return the files of the page by their names: those of Swagger UI, and our own."""
    of_swagger_ui = package_directory("swagger_ui", "swagger-ui-py") / "static"
    found = {name: PageFile(of_swagger_ui / name, "max-age=3600") for name in _OF_SWAGGER_UI}
    # Our own files belong to the HTML of the same release, so browsers ask whether they changed.
    return found | {name: PageFile(_OWN / name, "no-cache") for name in _OUR_FILES}


async def asset(request: Request, app: App, asset: str) -> web.StreamResponse:
    file = _files().get(asset)
    if file is None:
        raise NotFoundError(f"There is no asset {asset}")
    return await file.response_to(request)
