"""The Swagger UI page, for trying the interface in a browser. The server has all its assets."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import os
from pathlib import Path

from aiohttp import web

from deepaas.api.app import App
from deepaas.exceptions import NotFoundError, PreconditionFailedError, RangeError
from deepaas.http.request import Request

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" type="image/png" href="{assets}/favicon-32x32.png">
<link rel="stylesheet" href="{assets}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui" data-spec="{base}/swagger.json"></div>
<script src="{assets}/swagger-ui-bundle.js"></script>
<script>{script}</script>
</body>
</html>
"""

# After a sign-in, the page asks again for the description, which then has the client's models.
_SCRIPT = """
const element = document.getElementById("swagger-ui");
let authorization = "";
const reload = (original, system, payload) => {
  const result = original(payload);
  system.specActions.download(element.dataset.spec);
  return result;
};
const authorize = (original, system) => (payload) => {
  const given = payload.token.value.trim();
  authorization = given.includes(" ") ? given : `Bearer ${given}`;
  const token = {...payload.token, value: authorization};
  return reload(original, system, {...payload, token});
};
const logout = (original, system) => (payload) => {
  authorization = "";
  return reload(original, system, payload);
};
SwaggerUIBundle({
  url: element.dataset.spec,
  requestInterceptor: (request) => {
    if (request.loadSpec && authorization) request.headers.Authorization = authorization;
    return request;
  },
  plugins: [() => ({statePlugins: {auth: {wrapActions: {authorize, logout}}}})],
  domNode: element,
  deepLinking: true,
  validatorUrl: null,
  displayRequestDuration: true,
});
"""

_DIGEST = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = {
    "default-src": "'none'",
    "script-src": f"'self' 'sha256-{_DIGEST}'",
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


@functools.cache
def _assets() -> dict[str, Path]:
    from swagger_ui_bundle import swagger_ui_path

    suffixes = {".css", ".js", ".png", ".map"}
    return {path.name: path for path in Path(swagger_ui_path).iterdir() if path.suffix in suffixes}


async def redirect(request: Request, app: App) -> web.Response:
    location = f"{app.base_of(request)}/api"
    return web.Response(status=302, text="302: Found", headers={"Location": location})


async def page(request: Request, app: App) -> web.Response:
    base = html.escape(app.base_of(request))
    names = ", ".join(pool.name for pool in app.visible_pools(request))
    title = html.escape(f"{names} - DEEPaaS" if names else "DEEPaaS")
    text = _PAGE.format(title=title, base=base, assets=f"{base}/static/swagger", script=_SCRIPT)
    return web.Response(text=text, content_type="text/html", headers=_HEADERS)


async def asset(request: web.BaseRequest, app: App, asset: str) -> web.StreamResponse:
    path = _assets().get(asset)
    if path is None:
        raise NotFoundError(f"There is no asset {asset}")
    _check(request, path.stat())
    return web.FileResponse(path, headers={"Cache-Control": "max-age=3600"})


def _check(request: web.BaseRequest, file: os.stat_result) -> None:
    """Raise the errors for which `web.FileResponse` would send a response without a body."""
    tag = f"{file.st_mtime_ns:x}-{file.st_size:x}"
    wanted = request.if_match
    if wanted is not None and not any(one.value in (tag, "*") for one in wanted):
        raise PreconditionFailedError("The file has another ETag than If-Match asks for")
    before = request.if_unmodified_since
    if wanted is None and before is not None and file.st_mtime > before.timestamp():
        raise PreconditionFailedError("The file has changed since If-Unmodified-Since")
    try:
        start = request.http_range.start
    except ValueError:
        raise RangeError(file.st_size) from None
    if start is not None and start >= file.st_size:
        raise RangeError(file.st_size)
