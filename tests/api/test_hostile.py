"""Malformed requests get a 4xx or a closed connection, and have no other effect."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.conftest import Serve
from tests.serving.processes import MEGABYTE, Growth, answers, pids
from tests.serving.traces import seconds_of_work
from tests.support import HOST, RawAnswer, Server, predictions, wait_until

MODELS = ["zoo.echo", "zoo.files", "zoo.rich", "zoo.media_free"]


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, *MODELS)


@pytest.fixture(autouse=True)
def _nothing_else_happens(server: Server) -> Iterator[None]:
    """Check that the workers survive, the log has no traceback, and no file stays."""
    models = [target.partition(".")[2] for target in MODELS]
    before, workers = len(server.log()), [pids(server, model) for model in models]
    yield
    assert answers(server, "echo", params={"text": "a"}) == {"text": ["str", "a"]}
    assert [pids(server, model) for model in models] == workers
    wait_until(lambda: not server.temporary_files(), within=3, what="removal of all files")
    new = server.log()[before:]
    assert "Traceback" not in new
    assert "ERROR" not in new
    assert "Logging error" not in new


def outcome(server: Server, data: bytes, *, timeout: float = 3) -> RawAnswer | None:
    """Return the response to these bytes, or None if the connection was closed without one."""
    try:
        return server.raw(data, timeout=timeout)
    except ConnectionError:
        return None


def refused(server: Server, data: bytes) -> None:
    answer = outcome(server, data)
    assert answer is None or 400 <= answer.status < 500, answer


def post(
    body: bytes = b"",
    *,
    model: str = "echo",
    query: bytes = b"",
    content_type: bytes = b"application/json",
    headers: bytes = b"",
    length: bytes | None = None,
) -> bytes:
    """Return a request that has exactly these parts."""
    size = b"%d" % len(body) if length is None else length
    return (
        b"POST /v2/models/"
        + model.encode()
        + b"/predict/"
        + query
        + b" HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: " + content_type + b"\r\n"
        b"Content-Length: " + size + b"\r\n" + headers + b"\r\n" + body
    )


# --- multipart

FORM = b"multipart/form-data; boundary=b"


def form(body: bytes, content_type: bytes = FORM) -> bytes:
    return post(body, model="files", content_type=content_type)


def part(headers: bytes, content: bytes = b"x") -> bytes:
    return b"--b\r\n" + headers + b"\r\n\r\n" + content + b"\r\n--b--\r\n"


NAMED = b'Content-Disposition: form-data; name="data"; filename="a.bin"'

MALFORMED = {
    "no boundary": form(part(NAMED), b"multipart/form-data"),
    "empty boundary": form(part(NAMED), b"multipart/form-data; boundary="),
    "long boundary": form(b"--" + b"b" * 71 + b"--", FORM + b"b" * 70),
    "very long boundary": form(b"--" + b"b" * 5000 + b"--", FORM + b"b" * 5000),
    "other boundary": form(part(NAMED).replace(b"--b", b"--c")),
    "bytes in boundary": form(part(NAMED), b"multipart/form-data; boundary=\xff\xfe"),
    "coded boundary": form(part(NAMED), b"multipart/form-data; boundary*=undefined''x"),
    "many digits": form(part(NAMED), b"multipart/form-data; boundary*" + b"9" * 5000 + b"=b"),
    "garbage": form(b"\x00\xff garbage"),
    "cut in the headers": form(b"--b\r\nContent-Dispo"),
    "cut in the content": form(b"--b\r\n" + NAMED + b"\r\n\r\nx"),
    "cut in the end": form(part(NAMED)[:-5]),
    "no headers": form(b"--b\r\n\r\nx\r\n--b--\r\n"),
    "no name": form(part(b'Content-Disposition: form-data; filename="a"')),
    "no disposition": form(part(b"Content-Type: text/plain")),
    "empty disposition": form(part(b"Content-Disposition:")),
    "semicolons": form(part(b"Content-Disposition: ;;;=;=")),
    "header without colon": form(part(b"Content-Disposition")),
    "header with a space": form(part(b"Content Disposition: form-data; name=a")),
    "null byte in a header": form(part(b"Content-\x00Disposition: form-data; name=a")),
    "huge header": form(part(NAMED + b"\r\nX-Long: " + b"x" * MEGABYTE)),
    "many headers": form(part(NAMED + b"\r\nX: y" * 10_000)),
    "bare line feeds": form(part(NAMED).replace(b"\r\n", b"\n")),
    "unknown charset": form(
        part(b'Content-Disposition: form-data; name="text"\r\nContent-Type: text/plain; charset=no')
    ),
    "charset that is none": form(
        part(b'Content-Disposition: form-data; name="text"\r\nContent-Type: text/x; charset=hex')
    ),
    "text beyond all measure": form(
        part(b'Content-Disposition: form-data; name="text"', b"x" * 5 * MEGABYTE)
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_form_is_refused(server: Server, case: str) -> None:
    answer = outcome(server, MALFORMED[case])
    assert answer is not None
    assert answer.status in (400, 413)
    assert set(json.loads(answer.body)) == {"message", "code", "request_id"}


ODD = {
    "surrogate by charset": b'name="text"\r\nContent-Type: text/plain; charset=unicode_escape',
    "surrogate by utf-7": b'name="text"\r\nContent-Type: text/plain; charset=utf-7',
    "name of bytes": b'name="\xff\xfe"',
    "name in an unknown charset": b"name*=nowhere''%ff",
    "name in no charset": b"name*=undefined''%ff",
    "name with a surrogate": b"name*=unicode_escape''%5cud800",
    "name in pieces": b"name*0*=undefined''%ff; name*1=x",
    "name in piece 99999999999999": b"name*99999999999999=x",
    "file name of bytes": b'name="data"; filename="\xff\xfe"',
    "file name of dots": b'name="data"; filename="../../.."',
    "file name with null byte": b'name="data"; filename="a\x00b"',
    "file name in an unknown charset": b"name=data; filename*=nowhere''%ff",
    "quotes": b'name="a\\"b"; filename="""""',
}


