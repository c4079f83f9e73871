"""The header Server-Timing: says in a response where its time went."""

from __future__ import annotations

from aiohttp import web
from multidict import istr

from deepaas.events import Times
from deepaas.http.fast_path import FastRequest
from deepaas.http.middleware import FastHooks, Next
from deepaas.http.request import Request
from deepaas.http.routing import Route

HEADER = istr("Server-Timing")

# Formatting a number takes most of the time, so `batch` is left out where there is no batch.
_ALONE = b"Server-Timing: queue;dur=%.3f, validate;dur=%.3f, predict;dur=%.3f, encode;dur=%.3f\r\n"
_IN_BATCH = _ALONE.replace(b" predict", b" batch;dur=%.3f, predict")


class ServerTiming:
    """A middleware that adds Server-Timing to the responses of predictions, in milliseconds."""

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        answer = await next(request)
        if request.times is not None:
            answer.headers[HEADER] = line_of(request.times)[len(HEADER) + 2 : -2].decode()
        return answer

    def fast(self, request: Request) -> FastHooks:
        return FastHooks(end=_line, reads=())


def line_of(times: Times) -> bytes:
    """Return the line of the header for these times, which are in seconds."""
    queue, validate, batch, predict, encode = times
    if batch:
        return _IN_BATCH % (queue * 1e3, validate * 1e3, batch * 1e3, predict * 1e3, encode * 1e3)
    return _ALONE % (queue * 1e3, validate * 1e3, predict * 1e3, encode * 1e3)


def _line(fast: FastRequest) -> bytes:
    times = fast.times
    return b"" if times is None else line_of(times)
