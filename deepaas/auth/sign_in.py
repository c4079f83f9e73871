"""The middleware for sign-in: it refuses requests that their clients may not send."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from aiohttp import web

from deepaas.auth.plugins import Authenticator, RevokingAuthenticator
from deepaas.exceptions import (
    BadTokenError,
    NotAllowedError,
    NotSignedInError,
    TokenExpiredError,
)
from deepaas.http.connection import Connection
from deepaas.http.fast_path import head_of
from deepaas.http.middleware import FastHooks, Next
from deepaas.http.principal import Principal
from deepaas.http.request import Request
from deepaas.http.routing import Access, Route

if TYPE_CHECKING:
    from deepaas.http.fast_path import FastRequest

CHALLENGE = 'Bearer realm="deepaas"'


class SignIn:
    """A middleware that lets a request pass if its client may use the route."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._challenge: str = getattr(authenticator, "challenge", CHALLENGE)
        self._version: Callable[[], int] | None = None
        if isinstance(authenticator, RevokingAuthenticator):
            self._version = authenticator.version

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        begun = _from_fast_path(request)
        if begun is not None:  # it was allowed when it began
            request.principal = begun.head.principal
            return await next(request)
        try:
            request.principal = await self._principal(request)
        except (NotSignedInError, BadTokenError, TokenExpiredError):
            if route.access is not Access.PUBLIC:
                raise
        if route.access is not Access.PUBLIC:
            self._check(request.principal, route)
        return await next(request)

    async def _principal(self, request: Request) -> Principal | None:
        if self._version is not None:
            request.sign_in_version = self._version()
        principal = await self._authenticator.authenticate(request.headers)
        if principal is not None and time.time() >= _end_of(principal):
            raise TokenExpiredError(self._challenge)
        return principal

    def _check(self, principal: Principal | None, route: Route) -> None:
        if principal is None:
            raise NotSignedInError(self._challenge)
        if not principal.may(route.access, route.model):
            raise NotAllowedError(self._challenge, str(route.access.value), route.model)

    def fast(self, request: Request) -> FastHooks | None:
        """Return a hook that lets requests pass until the principal expires or may have changed."""
        version, principal = self._version, request.principal
        if principal is None or version is None:
            return None
        known = request.sign_in_version
        expires = _end_of(principal)

        def begin(_: FastRequest) -> bool:
            return version() == known and time.time() < expires

        reads: Collection[str] | None = getattr(self._authenticator, "headers", None)
        return FastHooks(begin=begin, reads=reads)


def _end_of(principal: Principal) -> float:
    return math.inf if principal.expires is None else principal.expires


def _from_fast_path(request: Request) -> FastRequest | None:
    """Return what the fast path has begun for this request, if the normal path has to answer it.

    The comparison excludes that it was begun for another request, of another client.
    """
    connection = request.protocol
    begun = connection.pending if isinstance(connection, Connection) else None
    return begun if begun is not None and begun.data.startswith(head_of(request)) else None