@pytest.mark.parametrize("case", ODD)
def test_odd_part_is_taken_or_refused(server: Server, case: str) -> None:
    body = part(b"Content-Disposition: form-data; " + ODD[case], b"\\ud800 +2AA-")
    answer = outcome(server, form(body))
    assert answer is not None
    assert answer.status in (200, 400, 422)


@pytest.mark.parametrize("filler", [b";", b";a=b", b'\\"', b";a*1*=b", b"=", b" ", b'";'])
@pytest.mark.parametrize("where", ["content type", "part"])
def test_long_header_of_a_form_holds_up_nobody(server: Server, where: str, filler: bytes) -> None:
    """The time for parsing does not grow with the square of the length."""
    tail = b'; a="' + filler * (60_000 // len(filler))
    data = (
        form(part(NAMED), FORM + tail)
        if where == "content type"
        else form(part(NAMED + tail[:15_000]))
    )
    before = seconds_of_work(server, workers=True)
    outcome(server, data)
    assert seconds_of_work(server, workers=True) - before < 1


# --- the length of the body


def send(server: Server, data: bytes, *, close: bool = False) -> bytes:
    """Send bytes; return everything that the server sends until it closes the connection.

    If `close` is set, shut down the sending side first.
    """
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        connection.sendall(data)
        if close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                received += chunk
        return received


def nothing_or_refusal(received: bytes) -> bool:
    """Return whether the server sent nothing, or exactly one response with a 4xx."""
    if received.count(b"HTTP/1.") > 1:
        return False
    return received == b"" or received[:10] in (b"HTTP/1.0 4", b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "data",
    [
        post(b'{"text": ', length=b"100"),
        post(b"", length=b"100"),
        post(part(NAMED)[:-10], model="files", content_type=FORM, length=b"1000"),
        post(part(NAMED), model="files", content_type=FORM, length=b"1000"),
        post(b"x" * 200_000, length=b"300000"),
    ],
    ids=["json", "nothing", "form", "whole form", "large"],
)
def test_body_shorter_than_announced_is_no_request(server: Server, data: bytes) -> None:
    assert nothing_or_refusal(send(server, data, close=True))


@pytest.mark.parametrize(
    "length", [b"-2", b"+2", b"0x2", b"2, 2", b"2 2", b"two", b"9" * 30, b"", b"2\x00"]
)
def test_length_that_is_no_number_is_refused(server: Server, length: bytes) -> None:
    refused(server, post(b"{}", length=length))


CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

AMBIGUOUS = {
    "two lengths": post(b"{}", headers=b"Content-Length: 3\r\n"),
    "two equal lengths": post(b"{}", headers=b"Content-Length: 2\r\n"),
    "length and chunks": post(b"0\r\n\r\n" + SMUGGLED, headers=CHUNKED, length=b"5"),
    "length beyond the chunks": post(b"0\r\n\r\n" + SMUGGLED, headers=CHUNKED),
    "chunks twice": post(b"0\r\n\r\n", headers=CHUNKED + CHUNKED, length=b"5"),
    "other coding": post(b"0\r\n\r\n", headers=b"Transfer-Encoding: xchunked\r\n", length=b"5"),
    "space before the colon": post(b"{}" + SMUGGLED, headers=b"Content-Length : 90\r\n"),
    "folded header": post(b"0\r\n\r\n", headers=b"Transfer-Encoding:\r\n chunked\r\n"),
    "header with line feed": post(b"{}", headers=b"X: y\nTransfer-Encoding: chunked\r\n"),
    "header with carriage return": post(b"{}", headers=b"X: y\rTransfer-Encoding: chunked\r\n"),
    "null byte in a header": post(b"{}", headers=b"X: y\x00z\r\n"),
    "two hosts": post(b"{}", headers=b"Host: y\r\n"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_ambiguous_request_is_refused_and_nothing_is_smuggled(server: Server, case: str) -> None:
    before = len(server.log())
    assert nothing_or_refusal(send(server, AMBIGUOUS[case]))
    assert "smuggled" not in server.log()[before:]


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n{}\r\n", b"-2\r\n{}\r\n", b"f" * 20 + b"\r\n", b"2\r\n{}x", b"2;" + b"x" * 100_000],
    ids=["no number", "negative", "overflow", "no end", "long extension"],
)
def test_malformed_chunks_are_refused(server: Server, chunks: bytes) -> None:
    head = post().replace(b"Content-Length: 0\r\n", CHUNKED)
    assert nothing_or_refusal(send(server, head + chunks, close=True))


def test_what_follows_a_refused_body_is_no_request(server: Server) -> None:
    """After an early refusal, the rest of the body is never read as the next request."""
    before = len(server.log())
    data = form(b"--b\r\nno header\r\n" + SMUGGLED * 100)
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        connection.sendall(data[:1000])
        assert read_answers(connection, 1).startswith(b"HTTP/1.1 400")
        with contextlib.suppress(ConnectionError):
            connection.sendall(data[1000:] + post(b'{"text": "next"}'))
            assert b'"next"' in read_answers(connection, 1)
    assert "smuggled" not in server.log()[before:]


# --- JSON and other bodies

NO_ARGUMENTS = {
    "null": b"null",
    "list": b"[]",
    "number": b"5",
    "string": b'"text"',
    "nothing but spaces and a letter": b"  x",
    "cut": b'{"text": "a"',
    "two": b"{}{}",
    "null byte": b"\x00",
    "no utf-8": b'{"text": "\xff"}',
    "utf-16": b'{"text": "a"}'.decode().encode("utf-16"),
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep lists without end": b"[" * 100_000,
    "deep objects": b'{"text":' * 100_000 + b"1" + b"}" * 100_000,
    "deep argument": b'{"text":' + b"[" * 900 + b"]" * 900 + b"}",
    "deep nothing": b'{"none":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "many digits": b'{"number": ' + b"1" * 10_000 + b"}",
    "huge exponent": b'{"number": 1e999999999}',
}


@pytest.mark.parametrize("content_type", [b"application/json", b"application/json; charset=utf-8"])
@pytest.mark.parametrize("case", NO_ARGUMENTS)
def test_json_that_is_no_arguments_is_refused(
    server: Server, case: str, content_type: bytes
) -> None:
    answer = outcome(server, post(NO_ARGUMENTS[case], content_type=content_type))
    assert answer is not None
    assert answer.status in (400, 422)
    assert answer.header("Content-Type") == "application/json"
    assert isinstance(json.loads(answer.body), dict)


@pytest.mark.parametrize(
    "charset", [b"nowhere", b"hex", b"undefined", b"\xff", b"'", b'"', b"a" * 5000]
)
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"application/json", b'{"text": "abc"}'),
        (b"application/x-www-form-urlencoded", b"text=abc"),
    ],
    ids=["json", "form"],
)
def test_unknown_charset_is_refused(
    server: Server, content_type: bytes, body: bytes, charset: bytes
) -> None:
    data = post(body, content_type=content_type + b"; charset=" + charset)
    answer = outcome(server, data)
    assert answer is not None
    assert answer.status == 400


@pytest.mark.parametrize(
    "data",
    [
        post(b"{}", content_type=b"\xff"),
        post(b"{}", content_type=b""),
        post(b"{}", content_type=b"a" * 10_000),
        post(b"{}", model="rich", query=b"?required=1", headers=b"Header: \xff\xfe\r\n"),
        post(b"{}", model="rich", query=b"?required=1", headers=b"Accept: \xff\r\n"),
        post(b"{}", query=b"?%ff=%ff&%=%&text=%ed%a0%80"),
        post(b"{}", headers=b"User-Agent: \xff\x1b[31m\r\n"),
        post(b'{"text": "\\ud800"}'),
        post(b"text=%ff", content_type=b"application/x-www-form-urlencoded"),
        post(
            b"text=%5cud800",
            content_type=b"application/x-www-form-urlencoded; charset=unicode_escape",
        ),
    ],
)
def test_bytes_that_are_no_text_do_no_harm(server: Server, data: bytes) -> None:
    answer = outcome(server, data)
    assert answer is not None
    assert answer.status in (200, 400, 422)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"zstd"])
