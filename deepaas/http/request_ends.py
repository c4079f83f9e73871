"""Reports the end of each request on the normal path."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from deepaas.events import CLIENT_CLOSED, RequestEnded
from deepaas.http.request import Request
from deepaas.http.responses import JSONResponse

if TYPE_CHECKING:
    from deepaas.events import Events


class RequestEnds(AbstractAccessLogger):
    """What aiohttp calls after a response was sent: it reports the event `request_ended`."""

    def __init__(self, events: Events, log_format: str) -> None:
        """Make the reporter of one connection. aiohttp passes a format, which is not used."""
        self._event = events.request_ended

    @property
    def enabled(self) -> bool:
        """Whether anything listens; otherwise aiohttp saves the call."""
        return bool(self._event.listeners)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        if isinstance(request, Request):
            length = _body_length(request, response)
            code = getattr(response, "code", "")
            self._event.report(_ended(request, response.status, code, length))

    def report_closed(self, request: Request) -> None:
        """Report a request whose client has gone before its response was complete."""
        self._event.report(_ended(request, CLIENT_CLOSED, "client_closed", 0))


def _ended(request: Request, status: int, code: str, length: int) -> RequestEnded:
    return RequestEnded(
        request.remote or "-",
        request.method,
        request.target,
        request.route.model if request.route is not None else "",
        status,
        code,
        length,
        monotonic() - request.began,
        request.headers.get(hdrs.USER_AGENT, "-"),
        request.request_id,
        "" if request.principal is None else request.principal.name,
        times=request.times,
    )


def _body_length(request: Request, response: web.StreamResponse) -> int:
    """Return how many bytes of the body were sent. aiohttp would also count the head."""
    if request.method == hdrs.METH_HEAD:
        return 0
    if type(response) is JSONResponse:  # the usual case; isinstance takes longer
        return response.body_length
    if isinstance(response, web.FileResponse):
        return response.content_length or 0
    if isinstance(response, web.Response):
        return len(response.body) if isinstance(response.body, bytes) else 0
    return response.body_length
