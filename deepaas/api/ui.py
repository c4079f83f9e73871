"""The page on which the interface can be tried in a browser. All it needs is served from here."""

from __future__ import annotations

import functools
import html
from pathlib import Path

from aiohttp import web

from deepaas.api.app import App
from deepaas.exceptions import NotFoundError

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
<script>
const element = document.getElementById("swagger-ui");
SwaggerUIBundle({{
  url: element.dataset.spec,
  domNode: element,
  deepLinking: true,
  validatorUrl: null,
  displayRequestDuration: true,
}});
</script>
</body>
</html>
"""


@functools.cache
def _assets() -> dict[str, Path]:
    from swagger_ui_bundle import swagger_ui_path

    suffixes = {".css", ".js", ".png", ".map"}
    return {path.name: path for path in Path(swagger_ui_path).iterdir() if path.suffix in suffixes}


async def redirect(request: web.BaseRequest, app: App) -> web.Response:
    location = f"{app.settings.base_path}/api"
    return web.Response(status=302, text="302: Found", headers={"Location": location})


async def page(request: web.BaseRequest, app: App) -> web.Response:
    base = html.escape(app.settings.base_path)
    title = html.escape(f"{', '.join(app.pools)} - DEEPaaS")
    text = _PAGE.format(title=title, base=base, assets=f"{base}/static/swagger")
    return web.Response(text=text, content_type="text/html")


async def asset(request: web.BaseRequest, app: App, asset: str) -> web.StreamResponse:
    path = _assets().get(asset)
    if path is None:
        raise NotFoundError(f"There is no asset {asset}")
    return web.FileResponse(path, headers={"Cache-Control": "max-age=3600"})
