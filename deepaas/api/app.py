"""The application: the state that the handlers share, and how each request is handled."""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError

from deepaas.api.access import hide_secrets, may_hold_secrets, shown_target
from deepaas.api.body import WRONG_CODING, BodyLimits, is_plainly_chunked, stop_receiving
from deepaas.api.cross_site import SiteRules
from deepaas.api.intake import Intake
from deepaas.api.responses import (
    FinalResponse,
    JSONResponse,
    add_common_headers,
    error_response,
    response_for,
)
from deepaas.api.routing import Handler, Router
from deepaas.api.unknown import UnknownArguments
from deepaas.exceptions import BadRequestError, RequestError, StoppingError, StorageError
from deepaas.jobs.service import JobService
from deepaas.log import Tail
from deepaas.serving.pool import Pool

logger = logging.getLogger("deepaas.api")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class ApiSettings:
    """The settings of the HTTP interface.

    `base_path` is empty, or begins with a slash and does not end with one.
    """

    base_path: str = ""
    predict: bool = True
    train: bool = True
    doc: bool = True
    admin: bool = False
    send_timeout: float = 60  # seconds that a client may read nothing of a response; 0: no limit
    max_unsent: int = 256 * 1024 * 1024  # bytes of responses held for clients; 0: no limit
    limits: BodyLimits = field(default_factory=BodyLimits)
    log_unknown_arguments: int = 100  # names, for each function of a model
    callback_hosts: frozenset[str] = frozenset()  # each is a host, or host:port
    sites: SiteRules = field(default_factory=SiteRules)


class App:
    """The application. aiohttp's low-level `web.Server` calls `handle` for each request.

    `trainings` has the records of trainings and of asynchronous predictions. If it is None,
    `no_trainings` says why.
    """

    def __init__(
        self, pools: list[Pool], settings: ApiSettings, router: Router, debug_output: Tail | None
    ) -> None:
        self.pools = {pool.name: pool for pool in pools}
        self.settings = settings
        self.debug_output = debug_output
        self.trainings: JobService | None = None
        self.no_trainings = "they are switched off"
        self.draining = False
        self.unknown = UnknownArguments(settings.log_unknown_arguments)
        self.active = 0  # requests in progress
        self._router = router

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the response to one request, also for failures."""
        self.active += 1
        try:
            answer: web.StreamResponse
            if hdrs.TRANSFER_ENCODING in request.headers and not is_plainly_chunked(request):
                answer = FinalResponse.of(BadRequestError(WRONG_CODING))
            else:
                answer = await self._answer(request)
            if type(answer) is not JSONResponse:  # made only after the whole body was read
                self._prepare(request, answer)
            if self.draining or (request._message.upgrade and _wants_no_more_http(request)):
                answer.force_close()
            return answer
        finally:
            self.active -= 1

    def _prepare(self, request: web.BaseRequest, answer: web.StreamResponse) -> None:
        """Add the common headers, and note how the unread rest of the body is handled."""
        if not answer.prepared:
            add_common_headers(answer.headers)
        if request.content.exception() is not None:
            answer.force_close()
        if isinstance(request.protocol, Intake):
            request.protocol.note_answer(request.content, isinstance(answer, web.Response))

    def stop_receiving(self) -> None:
        """Refuse the requests whose bodies have not arrived completely."""
        stop_receiving(self.settings.limits, StoppingError("The server is about to stop"))

    def under_way(self) -> str:
        """Return a text for people: how many requests and predictions are in progress."""
        calls = [f"{pool.calls} of model {name}" for name, pool in self.pools.items() if pool.calls]
        predictions = f" (predictions: {', '.join(calls)})" if calls else ""
        return f"{self.active} request(s){predictions}"

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            handler, names = self._find(request)
            return await handler(request, self, **names)
        except RequestError as error:
            return response_for(error)
        except (HttpProcessingError, web.RequestPayloadError, aiohttp.ClientPayloadError) as error:
            return error_response(400, "bad_request", f"The request body is malformed: {error}")
        except (asyncio.CancelledError, ConnectionError):
            raise
        except OSError as error:
            if error.errno not in NO_ROOM:
                return self._failed(request)
            logger.error("No room for %s %s: %s", request.method, shown_target(request), error)
            return response_for(StorageError(f"There is no room for the request: {error.strerror}"))
        except Exception:
            return self._failed(request)

    def _find(self, request: web.BaseRequest) -> tuple[Handler, dict[str, Any]]:
        """Return the handler of a request and its arguments, and mask secrets for the logs.

        Raises RequestError if the request is not allowed or has no handler.
        """
        names: dict[str, Any] = {}
        try:
            self.settings.sites.check(request)
            path = request.raw_path.partition("?")[0]
            if path[:1] != "/":  # a proxy's absolute form, or *
                path = request.rel_url.raw_path
            handler, names = self._router.find(request.method, path)
            return handler, names
        finally:
            if may_hold_secrets(request.raw_path):
                pools = [names["pool"]] if "pool" in names else self.pools.values()
                hide_secrets(request, [pool.description for pool in pools])

    def _failed(self, request: web.BaseRequest) -> web.Response:
        """Log the current exception, and return a response with status 500."""
        logger.exception("Answering %s %s failed", request.method, shown_target(request))
        return error_response(500, "internal_error", "The server failed; its log says why")


def _wants_no_more_http(request: web.BaseRequest) -> bool:
    """Return whether the bytes after an upgrade request belong to another protocol.

    aiohttp would parse them as requests, but a proxy does not. With other upgrades, such bytes are
    read as the body.
    """
    is_websocket = request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"
    return is_websocket or request.method == hdrs.METH_CONNECT
