"""The REST interface: parse the URL, call `serving` or `jobs`, make the response."""

from __future__ import annotations

from deepaas.api.app import ApiSettings, App
from deepaas.api.routes import routes_of, secrets_of
from deepaas.auth.sign_in import SignIn
from deepaas.events import Events
from deepaas.http.check_forwarded import CheckForwarded
from deepaas.http.cors import Cors
from deepaas.http.cross_site import CheckSite
from deepaas.http.kernel import Kernel
from deepaas.http.middleware import Middleware
from deepaas.http.request_ids import RequestIds
from deepaas.http.routing import Router
from deepaas.http.secrets import HideSecrets
from deepaas.http.server_timing import ServerTiming
from deepaas.log import Tail
from deepaas.serving.pool import Pool

__all__ = ["ApiSettings", "App", "create_app"]


def create_app(
    pools: list[Pool],
    settings: ApiSettings,
    debug_output: Tail | None = None,
    events: Events | None = None,
) -> App:
    """Return the application for the given models, with its kernel.

    `/v2/debug/` shows `debug_output`; it is None if that endpoint is switched off.
    """
    app = App(pools, settings, debug_output)
    app.routes = routes_of(app)
    router = Router(settings.base_path, app.routes, lambda: secrets_of(app.pools.values()))
    app.kernel = Kernel(router, middleware_of(settings), settings.kernel, events or Events())
    return app


def middleware_of(settings: ApiSettings) -> list[Middleware]:
    """Return the middleware; the first is the outermost."""
    middleware: list[Middleware] = [RequestIds(), HideSecrets()]
    if settings.kernel.proxies.networks:
        middleware.append(CheckForwarded())
    middleware.append(CheckSite(settings.sites))
    if settings.sites.origins:
        middleware.append(Cors(settings.sites.origins))
    if settings.authenticator is not None:
        middleware.append(SignIn(settings.authenticator))
    if settings.server_timing:
        middleware.append(ServerTiming())
    return [*middleware, *settings.middleware]
