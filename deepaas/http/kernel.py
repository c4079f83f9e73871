"""The HTTP kernel: takes a request through the middleware to the handler of its route.

It knows no model. The handlers of `deepaas/api` and the middleware are given to it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import aiohttp
from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError

from deepaas.events import Events, RequestRefused
from deepaas.exceptions import BadRequestError, RequestError, StorageError
from deepaas.http.aiohttp_adapter import is_upgrade
from deepaas.http.body import WRONG_CODING, BodyLimits, is_plainly_chunked, stop_receiving
from deepaas.http.forwarded import TrustedProxies
from deepaas.http.intake import Intake
from deepaas.http.middleware import Middleware, Next, hook_makers
from deepaas.http.request import Request
from deepaas.http.responses import (
    FAILED,
    INTERNAL_ERROR,
    ErrorResponse,
    FinalResponse,
    JSONResponse,
    LongResponse,
    add_common_headers,
    error_response,
    response_for,
)
from deepaas.http.routing import Handler, Match, Route, Router

logger = logging.getLogger("deepaas.api")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class KernelSettings:
    """The limits of requests and responses, and the proxies that may name the public address."""

    send_timeout: float = 60  # seconds that a client may read nothing of a response; 0: no limit
    max_unsent: int = 256 * 1024 * 1024  # bytes of responses held for clients; 0: no limit
    limits: BodyLimits = field(default_factory=BodyLimits)
    proxies: TrustedProxies = field(default_factory=TrustedProxies)


class Kernel:
    """Answers requests. aiohttp's low-level `web.Server` calls `handle` for each.

    The first middleware is the outermost one. `active` is the number of requests in progress. When
    `draining` is set, connections are closed after their response.
    """

    def __init__(
        self,
        router: Router,
        middleware: Sequence[Middleware],
        settings: KernelSettings,
        events: Events,
    ) -> None:
        self.events = events
        self.settings = settings
        self.middleware = middleware
        self.hook_makers = hook_makers(middleware)
        self.active = 0
        self.draining = False
        self._router = router
        self._chains: dict[int, Next] = {}  # by the id of a Route, all of which live as long

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the response to one request, also for failures."""
        assert isinstance(request, Request)
        self.active += 1
        try:
            # Where the next request begins is not known then.
            is_last = hdrs.TRANSFER_ENCODING in request.headers and not is_plainly_chunked(request)
            answer = await self._chain_for(request, _refuse_coding if is_last else None)(request)
            if is_last and isinstance(answer, ErrorResponse):
                answer = FinalResponse.of(answer)
            is_last = is_last or (is_upgrade(request) and _wants_no_more_http(request))
            if is_last or self.draining:
                answer.force_close()
            if type(answer) is not JSONResponse:  # made only after the whole body was read
                await self._send(request, answer)
            return answer
        finally:
            self.active -= 1
            connection = request.protocol
            if isinstance(connection, Intake):  # a middleware may have refused the request
                connection.discard_fast_request()
            if request.long_response is not None:
                request.long_response.close()

    async def _send(self, request: Request, answer: web.StreamResponse) -> None:
        """Send a response that takes time, and prepare aiohttp for sending any other."""
        if isinstance(answer, LongResponse):
            await answer.send(request, self.settings.send_timeout)
        self._prepare(request, answer)
        if self.draining:  # the server may be stopping since
            answer.force_close()

    def _prepare(self, request: Request, answer: web.StreamResponse) -> None:
        """Add the common headers, and note how the unread rest of the body is handled."""
        if not answer.prepared:
            add_common_headers(answer.headers)
        if request.content.exception() is not None:
            answer.force_close()
        if isinstance(request.protocol, Intake):
            request.protocol.note_answer(request.content, isinstance(answer, web.Response))

    def stop_receiving(self, error: RequestError) -> None:
        """Refuse the requests whose bodies have not arrived completely."""
        stop_receiving(self.settings.limits, error)

    def _chain_for(self, request: Request, handler: Handler | None) -> Next:
        """Find the route of a request, and return the middleware around its handler, or around
        another handler."""
        path = request.raw_path.partition("?")[0]
        if path[:1] != "/":  # a proxy's absolute form, or *
            path = request.rel_url.raw_path
        match = self._router.find(request.method, path)
        if handler is not None:
            match = Match(replace(match.route, handler=handler), {}, False)
        request.route, request.arguments = match.route, match.arguments
        return self._chains.get(id(match.route)) or self._chain(match)

    def _chain(self, match: Match) -> Next:
        """Return the middleware around the handler of a route."""
        route = match.route
        chain: Next = partial(self._call, route)
        for middleware in reversed(self.middleware):
            chain = partial(self._pass, middleware, route, chain)
        if match.is_lasting:
            self._chains[id(route)] = chain
        return chain

    async def _pass(
        self, middleware: Middleware, route: Route, following: Next, request: Request
    ) -> web.StreamResponse:
        """Call a middleware. An outer middleware sees its errors as responses."""
        try:
            return await middleware(request, route, following)
        except RequestError as error:
            return self._refused(route, error)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            return self._failed(request)

    async def _call(self, route: Route, request: Request) -> web.StreamResponse:
        """Call the handler of a route. Errors become responses."""
        try:
            answer = await route.handler(request, **request.arguments)
        except RequestError as error:
            return self._refused(route, error)
        except (HttpProcessingError, web.RequestPayloadError, aiohttp.ClientPayloadError) as error:
            return error_response(400, "bad_request", f"The request body is malformed: {error}")
        except (asyncio.CancelledError, ConnectionError):
            raise
        except OSError as error:
            if error.errno not in NO_ROOM:
                return self._failed(request)
            logger.error("No room for %s %s: %s", request.method, request.target, error)
            return response_for(StorageError(f"There is no room for the request: {error.strerror}"))
        except Exception:
            return self._failed(request)
        if type(answer) is not JSONResponse and isinstance(answer, LongResponse):
            request.long_response = answer
        return answer

    def _refused(self, route: Route, error: RequestError) -> web.Response:
        self.report_refused(route.model, error)
        return response_for(error)

    def report_refused(self, model: str, error: RequestError) -> None:
        """Report that a request was refused. `model` is that of its route, or empty."""
        if self.events.request_refused.listeners:
            self.events.request_refused.report(RequestRefused(model, error.code))

    def _failed(self, request: Request) -> web.Response:
        """Log the current exception, and return a response with status 500."""
        logger.exception(
            "Answering %s %s failed (request %s)",
            request.method,
            request.target,
            request.request_id,
        )
        return error_response(500, INTERNAL_ERROR, FAILED)


async def _refuse_coding(request: Request) -> web.StreamResponse:
    """Refuse a request with another transfer coding than `chunked`, as a handler."""
    raise BadRequestError(WRONG_CODING)


def _wants_no_more_http(request: web.BaseRequest) -> bool:
    """Return whether the bytes after an upgrade request belong to another protocol.

    aiohttp would parse them as requests, but a proxy does not. With other upgrades, such bytes are
    read as the body.
    """
    is_websocket = request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"
    return is_websocket or request.method == hdrs.METH_CONNECT
