"""The routes of the interface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from deepaas.api import openapi, operations, record_operations, swagger, ui
from deepaas.api.app import App
from deepaas.api.v2 import (
    admin,
    artifacts,
    debug,
    examples,
    health,
    jobs,
    logs,
    metrics,
    models,
    predict,
    records,
    train,
    versions,
)
from deepaas.exceptions import ConfigurationError
from deepaas.http.routing import Access, Route, pattern_of
from deepaas.serving.pool import Pool

PUBLIC, READ, PREDICT, TRAIN, ADMIN = Access


def routes_of(app: App) -> list[Route]:
    """Return all routes."""
    of_all: dict[str, Any] = {
        "arguments": {"app": app},
        "secrets": lambda: secrets_of(app.pools.values()),
    }
    op = operations
    of_health = PUBLIC if app.settings.public_health else READ
    routes = [
        Route("GET", "/", versions.list_versions, PUBLIC, op.versions, **of_all),
        Route("GET", "/v2/", versions.show_v2, PUBLIC, op.version, **of_all),
        Route("GET", "/v2/health/live", health.live, of_health, op.live, **of_all),
        Route("GET", "/v2/health/ready", health.ready, of_health, op.ready, **of_all),
        Route("GET", "/v2/debug/", debug.debug, ADMIN, op.debug, **of_all),
        Route("GET", "/v2/models/", models.list_models, READ, op.models, **of_all),
        Route("GET", "/swagger.json", swagger.show, PUBLIC, op.description, **of_all),
        Route("GET", "/openapi.json", openapi.show, PUBLIC, op.openapi, **of_all),
    ]
    if app.settings.metrics:
        routes.append(Route("GET", "/metrics", metrics.show, READ, op.metrics, **of_all))
    for pool in app.pools.values():
        routes += _routes_of_model(app, pool)
    if app.settings.doc:
        routes += [
            Route("GET", "/api", ui.page, PUBLIC, op.page, **of_all),
            Route("GET", "/ui", ui.redirect, PUBLIC, op.redirect, **of_all),
            Route("GET", "/static/swagger/{asset}", ui.asset, PUBLIC, op.asset, **of_all),
        ]
    _check_free(app.settings.routes, routes)
    return [*routes, *app.settings.routes]


def _check_free(more: Iterable[Route], routes: Iterable[Route]) -> None:
    """Raise ConfigurationError if one of these further routes is already there."""
    taken = {(route.method, pattern_of(route.path)) for route in routes}
    for route in more:
        key = route.method, pattern_of(route.path)
        if key in taken:
            raise ConfigurationError(
                f"--routes: the route {route.method} {route.path} of a plug-in is already taken"
            )
        taken.add(key)


def _routes_of_model(app: App, pool: Pool) -> list[Route]:
    path = f"/v2/models/{quote(pool.name, safe='')}"
    here: dict[str, Any] = {
        "arguments": {"app": app, "pool": pool},
        "model": pool.name,
        "secrets": lambda: secrets_of([pool]),
    }
    op = operations.OfModel(app.settings, pool)
    routes = [
        Route("GET", f"{path}/", models.show_model, READ, op.metadata, **here),
        Route("GET", f"{path}/ready", health.model_ready, READ, op.ready, **here),
        Route("GET", f"{path}/examples/{{path*}}", examples.example, READ, op.example, **here),
        Route("POST", f"{path}/reload", admin.reload, ADMIN, op.reload, **here),
        Route("POST", f"{path}/predict/", predict.predict, PREDICT, op.predict, **here),
        *_routes_of_records(app, pool, "predict"),
        Route("GET", f"{path}/jobs/{{uuid}}/result", jobs.result, READ, op.result, **here),
        *_routes_of_records(app, pool, "train"),
        Route("POST", f"{path}/train/", train.train, TRAIN, op.train, **here),
    ]
    if not app.settings.predict:
        routes.append(
            Route("GET", f"{path}/predict/", predict.predict, READ, operations.never, **here)
        )
    return routes


def _routes_of_records(app: App, pool: Pool, kind: str) -> list[Route]:
    path = f"/v2/models/{quote(pool.name, safe='')}/{records.SEGMENTS[kind]}"
    one = f"{path}/{{uuid}}"
    op = record_operations.OfRecords(app.settings, pool, kind)
    these: dict[str, Any] = {
        "arguments": {"app": app, "pool": pool, "kind": kind},
        "model": pool.name,
        "secrets": lambda: secrets_of([pool]),
    }
    cancel = TRAIN if kind == "train" else PREDICT
    return [
        Route("GET", f"{path}/", records.list_records, READ, op.list, **these),
        Route("GET", one, records.show_record, READ, op.show, **these),
        Route("DELETE", one, records.cancel_record, cancel, op.cancel, **these),
        Route("GET", f"{one}/logs", logs.logs, READ, op.logs, **these),
        Route("GET", f"{one}/artifacts/", artifacts.list_artifacts, READ, op.artifacts, **these),
        Route("GET", f"{one}/artifacts/{{path*}}", artifacts.artifact, READ, op.artifact, **these),
    ]


def secrets_of(pools: Iterable[Pool]) -> frozenset[str] | None:
    """Return the names of the models' secret arguments; None if a model is not described yet."""
    secrets: set[str] = set()
    for pool in pools:
        if not pool.description:
            return None
        for function in ("predict", "train"):
            secrets.update(pool.description.get(function, {}).get("secrets", ()))
    return frozenset(secrets)
