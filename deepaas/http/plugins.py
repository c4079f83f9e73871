"""The plug-ins of the HTTP kernel: further middleware and further routes.

A plug-in is an entry point in the group `deepaas.middleware` or `deepaas.routes`. It is a function
that takes Options and returns a Middleware, or a list of Routes. The server uses those that the
operator names: an installed package alone changes nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from deepaas import plugins
from deepaas.events import Events
from deepaas.exceptions import ConfigurationError
from deepaas.http.middleware import Middleware
from deepaas.http.routing import Access, Route

MIDDLEWARE = "deepaas.middleware"
ROUTES = "deepaas.routes"


@dataclass(frozen=True)
class Options:
    """What a plug-in gets from the server.

    `base_path` is that of the server: empty, or it begins with a slash and does not end with one.
    The paths of routes do not contain it, but links do, after `request.public_address.prefix`.
    `models` are the names of the served models. A plug-in may listen to `events`.
    """

    base_path: str = ""
    models: frozenset[str] = frozenset()
    events: Events = field(default_factory=Events)


def load_middleware(names: Iterable[str], options: Options) -> list[Middleware]:
    """Return the middleware of these plug-ins, in this order. Raises ConfigurationError."""
    made = []
    for name in names:
        option = f"--middleware {name}"
        one = _make(plugins.load(MIDDLEWARE, "--middleware", name), options, option)
        if not (_is_async(one) or _is_async(type(one).__call__)):
            raise ConfigurationError(
                f"{option}: the plug-in must return a middleware, a function or an object with "
                "async def (request, route, next)"
            )
        made.append(one)
    return made


def load_routes(names: Iterable[str], options: Options) -> list[Route]:
    """Return the routes of these plug-ins. Raises ConfigurationError."""
    found: list[Route] = []
    for name in names:
        option = f"--routes {name}"
        routes = _make(plugins.load(ROUTES, "--routes", name), options, option)
        if not isinstance(routes, list | tuple) or not all(map(_is_route, routes)):
            raise ConfigurationError(
                f"{option}: the plug-in must return a list of deepaas.http.routing.Route, each "
                "with a path that begins with a slash and with an Access"
            )
        found += routes
    return found


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function)


def _is_route(route: object) -> bool:
    return (
        isinstance(route, Route) and route.path.startswith("/") and isinstance(route.access, Access)
    )


def _make(factory: Callable[[Options], Any], options: Options, option: str) -> Any:
    """Call the function of a plug-in."""
    try:
        return factory(options)
    except ConfigurationError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"{option}: the plug-in failed: {reason}") from error
