"""Every error is JSON with a message, a code and the id of the request, except 404 and 501, whose
texts clients know."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.conftest import Serve
from tests.support import RawAnswer, Server

ASSET = "/static/swagger/swagger-ui.css"
PREDICT = "/v2/models/plain/predict/"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    args = ("--client-max-size=1000", "--client-max-parts=2", "--notrain-endpoint")
    return serve_all({}, "zoo.plain", "zoo.odd_errors", *args)


def head(method: str, target: str, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


CASES: dict[str, tuple[bytes, int, str]] = {
    "no method": (b"nonsense\r\n\r\n", 400, "bad_request"),
    "a method that HTTP does not have": (head("BREW", "/"), 400, "bad_request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),
    "HTTP/2 without an agreement": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "a version that HTTP does not have": (head("GET", "/", version="9.9"), 400, "bad_request"),
    "a header without a colon": (head("GET", "/", "nonsense"), 400, "bad_request"),
    "two lengths": (
        head("POST", PREDICT, "Content-Length: 1", "Content-Length: 2"),
        400,
        "bad_request",
    ),
    "an unusable target": (head("GET", "http://["), 400, "bad_request"),
    "an unknown transfer coding": (
        head("POST", PREDICT, "Transfer-Encoding: gzip"),
        400,
        "bad_request",
    ),
    "a chunk without a size": (
        head("POST", PREDICT, "Transfer-Encoding: chunked") + b"zz\r\n",
        400,
        "bad_request",
    ),
    "a form without a boundary": (
        head("POST", PREDICT, "Content-Type: multipart/form-data", "Content-Length: 1") + b"a",
        400,
        "bad_request",
    ),
    "an unusable patience": (
        head("POST", PREDICT, "X-Request-Timeout: soon", "Content-Length: 0"),
        400,
        "bad_request",
    ),
    "a training where none are offered": (
        head("POST", "/v2/models/plain/train/", "Content-Length: 0"),
        402,
        "endpoint_disabled",
    ),
    "another site": (
        head("POST", PREDICT, "Origin: http://evil.example", "Content-Length: 0"),
        403,
        "cross_site",
    ),
    "POST to a page": (head("POST", "/", "Content-Length: 0"), 405, "method_not_allowed"),
    "PUT to a model": (
        head("PUT", PREDICT, "Content-Length: 0"),
        405,
        "method_not_allowed",
    ),
    "POST to the debug page": (
        head("POST", "/v2/debug/", "Content-Length: 0"),
        405,
        "method_not_allowed",
    ),
    "DELETE of an asset": (head("DELETE", ASSET), 405, "method_not_allowed"),
    "CONNECT": (head("CONNECT", "example.com:80"), 405, "method_not_allowed"),
    "an asset that has changed": (
        head("GET", ASSET, 'If-Match: "other"'),
        412,
        "precondition_failed",
    ),
    "an asset that is newer": (
        head("GET", ASSET, "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
        412,
        "precondition_failed",
    ),
    "a body that is too large": (
        head("POST", PREDICT, "Content-Length: 2000"),
        413,
        "too_large",
    ),
    "an encoding that is not known": (
        head("POST", PREDICT, "Content-Encoding: rot13", "Content-Length: 1") + b"a",
        415,
        "unsupported_encoding",
    ),
    "bytes behind the end of an asset": (
        head("GET", ASSET, "Range: bytes=99999999-"),
        416,
        "range_not_satisfiable",
    ),
    "a malformed range": (head("GET", ASSET, "Range: bytes"), 416, "range_not_satisfiable"),
    "a foreign host": (
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        421,
        "foreign_host",
    ),
    "a large header": (head("GET", "/", f"X: {'a' * 70_000}"), 431, "head_too_large"),
    "a large target": (head("GET", f"/{'a' * 70_000}"), 431, "head_too_large"),
}


def check(answer: RawAnswer, status: int, code: str) -> None:
    assert answer.status == status
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    error = json.loads(answer.body)
    assert set(error) == {"message", "code", "request_id"}
    assert error["request_id"] == answer.header("X-Request-ID") != ""
    assert error["code"] == code
    assert error["message"] == answer.reason


@pytest.mark.parametrize(("request_", "status", "code"), CASES.values(), ids=CASES)
def test_error_is_json(server: Server, request_: bytes, status: int, code: str) -> None:
    check(server.raw(request_), status, code)


def test_range_that_an_asset_does_not_have_is_told_with_its_size(server: Server) -> None:
    size = len(server.get(ASSET).content)
    answer = server.raw(head("GET", ASSET, f"Range: bytes={size}-"))
    assert answer.header("Content-Range") == f"bytes */{size}"


def test_ranges_and_conditions_that_hold_are_answered(server: Server) -> None:
    whole = server.get(ASSET)
    tag, changed = whole.headers["ETag"], whole.headers["Last-Modified"]
    part = server.get(ASSET, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    end = server.get(ASSET, headers={"Range": "bytes=-5"})
    assert (end.status_code, end.content) == (206, whole.content[-5:])
    for name, value in {"If-Match": tag, "If-Unmodified-Since": changed}.items():
        assert server.get(ASSET, headers={name: value}).status_code == 200
    assert server.get(ASSET, headers={"If-Match": "*"}).status_code == 200
    assert server.get(ASSET, headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("path", ["/nowhere", "/v2/models/nope/", f"{ASSET}.nope"])
def test_unknown_path_keeps_its_text(server: Server, path: str) -> None:
    answer = server.get(path)
    assert (answer.status_code, answer.text) == (404, "404: Not Found")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_what_a_model_does_not_implement_keeps_its_text(serve: Serve) -> None:
    answer: httpx.Response = serve({}, "zoo.plain").post("/v2/models/plain/train/")
    assert answer.status_code == 501
    assert answer.text.startswith("501: Not implemented by underlying model")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
