"""What a middleware is: code that runs before and after the handlers of routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from aiohttp import web

from deepaas.http.request import Request

if TYPE_CHECKING:
    from deepaas.http.fast_path import FastRequest
    from deepaas.http.routing import Route

Next: TypeAlias = Callable[[Request], Awaitable[web.StreamResponse]]
"""Calls the inner middleware and the handler. Their errors are responses already."""


class Middleware(Protocol):
    """Code around the handlers of all routes."""

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        """Return the response of `next(request)`, possibly changed, or another response.

        A RequestError that this raises becomes a response.
        """
        ...


@dataclass(frozen=True)
class FastHooks:
    """What a middleware does for the requests with one head on the fast path.

    `begin` returns whether such a request may take the fast path now. `end` returns header lines
    for its response, each with its line end; `headers` are lines that are always the same.

    `reads` are the headers, in lower case, on whose values the work of the middleware depends; None
    means all. The value of another header may differ in later requests, if `varying.py` lists it.
    """

    begin: Callable[[FastRequest], bool] | None = None
    end: Callable[[FastRequest], bytes] | None = None
    headers: bytes = b""
    reads: Collection[str] | None = None


MakeHooks: TypeAlias = Callable[[Request], FastHooks | None]
"""Returns the hooks for further requests with the head of this request. If this is None, such
requests do not take the fast path."""


def hook_makers(middleware: Sequence[Middleware]) -> list[MakeHooks] | None:
    """Return the method `fast`, a MakeHooks, of each middleware; None if one does not have it.

    A middleware without that method turns the fast path off.
    """
    methods: list[MakeHooks] = []
    for one in middleware:
        method = getattr(one, "fast", None)
        if method is None:
            return None
        methods.append(method)
    return methods
