"""How errors of a model become responses."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import werkzeug.exceptions
from aiohttp import hdrs, web
from hypothesis import given
from hypothesis import strategies as st

from deepaas.model.v2.arguments import InvalidArgumentsError
from deepaas.model.v2.exchange import Reply
from deepaas.model.v2.failures import MAX_LINE, describe, one_line, reply_to
from deepaas.model.v2.results import UnusableResultError
from deepaas.protocol.messages import encode_reply

REFUSED = "refused_by_model"
FAILED = "predict_failed"


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


# --- one line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("text", "text"),
        ("  two\r\n\tlines\v ", "two lines"),
        ("a\0b\x1b[31mc\x7f", "a b [31mc"),
        ("a\u2028b\x85c\udcffd", "a b c d"),
        ("größer → besser", "größer → besser"),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_long_text_is_cut() -> None:
    assert one_line("x" * 10 * MAX_LINE) == "x" * (MAX_LINE - 1) + "…"


@given(st.text(alphabet=st.characters()))
def test_any_text_becomes_one_line_that_can_be_sent(text: str) -> None:
    line = one_line(text)
    assert len(line) <= MAX_LINE
    assert line.isprintable()
    assert one_line(line) == line
    line.encode()


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (ValueError("text"), "ValueError: text"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (ValueError(), "ValueError"),
        (KeyError("key"), "KeyError: 'key'"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (UnspeakableError(), "UnspeakableError: (str() raised RuntimeError)"),
    ],
)
def test_describe(error: BaseException, described: str) -> None:
    assert describe(error) == described


# --- errors that are not HTTP errors ---------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("text"), "ValueError: text"),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (MemoryError(), "MemoryError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (UnspeakableError(), "UnspeakableError: (str() raised RuntimeError)"),
        (SystemExit(), "The model called sys.exit(None)"),
        (SystemExit(3), "The model called sys.exit(3)"),
        (SystemExit("bye\nbye"), r"The model called sys.exit('bye\nbye')"),
    ],
)
def test_any_exception_is_answered_500_with_its_text(error: BaseException, reason: str) -> None:
    assert reply_to(error) == Reply(500, reason=reason, code=FAILED)


def test_reason_of_any_exception_is_bounded() -> None:
    reason = "ValueError: " + "x" * (MAX_LINE - 1) + "…"
    assert reply_to(ValueError("x" * 10**6)).reason == reason


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(Unspeakable()),
        werkzeug.exceptions.BadRequest(Unspeakable()),  # type: ignore[arg-type]
        UnusableResultError(Unspeakable()),  # type: ignore[arg-type]
    ],
)
def test_what_has_no_text_is_answered_all_the_same(error: BaseException) -> None:
    reply = reply_to(error)
    assert reply.status >= 400
    assert "RuntimeError" in reply.reason


def test_exception_whose_attributes_raise_is_answered_all_the_same() -> None:
    class OddError(Exception):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert reply_to(OddError("text")) == Reply(500, reason="OddError: text", code=FAILED)


def test_invalid_arguments_are_answered_with_their_messages() -> None:
    reply = reply_to(InvalidArgumentsError({"a": {0: ["Not a valid integer."]}}))
    assert (reply.status, reply.code) == (422, "")
    assert reply.headers == {"Content-Type": "application/json"}
    assert json.loads(reply.body) == {"a": {"0": ["Not a valid integer."]}}


def test_unreadable_body_is_answered_400() -> None:
    assert reply_to(InvalidArgumentsError({"json": ["Invalid JSON body."]}, 400)) == Reply(
        400, b'{"json":["Invalid JSON body."]}', {"Content-Type": "application/json"}
    )


def test_unusable_result_keeps_its_code() -> None:
    error = UnusableResultError("two\nlines", code="result_violates_schema")
    assert reply_to(error) == Reply(500, reason="two lines", code="result_violates_schema")


# --- aiohttp ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (web.HTTPBadRequest(), 400, "Bad Request"),
        (web.HTTPBadRequest(reason="no image"), 400, "no image"),
        (web.HTTPBadRequest(reason=""), 400, "HTTPBadRequest"),
        (web.HTTPBadRequest(text="two\nlines"), 400, "two lines"),
        (web.HTTPBadRequest(reason="reason", text="text"), 400, "reason"),
        (web.HTTPUnprocessableEntity(reason="größer"), 422, "größer"),
        (web.HTTPNotFound(), 404, "Not Found"),
        (web.HTTPInternalServerError(reason="broken"), 500, "broken"),
        (web.HTTPServiceUnavailable(), 503, "Service Unavailable"),
        (web.HTTPInsufficientStorage(), 507, "Insufficient Storage"),
        (web.HTTPException(reason="base class"), 500, "base class"),
        (web.HTTPException(), 500, "HTTPException"),
        (web.HTTPBadRequest(reason="x" * 10**5), 400, "x" * (MAX_LINE - 1) + "…"),
    ],
)
def test_exception_of_aiohttp(error: web.HTTPException, status: int, reason: str) -> None:
    assert reply_to(error) == Reply(status, reason=reason, code=REFUSED)


def test_exception_of_aiohttp_says_more_than_its_class() -> None:
    reply = reply_to(web.HTTPRequestEntityTooLarge(1, 2))
    assert (reply.status, reply.code) == (413, REFUSED)
    assert reply.reason.startswith("Maximum request body size 1 exceeded")


def test_success_that_is_raised_is_no_error() -> None:
    assert reply_to(web.HTTPOk(text="ä")) == Reply(
        200, "ä".encode(), {"Content-Type": "text/plain; charset=utf-8"}
    )


def test_redirect_keeps_its_location() -> None:
    reply = reply_to(web.HTTPFound("/elsewhere"))
    assert (reply.status, reply.code) == (302, "")
    assert reply.headers == {
        "Location": "/elsewhere",
        "Content-Type": "text/plain; charset=utf-8",
    }


def test_headers_of_an_exception_are_kept() -> None:
    error = web.HTTPTooManyRequests(headers={"Retry-After": "5"}, reason="slow down")
    assert reply_to(error) == Reply(
        429, headers={"Retry-After": "5"}, reason="slow down", code=REFUSED
    )


def test_headers_of_the_body_are_not_kept() -> None:
    error = web.HTTPBadRequest(text="{}", content_type="application/json")
    assert reply_to(error) == Reply(400, reason="{}", code=REFUSED)


@pytest.mark.parametrize(
    "error",
    [
        web.HTTPFound("/elsewhere"),
        web.HTTPMethodNotAllowed("GET", ["POST"]),
        web.HTTPTooManyRequests(headers={"Retry-After": "5"}),
        web.HTTPTooManyRequests(headers={hdrs.RETRY_AFTER: "5"}),
        web.HTTPTooManyRequests(headers={"Retry-After": 5}),  # type: ignore[arg-type]
        web.HTTPBadRequest(headers={"X-Cause": "\udcff"}),
        web.HTTPBadRequest(headers={"X-Cause": "two\r\nlines"}),
    ],
)
def test_headers_can_be_sent(error: web.HTTPException) -> None:
    reply = reply_to(error)
    encode_reply(1, reply)
    for name, value in (reply.headers or {}).items():
        assert type(name) is str
        assert type(value) is str
        assert value.isprintable()


def test_exception_whose_body_is_no_text() -> None:
    with pytest.warns(DeprecationWarning, match="body argument is deprecated"):
        error = web.HTTPBadRequest(body=b"\xff")
    assert reply_to(error) == Reply(400, reason="Bad Request", code=REFUSED)


REASONS = [
    ('web.HTTPBadRequest("positional")', [400, "positional", REFUSED]),
    ('web.HTTPBadRequest(ValueError("cause"))', [400, "cause", REFUSED]),
    ('web.HTTPBadRequest(reason=ValueError("cause"))', [400, "cause", REFUSED]),
    (r'web.HTTPBadRequest(reason="two\r\nlines")', [400, "two lines", REFUSED]),
    (r'web.HTTPBadRequest(reason=ValueError("two\nlines"))', [400, "two lines", REFUSED]),
    ('web.HTTPBadRequest(reason="x" * 10**6)', [400, "x" * (MAX_LINE - 1) + "…", REFUSED]),
    ("web.HTTPBadRequest(reason=404)", [400, "404", REFUSED]),
    ("web.HTTPBadRequest()", [400, "Bad Request", REFUSED]),
    ("web.HTTPBadRequest(None)", [400, "Bad Request", REFUSED]),
    ('web.HTTPBadRequest(text="text")', [400, "text", REFUSED]),
    ('web.HTTPException("base class")', [500, "base class", REFUSED]),
    ('web.HTTPException(reason=ValueError("cause"))', [500, "cause", REFUSED]),
    ('web.HTTPMethodNotAllowed("GET", ["POST"], reason="no")', [405, "no", REFUSED]),
    ('type("Own", (web.HTTPNotFound,), {})("own class")', [404, "own class", REFUSED]),
]


def test_worker_lets_aiohttp_take_any_reason() -> None:
    attempts = [f"attempt(lambda: {expression})" for expression, _ in REASONS]
    program = """