def test_body_that_is_not_compressed_as_it_says_is_refused(server: Server, encoding: bytes) -> None:
    answer = outcome(
        server, post(b'{"text": "a"}', headers=b"Content-Encoding: " + encoding + b"\r\n")
    )
    assert answer is None or answer.status in (400, 415)


@pytest.mark.parametrize(
    "value",
    [
        b"text/html%0d%0aX-Evil:%201",
        b"text/html%0d%0a;x",
        b"text/html%00",
        b"%0a",
        b"%ed%a0%80/x",
        b"text/%E2%82%AC",
    ],
)
def test_media_type_cannot_break_the_answer(server: Server, value: bytes) -> None:
    answer = outcome(server, post(model="media_free", query=b"?accept=" + value))
    assert answer is not None
    assert answer.status in (400, 422)
    assert answer.header("X-Evil") is None


# --- paths

OUT_OF_REACH = [
    "/v2/models/%2e%2e/",
    "/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd/",
    "/v2/models/..%2f/",
    "/v2/models/%00/",
    "/v2/models/echo%00/",
    "/v2/models/echo%2fpredict/",
    "/v2/models/%ff%fe/",
    "/v2/models/%/",
    "/static/swagger/..%2f..%2fetc/passwd",
    "/static/swagger/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/static/swagger/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/static/swagger/%2e%2e%2f__init__.py",
    "/static/swagger/__init__.py",
    "/static/swagger/index.html%00.js",
    "/static/swagger/%2fetc%2fpasswd",
    "/static/swagger//etc/passwd",
    "/static/swagger/",
    "/static/swagger/..",
    "/static/swagger/swagger-ui.css/..",
    "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/../../../../etc/passwd",
    "/.",
    "/v2/../../etc/passwd",
    "/" + "a" * 60_000,
    "/" * 30_000 + "a",
    "/%25%32%65%25%32%65/",
]


