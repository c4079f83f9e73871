"""What a model may ask about the request that it answers now.

from deepaas import context

def predict(self, image):
    logger.info("request %s", context.request_id())
    requests.get(url, headers=context.trace_headers())
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

TRACE_HEADERS = ("traceparent", "tracestate", "baggage")
"""The headers of W3C Trace Context and W3C Baggage, which identify a request across services."""

_requests: ContextVar[tuple[str, ...]] = ContextVar("deepaas_requests", default=())


def request_id() -> str:
    """Return the id of the present request, which its client receives in the header X-Request-ID.

    In `predict_batch`, it is that of the first request of the batch. In the process of a training
    or of an asynchronous prediction, it is that of the request that asked for it, also while the
    model is loaded. Outside of a request, and in threads that the model has started, it is "".
    Threads of `asyncio.to_thread` have it.
    """
    ids = request_ids()
    return ids[0] if ids else ""


def request_ids() -> tuple[str, ...]:
    """Return the ids of the requests in the present batch, in the order of the calls."""
    return tuple(request.partition("\n")[0] for request in _requests.get())


def trace_headers() -> dict[str, str]:
    """Return those of TRACE_HEADERS that the client, or a proxy, has sent with the present request.

    A model passes them on with its own requests to other services, or gives them to a library for
    tracing. In `predict_batch`, they are those of the first request of the batch. A training and an
    asynchronous prediction have none.
    """
    requests = _requests.get()
    values = requests[0].split("\n")[1:] if requests else ()
    return {name: value for name, value in zip(TRACE_HEADERS, values, strict=False) if value}


def packed(request_id: str, trace: Sequence[str] = ()) -> str:
    """Return the id and the values of TRACE_HEADERS, "" for a missing one, in the form in which the
    server sends them to a worker. None of them may contain a line end."""
    return "\n".join((request_id, *trace)) if any(trace) else request_id


def set_requests(requests: Sequence[str]) -> None:
    """Set the requests that the model answers now, each in the form of `packed`. For the worker,
    not for models."""
    _requests.set(tuple(requests))
