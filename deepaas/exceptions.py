"""The errors of this package.

DeepaasError
├── ConfigurationError     an option or model name that cannot be used
│   ├── NoModelError       nothing to serve
│   └── UnknownModelError  no model of that name
└── RequestError           ends a request: each knows its HTTP status and its code
    ├── NotFoundError              404
    ├── MethodNotAllowedError      405
    ├── BadRequestError            400
    ├── TooLargeError              413
    ├── HeadTooLargeError          431
    ├── UnsupportedEncodingError   415
    ├── DisabledError              402
    ├── NotImplementedByModelError 501
    ├── RequestTimeoutError        408
    ├── PreconditionFailedError    412
    ├── RangeError                 416
    ├── ReloadInProgressError      409
    ├── NotReadyError              503
    │   ├── QueueFullError
    │   └── StoppingError
    ├── PredictTimeoutError        504
    ├── NotStoppableError          409
    ├── NotFinishedError           409
    ├── CallbackRefusedError       403
    ├── CrossSiteError             403
    ├── ForeignHostError           421
    ├── StorageError               507
    │   └── DiskFullError
    ├── ReloadFailedError          500
    └── WorkerDiedError            500
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar


class DeepaasError(Exception):
    """Base class of all errors of this package."""


class ConfigurationError(DeepaasError):
    """The server cannot start as it was asked to."""


class NoModelError(ConfigurationError):
    """There is nothing to serve."""


class UnknownModelError(ConfigurationError):
    """No model has this name; the message offers the nearest ones."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"installed: {', '.join(names)}"
        if not names:
            hint = "no package installed here has an entry point in deepaas.v2.model"
        super().__init__(f"no model is called {name!r}; {hint}")


class ModelMistakeError(DeepaasError):
    """The code of a model has mistakes with which it cannot be served.

    Each mistake is given as its place, `file:line` or empty, and a text that says what is wrong and
    what to write instead. The `lines`, for the log, have the places; the text of the exception,
    which clients get, has none.
    """

    def __init__(self, *mistakes: tuple[str, str]) -> None:
        super().__init__("; ".join(text for _, text in mistakes))
        self.lines = [f"{place}: {text}" if place else text for place, text in mistakes]


class RequestError(DeepaasError):
    """A request that ends with an error answer.

    `status` is its HTTP status, `code` a stable word for programs, the text one line for people.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"
    headers: Mapping[str, str] = {}
    details: Mapping[str, object] = {}
    """What else stands in the JSON of the answer, for programs."""


class NotFoundError(RequestError):
    status = 404
    code = "not_found"


class MethodNotAllowedError(RequestError):
    status = 405
    code = "method_not_allowed"

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        super().__init__(f"{method} is not allowed here")
        self.headers = {"Allow": ", ".join(sorted(allowed))}


class BadRequestError(RequestError):
    status = 400
    code = "bad_request"


class TooLargeError(RequestError):
    status = 413
    code = "too_large"


class HeadTooLargeError(RequestError):
    """The request line and the headers are too large together."""

    status = 431
    code = "head_too_large"


class UnsupportedEncodingError(RequestError):
    """The body, or a part of it, has an encoding that the server does not know.

    `accepted` are the encodings that a body may have, if it is about the body.
    """

    status = 415
    code = "unsupported_encoding"

    def __init__(self, message: str, accepted: str = "") -> None:
        super().__init__(message)
        if accepted:
            self.headers = {"Accept-Encoding": accepted}


class DisabledError(RequestError):
    status = 402
    code = "endpoint_disabled"


class NotImplementedByModelError(RequestError):
    status = 501
    code = "not_implemented"


class RequestTimeoutError(RequestError):
    """The request's body did not come."""

    status = 408
    code = "receive_timeout"


class PreconditionFailedError(RequestError):
    """The file is not the one that the request is about."""

    status = 412
    code = "precondition_failed"


class RangeError(RequestError):
    """The file does not have the bytes that the request asks for."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes, and not the range that is asked for")
        self.headers = {"Content-Range": f"bytes */{size}"}


class ReloadInProgressError(RequestError):
    """The model is being reloaded already."""

    status = 409
    code = "reload_in_progress"


class NotReadyError(RequestError):
    """The model has no worker that could answer now."""

    status = 503
    code = "model_not_ready"

    def __init__(self, message: str, retry_after: float = 1) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, round(retry_after)))}


class StartingError(NotReadyError):
    """The model is being loaded for the first time; `phase` is how far that has come."""

    code = "model_starting"

    def __init__(self, message: str, phase: str, retry_after: float) -> None:
        super().__init__(message, retry_after)
        self.details = {"phase": phase}


class QueueFullError(NotReadyError):
    """As many calls wait for the model as may wait."""

    code = "queue_full"


class StoppingError(NotReadyError):
    """The server is about to end."""

    code = "server_stopping"


class PredictTimeoutError(RequestError):
    """There was no answer within the time that there is for it."""

    status = 504
    code = "timeout"


class StorageError(RequestError):
    """What has to outlive the server cannot be written or read: a full disk, for instance."""

    status = 507
    code = "storage_failed"


class DiskFullError(StorageError):
    """It cannot be written because the disk is full: it can be when there is room again."""


class NotStoppableError(RequestError):
    """The training runs where this server cannot reach it, as in another container."""

    status = 409
    code = "not_stoppable"


class NotFinishedError(RequestError):
    """The result of an asynchronous prediction is not there yet."""

    status = 409
    code = "not_finished"


class CallbackRefusedError(RequestError):
    """The server does not call this address."""

    status = 403
    code = "callback_refused"


class CrossSiteError(RequestError):
    """A browser sends the request for a page of another web site."""

    status = 403
    code = "cross_site"


class ForeignHostError(RequestError):
    """The request is addressed to a name that this server does not have."""

    status = 421
    code = "foreign_host"


class WorkerDiedError(RequestError):
    """The worker process ended while it was predicting for this request."""

    code = "worker_died"


class ReloadFailedError(RequestError):
    """No new worker could be put in place of an old one, which goes on."""

    code = "reload_failed"