import json
from aiohttp import web
from deepaas.model.v2.failures import prepare_for_model, reply_to
prepare_for_model()
prepare_for_model()
def attempt(make):
    try:
        raise make()
    except BaseException as error:
        reply = reply_to(error)
        print(json.dumps([reply.status, reply.reason, reply.code]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program + "\n".join(attempts)], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        expected for _, expected in REASONS
    ]


def test_aiohttp_is_not_imported_for_it() -> None:
    program = (
        "import sys; from deepaas.model.v2.failures import prepare_for_model, reply_to\n"
        "prepare_for_model(); reply_to(ValueError())\n"
        "print([name for name in ('aiohttp', 'werkzeug', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# --- werkzeug --------------------------------------------------------------------------------


def _without_description() -> werkzeug.exceptions.HTTPException:
    error = werkzeug.exceptions.ImATeapot()
    error.description = None  # type: ignore[assignment]
    return error


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (werkzeug.exceptions.BadRequest("no image"), 400, "no image"),
        (werkzeug.exceptions.BadRequest("two\nlines"), 400, "two lines"),
        (werkzeug.exceptions.BadRequest(ValueError("cause")), 400, "cause"),  # type: ignore[arg-type]
        (werkzeug.exceptions.UnprocessableEntity("größer"), 422, "größer"),
        (werkzeug.exceptions.ServiceUnavailable("later"), 503, "later"),
        (werkzeug.exceptions.HTTPException("base class"), 500, "base class"),
        (werkzeug.exceptions.HTTPException(), 500, "Unknown Error"),
        (_without_description(), 418, "I'm a teapot"),
    ],
)
def test_exception_of_werkzeug(
    error: werkzeug.exceptions.HTTPException, status: int, reason: str
) -> None:
    assert reply_to(error) == Reply(status, reason=reason, code=REFUSED)


def test_stock_description_of_werkzeug_comes_in_one_line() -> None:
    reply = reply_to(werkzeug.exceptions.NotFound())
    assert reply.status == 404
    assert reply.reason.startswith("The requested URL was not found on the server.")
    assert reply.reason.isprintable()