@pytest.mark.parametrize("path", OUT_OF_REACH, ids=lambda path: path[:50])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_path_to_nowhere_is_404(server: Server, method: str, path: str) -> None:
    answer = server.raw_request(method, path, timeout=25)
    assert answer.status in ((400, 404) if method == "GET" else (400, 404, 405))
    assert b"root:" not in answer.body
    assert len(answer.body) < 1000


@pytest.mark.parametrize(
    "target",
    [b"/\x00", b"/v2/models/\x00/", b"/a b", b"/\xff", b"*", b"http://[::1", b"http://x:99999999/"],
)
@pytest.mark.parametrize("method", [b"GET", b"OPTIONS"])
def test_target_that_is_no_path_is_refused(server: Server, method: bytes, target: bytes) -> None:
    if (method, target) == (b"OPTIONS", b"*"):  # it is about the whole server
        return
    refused(server, method + b" " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")


# --- HTTP itself

NO_HTTP = {
    "garbage": b"garbage\r\n\r\n",
    "nothing": b"\r\n\r\n\r\n\r\nx\r\n\r\n",
    "binary": bytes(range(256)) + b"\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100 + b"\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/9": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "lower-case method": b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown method": b"STEAL / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "connect": b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "trace": b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "header without colon": b"GET / HTTP/1.1\r\nHost: localhost\r\nheader\r\n\r\n",
    "header without name": b"GET / HTTP/1.1\r\nHost: localhost\r\n: y\r\n\r\n",
    "huge line": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "huge header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
}


@pytest.mark.parametrize("case", NO_HTTP)
def test_what_is_no_http_is_refused(server: Server, case: str) -> None:
    refused(server, NO_HTTP[case])


def test_headers_without_end_stay_out_of_memory(server: Server) -> None:
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with Growth(server.pid) as growth, contextlib.suppress(ConnectionError):
            for _ in range(2000):
                connection.sendall(b"X: " + b"y" * 10_000 + b"\r\n")
        assert growth.bytes < 20 * MEGABYTE


def test_upgrade_to_another_protocol_is_not_done(server: Server) -> None:
    headers = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n"
    answer = outcome(server, post(b'{"text": "a"}', headers=headers))
    assert answer is not None
    assert answer.status in (200, 400, 426)


CHANGES = {
    "websocket": b"POST /v2/models/echo/predict/ HTTP/1.1\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n",
    "tunnel": b"CONNECT localhost:1 HTTP/1.1\r\n",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("behind", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"8\r\n\r\n{}"])
@pytest.mark.parametrize("size", [1, 1000])
def test_what_follows_a_request_for_another_protocol_is_no_request(
    server: Server, change: str, behind: bytes, size: int
) -> None:
    """A proxy may treat these bytes as the body, or as bytes of the other protocol."""
    head = CHANGES[change] + b"Host: localhost\r\nContent-Length: %d\r\n\r\n" % len(behind)
    data = head + behind
    with socket.create_connection((HOST, server.port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), size):
                connection.sendall(data[start : start + size])
        received = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += chunk
    assert received.count(b"HTTP/1.1 ") == 1, received
    assert re.match(rb"HTTP/1.1 (200|405) ", received)
    assert b"\r\nConnection: close\r\n" in received


def read_answers(connection: socket.socket, count: int) -> bytes:
    received = b""
    while received.count(b"\r\n\r\n{") < count:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError(f"closed after {received!r}")
        received += chunk
    return received


def test_request_that_comes_byte_by_byte_is_answered(server: Server) -> None:
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(b'{"text": "slow"}'):
            connection.sendall(bytes([byte]))
        assert b'"slow"' in read_answers(connection, 1)


def test_connection_that_says_nothing_holds_up_nobody(server: Server) -> None:
    with contextlib.ExitStack() as silent:
        for number in range(200):
            connection = socket.create_connection((HOST, server.port), timeout=25)
            silent.enter_context(connection)
            connection.sendall(post(b"{", length=b"100")[: number * 2])
        assert answers(server, "echo", params={"text": "b"}) == {"text": ["str", "b"]}
    process = psutil.Process(server.pid)
    wait_until(lambda: process.num_fds() < 100, within=5, what="end of the connections")


def test_http_1_0_gets_an_answer_and_the_end(server: Server) -> None:
    data = post(b'{"text": "old"}').replace(b"HTTP/1.1", b"HTTP/1.0")
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert b" 200 OK\r\n" in received
    assert b'"old"' in received
    assert b"chunked" not in received


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    requests = [post(b'{"number": %d}' % number) for number in range(50)]
    requests[25] = post(b"no json")
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        connection.sendall(b"".join(requests))
        received = read_answers(connection, 50).split(b"HTTP/1.1 ")[1:]
    assert len(received) == 50
    assert received.pop(25).startswith(b"400")
    numbers = [json.loads(one.partition(b"\r\n\r\n")[2]) for one in received]
    expected = [number for number in range(50) if number != 25]
    assert [one["predictions"]["number"][1] for one in numbers] == expected


def test_all_of_it_at_once_harms_no_other_request(server: Server) -> None:
    cases = [*MALFORMED.values(), *NO_HTTP.values(), *AMBIGUOUS.values()]
    cases = [case for case in cases if len(case) < 300_000]

    def good(number: int) -> bool:
        answer = predictions(server.predict("echo", json={"number": number}))
        return bool(answer == {"number": ["int", number]})

    def bad(data: bytes) -> bool:
        refused(server, data)
        return True

    with ThreadPoolExecutor(8) as executor:
        bads = executor.map(bad, cases * 2)
        goods = executor.map(good, range(100))
        assert all(goods)
        assert all(bads)
