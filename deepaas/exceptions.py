"""The errors of this package, as a tree::

    DeepaasError
    ├── ConfigurationError     an invalid option or model name
    │   ├── NoModelError       nothing to serve
    │   └── UnknownModelError  no model of that name
    └── RequestError           ends a request with an HTTP status and a code
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
        │   ├── StartingError
        │   ├── QueueFullError
        │   └── StoppingError
        ├── PredictTimeoutError        504
        ├── NotStoppableError          409
        ├── NotFinishedError           409
        ├── CallbackRefusedError       403
        ├── NotSignedInError           401
        ├── BadTokenError              401
        ├── TokenExpiredError          401
        ├── NotAllowedError            403
        ├── CrossSiteError             403
        ├── ForeignHostError           421
        ├── StorageError               507
        │   ├── DiskFullError
        │   └── StorageLockedError     503
        ├── ReloadFailedError          500
        ├── StreamFailedError          of a response that has begun
        └── WorkerDiedError            500

A client gets a RequestError as JSON, with its code and its message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar


class DeepaasError(Exception):
    """Base class of all errors of this package."""


class ConfigurationError(DeepaasError):
    """The server cannot start with these options."""


class NoModelError(ConfigurationError):
    """There is no model to serve."""


class UnknownModelError(ConfigurationError):
    """No model has this name; the message suggests similar names."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"installed: {', '.join(names)}"
        if not names:
            hint = "no package installed here has an entry point in deepaas.v2.model"
        super().__init__(f"no model is called {name!r}; {hint}")


class ModelMistakeError(DeepaasError):
    """The code of a model has mistakes that prevent serving it.

    Each mistake is a pair: its place, `file:line` or empty, and a text that says what is wrong and
    what to write instead. `lines`, for the log, include the places; the text of the exception,
    which clients receive, does not.
    """

    def __init__(self, *mistakes: tuple[str, str]) -> None:
        super().__init__("; ".join(text for _, text in mistakes))
        self.lines = [f"{place}: {text}" if place else text for place, text in mistakes]


class RequestError(DeepaasError):
    """A request that ends with an error response.

    `status` is the HTTP status, `code` a stable word for programs, and the text one line for
    people.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"
    headers: Mapping[str, str] = {}
    details: Mapping[str, object] = {}
    """Additional members of the response's JSON, for programs."""


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
    """The request line and the headers together are too large."""

    status = 431
    code = "head_too_large"


class UnsupportedEncodingError(RequestError):
    """The body, or a part of it, has an encoding that the server does not support.

    `accepted` lists the supported encodings of a body; it is empty if the error is about a part.
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
    """The body of the request did not arrive in time."""

    status = 408
    code = "receive_timeout"


class PreconditionFailedError(RequestError):
    """The file does not meet the If-Match or If-Unmodified-Since condition of the request."""

    status = 412
    code = "precondition_failed"


class RangeError(RequestError):
    """The file does not contain the requested bytes."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes; the requested range is outside of it")
        self.headers = {"Content-Range": f"bytes */{size}"}


class ReloadInProgressError(RequestError):
    """A reload of the model is already in progress."""

    status = 409
    code = "reload_in_progress"


class NotReadyError(RequestError):
    """The model has no worker that can answer now."""

    status = 503
    code = "model_not_ready"

    def __init__(self, message: str, retry_after: float = 1) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, round(retry_after)))}


class StartingError(NotReadyError):
    """The model is being loaded for the first time; `phase` is the current phase."""

    code = "model_starting"

    def __init__(self, message: str, phase: str, retry_after: float) -> None:
        super().__init__(message, retry_after)
        self.details = {"phase": phase}


class QueueFullError(NotReadyError):
    """The queue of calls for the model is full."""

    code = "queue_full"


class StoppingError(NotReadyError):
    """The server is shutting down."""

    code = "server_stopping"


class PredictTimeoutError(RequestError):
    """The response was not ready within the time limit."""

    status = 504
    code = "timeout"


class StorageError(RequestError):
    """Persistent data cannot be written or read, for example because the disk is full."""

    status = 507
    code = "storage_failed"


class DiskFullError(StorageError):
    """Data cannot be written because the disk is full; a retry works after space is freed."""


class StorageLockedError(StorageError):
    """Persistent data cannot be used now, because another process holds its lock for too long."""

    status = 503
    code = "storage_locked"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": "5"}


class NotStoppableError(RequestError):
    """This server cannot reach the process of the training, for example in another container."""

    status = 409
    code = "not_stoppable"


class NotFinishedError(RequestError):
    """The asynchronous prediction has no result yet."""

    status = 409
    code = "not_finished"


class CallbackRefusedError(RequestError):
    """The server is not allowed to call this address."""

    status = 403
    code = "callback_refused"


class NotSignedInError(RequestError):
    """The request does not say which client has sent it, or not in a form that is accepted.

    `challenge` says how a client signs in: it is the value of `WWW-Authenticate` (RFC 6750).
    """

    status = 401
    code = "not_signed_in"

    def __init__(self, challenge: str) -> None:
        super().__init__(
            "This needs a sign-in: send the header Authorization that the operator of this server "
            "has given you, such as Authorization: Bearer TOKEN"
        )
        self.headers = {"WWW-Authenticate": challenge}


class BadTokenError(RequestError):
    """The server does not know the token, or it is malformed."""

    status = 401
    code = "bad_token"

    def __init__(self, challenge: str, message: str) -> None:
        super().__init__(message)
        self.headers = {"WWW-Authenticate": f'{challenge}, error="invalid_token"'}


class TokenExpiredError(RequestError):
    """The token of the client has expired."""

    status = 401
    code = "token_expired"

    def __init__(self, challenge: str) -> None:
        super().__init__("The token has expired; ask the operator of this server for a new one")
        description = 'error="invalid_token", error_description="The token has expired"'
        self.headers = {"WWW-Authenticate": f"{challenge}, {description}"}


class NotAllowedError(RequestError):
    """The client has signed in, but it may not do this. `scope` is what it would need."""

    status = 403
    code = "not_allowed"

    def __init__(self, challenge: str, scope: str, model: str) -> None:
        place = f" for model {model}" if model else " for all models"
        super().__init__(f"This needs the scope {scope}{place}, which your token does not have")
        needs = f'error="insufficient_scope", scope="{scope}"'
        self.headers = {"WWW-Authenticate": f"{challenge}, {needs}"}


class CrossSiteError(RequestError):
    """A browser sent the request on behalf of a page of another site."""

    status = 403
    code = "cross_site"


class ForeignHostError(RequestError):
    """The host in the request is not a name of this server."""

    status = 421
    code = "foreign_host"


class WorkerDiedError(RequestError):
    """The worker process ended while it processed this request."""

    code = "worker_died"


class ReloadFailedError(RequestError):
    """No new worker could replace an old one, which continues."""

    code = "reload_failed"


class StreamFailedError(RequestError):
    """A streamed response that has failed midway; `code` is the kind of failure."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # a class variable in the base
