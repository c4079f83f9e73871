"""What a model may ask about the request that it answers now.

from deepaas import context

def predict(self, image):
    logger.info("request %s", context.request_id())
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

_request_ids: ContextVar[tuple[str, ...]] = ContextVar("deepaas_request_ids", default=())


def request_id() -> str:
    """Return the id of the present request, which its client receives in the header X-Request-ID.

    In `predict_batch`, it is that of the first request of the batch. In the process of a training
    or of an asynchronous prediction, it is that of the request that asked for it, also while the
    model is loaded. Outside of a request, and in threads that the model has started, it is "".
    Threads of `asyncio.to_thread` have it.
    """
    ids = _request_ids.get()
    return ids[0] if ids else ""


def request_ids() -> tuple[str, ...]:
    """Return the ids of the requests in the present batch, in the order of the calls."""
    return _request_ids.get()


def set_request_ids(ids: Sequence[str]) -> None:
    """Set the ids of the requests that the model answers now. For the worker, not for models."""
    _request_ids.set(tuple(ids))
