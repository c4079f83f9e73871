"""HTTP: parse the URL, call `serving`, write the answer."""

from __future__ import annotations

from urllib.parse import quote

from deepaas.api import openapi, ui
from deepaas.api.app import App, Settings
from deepaas.api.routing import Route, Router
from deepaas.api.v2 import admin, debug, health, models, predict, train, versions
from deepaas.log import Tail
from deepaas.serving.pool import Pool

__all__ = ["App", "Settings", "create_app"]


def create_app(pools: list[Pool], settings: Settings, debug_output: Tail | None = None) -> App:
    """The application over the given models; `debug_output` is what /v2/debug/ shows, if it may."""
    routes = [
        Route("GET", "/", versions.list_versions),
        Route("GET", "/v2", versions.show_v2),
        Route("GET", "/v2/models", models.list_models),
        Route("GET", "/v2/health/live", health.live),
        Route("GET", "/v2/health/ready", health.ready),
        Route("GET", "/v2/debug", debug.debug),
        Route("GET", "/swagger.json", openapi.swagger),
    ]
    for pool in pools:
        path = f"/v2/models/{quote(pool.name, safe='')}"
        routes += [
            Route("GET", path, models.show_model, {"pool": pool}),
            Route("GET", f"{path}/ready", health.model_ready, {"pool": pool}),
            Route("POST", f"{path}/predict", predict.predict, {"pool": pool}),
            Route("POST", f"{path}/reload", admin.reload, {"pool": pool}),
            Route("POST", f"{path}/train", train.train, {"pool": pool}),
        ]
        if not settings.predict:
            routes.append(Route("GET", f"{path}/predict", predict.predict, {"pool": pool}))
        if not settings.train:
            routes.append(Route("GET", f"{path}/train", train.train, {"pool": pool}))
    if settings.doc:
        routes += [
            Route("GET", "/ui", ui.redirect),
            Route("GET", "/api", ui.page),
            Route("GET", "/static/swagger/{asset}", ui.asset),
        ]
    return App(pools, settings, Router(settings.base_path, routes), debug_output)
