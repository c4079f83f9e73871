"""HTTP: parse the URL, call `serving` or `jobs`, write the response."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from deepaas.api import openapi, ui
from deepaas.api.app import ApiSettings, App
from deepaas.api.routing import Route, Router
from deepaas.api.v2 import (
    admin,
    artifacts,
    debug,
    health,
    jobs,
    logs,
    models,
    predict,
    records,
    train,
    versions,
)
from deepaas.log import Tail
from deepaas.serving.pool import Pool

__all__ = ["ApiSettings", "App", "create_app"]


def create_app(pools: list[Pool], settings: ApiSettings, debug_output: Tail | None = None) -> App:
    """Return the application for the given models.

    `/v2/debug/` shows `debug_output`; it is None if that endpoint is switched off.
    """
    router = Router(settings.base_path, routes_of(pools, settings))
    return App(pools, settings, router, debug_output)


def routes_of(pools: Iterable[Pool], settings: ApiSettings) -> list[Route]:
    """Return all routes. `openapi` describes those that clients use."""
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
        routes += _routes_of_model(pool, settings)
    if settings.doc:
        routes += [
            Route("GET", "/ui", ui.redirect),
            Route("GET", "/api", ui.page),
            Route("GET", "/static/swagger/{asset}", ui.asset),
        ]
    return routes


def _routes_of_model(pool: Pool, settings: ApiSettings) -> list[Route]:
    path = f"/v2/models/{quote(pool.name, safe='')}"
    here: dict[str, Any] = {"pool": pool}
    routes = [
        Route("GET", path, models.show_model, here),
        Route("GET", f"{path}/ready", health.model_ready, here),
        Route("POST", f"{path}/predict", predict.predict, here),
        Route("POST", f"{path}/reload", admin.reload, here),
        Route("POST", f"{path}/train", train.train, here),
        Route("GET", f"{path}/jobs/{{uuid}}/result", jobs.result, here),
    ]
    if not settings.predict:
        routes.append(Route("GET", f"{path}/predict", predict.predict, here))
    for kind, segment in records.SEGMENTS.items():
        all_of_them, one = f"{path}/{segment}", f"{path}/{segment}/{{uuid}}"
        these = here | {"kind": kind}
        routes += [
            Route("GET", all_of_them, records.list_records, these),
            Route("GET", one, records.show_record, these),
            Route("DELETE", one, records.cancel_record, these),
            Route("GET", f"{one}/logs", logs.logs, these),
            Route("GET", f"{one}/artifacts", artifacts.list_artifacts, these),
            Route("GET", f"{one}/artifacts/{{path*}}", artifacts.artifact, these),
        ]
    return routes
