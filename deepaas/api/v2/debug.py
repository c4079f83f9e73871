"""`/v2/debug/`: the latest output of the server and its workers, if that is switched on."""

from __future__ import annotations

from aiohttp import web

from deepaas.api.app import App


async def debug(request: web.BaseRequest, app: App) -> web.Response:
    if app.debug_output is None:
        return web.Response(status=204)
    return web.Response(text=app.debug_output.text())
