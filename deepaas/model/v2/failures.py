"""Convert the exceptions that a model raises into replies.

Models raise the HTTP exceptions of aiohttp and werkzeug, and any others. The status and the reason
reach the client in one line. Neither library is imported for this.
"""

from __future__ import annotations

import functools
import http
import logging
import sys
import traceback
from typing import Any

from deepaas.exceptions import ModelMistakeError
from deepaas.model.v2.arguments import InvalidArgumentsError
from deepaas.model.v2.exchange import Reply
from deepaas.model.v2.headers import ImpossibleHeaderError, check_header
from deepaas.model.v2.places import at, place_of_error, without_own_frames
from deepaas.model.v2.results import UnusableResultError, to_json

logger = logging.getLogger("deepaas.worker")

MAX_LINE = 1000

_BODY_HEADERS = frozenset({"content-encoding", "content-type"})
"""Headers that describe the body; they are dropped, because the server encodes the body."""


def one_line(text: str) -> str:
    """Return `text` without line breaks and other control characters, with limited length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_LINE]).split())
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + "…"


def describe(error: BaseException) -> str:
    """Return the type and the text of the exception in one line. Never raises."""
    if isinstance(error, ModelMistakeError):
        return str(error)
    name = type(error).__name__
    try:
        text = one_line(str(error))
    except BaseException as second:
        text = f"(str() raised {type(second).__name__})"
    return f"{name}: {text}" if text else name


MAX_TRACEBACK = 32 * 1024


def causes_of(error: BaseException, package: str) -> tuple[str, list[str]]:
    """Return why a model cannot be loaded: one text for clients, and the lines for the log.

    There is a line for each cause; it starts with the place in the model's files, if that is known.
    `package` is the name of the model's package. Never raises.
    """
    if isinstance(error, ModelMistakeError):
        return one_line(str(error)), [one_line(line) for line in error.lines]
    try:
        where = place_of_error(error, package)
    except Exception:  # for example, a SyntaxError with invalid attributes
        where = ""
    cause = _cause(error)
    return cause, [at(where, cause)]


def _cause(error: BaseException) -> str:
    if isinstance(error, SystemExit) and not isinstance(error.code, str):
        return f"SystemExit: sys.exit({error.code!r:.40}) was called"
    if isinstance(error, SyntaxError) and isinstance(error.msg, str):
        return f"{type(error).__name__}: {one_line(error.msg)}"
    cause = describe(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = str(error.name).partition(".")[0]
        cause += f"; install {package} in the Python environment of deepaas-run"
    return cause


def traceback_of(error: BaseException, *, with_own_frames: bool) -> str:
    """Return the traceback without the text of the exception, which `causes_of` returns.

    Return "" if it does not help the author of the model. Never raises.
    """
    if not with_own_frames:
        if isinstance(error, ModelMistakeError):
            return ""
        without_own_frames(error)
    try:
        lines = "".join(traceback.format_exception(error)).splitlines()
        last = traceback.format_exception_only(error)[-1].splitlines()
    except BaseException:  # str() of the exception raises
        lines, last = traceback.format_tb(error.__traceback__), []
    if len(last) == 1 and lines[-1:] == last:
        del lines[-1]
    text = "\n".join(lines)
    return text if len(text) <= MAX_TRACEBACK else f"…{text[-MAX_TRACEBACK:]}"


def let_go(error: BaseException) -> None:
    """Release the local variables of the functions that raised a MemoryError, to free memory."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        if isinstance(following, MemoryError):
            traceback.clear_frames(following.__traceback__)
        following = following.__cause__ or following.__context__


def reply_to(error: BaseException) -> Reply:
    """Return the reply for an exception that was raised while a call was processed. Never
    raises."""
    try:
        return _reply_to(error)
    except BaseException:  # an exception whose own attributes raise
        return Reply(500, reason=describe(error), code="predict_failed")


def _reply_to(error: BaseException) -> Reply:
    if isinstance(error, InvalidArgumentsError):
        body = to_json(error.messages)
        return Reply(error.status, body, {"Content-Type": "application/json"})
    if isinstance(error, UnusableResultError | ImpossibleHeaderError):
        return Reply(500, reason=one_line(str(error)), code=error.code)
    reply = _http_reply(error)
    if reply is not None:
        return reply
    if isinstance(error, SystemExit):
        reason = f"The model called sys.exit({error.code!r})"
        return Reply(500, reason=one_line(reason), code="predict_failed")
    return Reply(500, reason=describe(error), code="predict_failed")


def _http_reply(error: BaseException) -> Reply | None:
    if getattr(error, "__http_exception__", False) is True:  # aiohttp
        return _aiohttp_reply(error)
    if hasattr(error, "get_response") and hasattr(error, "description"):  # werkzeug
        reason = getattr(error, "description", None) or getattr(error, "name", "")
        return Reply(
            _status(getattr(error, "code", None)), reason=one_line(str(reason)), code=_RAISED
        )
    return None


_RAISED = "refused_by_model"
_STATUSES = frozenset(http.HTTPStatus)


def _aiohttp_reply(error: Any) -> Reply:
    status = _status(error.status)
    try:
        headers = _headers_of(error)
    except ImpossibleHeaderError as problem:
        reason = one_line(f"{problem}. The model raised {describe(error)}")
        logger.error("The model's HTTP exception cannot be sent: %s", reason)
        return Reply(500, reason=reason, code=problem.code)
    try:
        text = error.text or ""
    except Exception:  # the body is not text
        text = ""
    if status < 400:
        headers["Content-Type"] = "text/plain; charset=utf-8"
        return Reply(status, text.encode(), headers)
    own_reason = error.reason != http.HTTPStatus(status).phrase if status in _STATUSES else True
    own_text = text and text != f"{error.status}: {error.reason}"
    reason = one_line(text if own_text and not own_reason else error.reason)
    return Reply(
        status, headers=headers or None, reason=reason or type(error).__name__, code=_RAISED
    )


def _headers_of(error: Any) -> dict[str, str]:
    headers = {}
    for key, text in error.headers.items():
        name, value = str(key), str(text).strip(" \t")
        check_header(name, value)
        if name.lower() not in _BODY_HEADERS:
            headers[name] = value
    return headers


def _status(status: object) -> int:
    """Return the status if HTTP allows it, otherwise 500 (as for aiohttp's base class)."""
    return status if isinstance(status, int) and 200 <= status < 600 else 500


@functools.cache
def accept_any_reason() -> None:
    """Let models raise `HTTPBadRequest("text")` and `HTTPBadRequest(reason=exception)`.

    aiohttp rejects both with a TypeError, which would hide the cause. Call this in a worker, after
    the model has imported aiohttp.
    """
    base: Any = sys.modules["aiohttp.web_exceptions"].HTTPException
    original = base.__init__

    @functools.wraps(original)
    def __init__(self: Any, *positional: Any, reason: Any = None, **keywords: Any) -> None:
        if reason is None and positional:
            reason = positional[0]
        if reason is not None:
            reason = one_line(str(reason))
        original(self, reason=reason, **keywords)

    base.__init__ = __init__


def prepare_for_model() -> None:
    """Patch the libraries that the model has imported; fast, so call it again after a failure."""
    if "aiohttp.web_exceptions" in sys.modules:
        accept_any_reason()
