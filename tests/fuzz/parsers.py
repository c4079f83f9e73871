"""Fuzz tests of the parsers of forms, of JSON, and of messages between server and worker."""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st

from deepaas import exact_json
from deepaas.exceptions import RequestError
from deepaas.file_part import FilePart
from deepaas.http.forms import Form
from deepaas.http.server_timing import line_of
from deepaas.model.v2.exchange import Call, Measured, Reply
from deepaas.protocol import messages
from deepaas.serving.times import times_of
from tests.api.form_bodies import CONTENT_TYPE, Uploads
from tests.fuzz.mutations import cut, mutated, of_tokens
from tests.fuzz.over_http import FORM_TOKENS, JSON_TOKENS

Check = Callable[[Any], None]


# --- forms


def read_form(chunks: Sequence[bytes]) -> Any:
    """Return the parts with their files' contents, or the status and the text of the error."""
    with TemporaryDirectory() as directory:
        try:
            return Uploads(Path(directory)).read(*chunks, parts=6, text=500)
        except RequestError as error:
            return error.status, str(error)


@contextlib.contextmanager
def forms() -> Iterator[Check]:
    def check(drawn: tuple[bytes, list[int]]) -> None:
        body, chosen = drawn
        assert read_form([body]) == read_form(cut(body, chosen))

    yield check


# --- JSON


def _standard(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@contextlib.contextmanager
def json_values() -> Iterator[Check]:
    """Check that the standard library reads the same value from all text `exact_json` accepts."""

    def check(text: bytes) -> None:
        try:
            value = exact_json.loads(text)
        except ValueError:
            return
        assert repr(value) == repr(_standard(text))

    yield check


# --- packets of calls

texts = st.text(max_size=8)
headers = st.dictionaries(texts, texts, max_size=2)
file_parts = st.builds(FilePart, texts, texts, texts)
calls = st.builds(
    Call,
    query=texts,
    content_type=texts,
    headers=headers,
    form=st.none() | st.lists(st.tuples(texts, texts | file_parts), max_size=3),
    body=st.binary(max_size=20),
    validate=st.sampled_from(["", "train"]),
)
packets_of_calls = st.builds(
    lambda number, call: messages.encode_call(number, messages.encode_meta(call), call.body),
    st.integers(0, 9),
    calls,
)
PROTOCOL_TOKENS = [
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\1\0\0\0", b"\0\0\0\1", b"\x7f"),
    *(b"[", b"]", b"{", b"}", b",", b'""', b"null", b"true", b"1", b"[]", b"{}", b'{"a":1}', b"\n"),
    *(b'["Phase",', b'["Ready",', b'["Taken",', b'{"phase":', b'{"description":{}}', b"[" * 2000),
]


@contextlib.contextmanager
def packets() -> Iterator[Check]:
    def check(packet: bytes) -> None:
        try:
            number, call = messages.decode_call(memoryview(packet))
        except (ValueError, TypeError, OSError, struct.error):  # only the server writes packets
            return
        assert messages.call_id_of(packet) == number
        again = messages.encode_call(number, messages.encode_meta(call), call.body)
        assert messages.decode_call(memoryview(again)) == (number, call)

    yield check


# --- replies of workers

measured = st.tuples(*[st.floats()] * 5, st.integers(0, 2**32 - 1))
replies = st.builds(
    Reply,
    status=st.integers(200, 599),
    body=st.binary(max_size=20),
    headers=st.none() | headers,
    reason=texts,
    code=texts,
    fd=st.sampled_from([-1, -1, 5]),
    measured=measured,
)
beginnings = st.builds(messages.Opened, headers, measured=measured)
parts = st.builds(messages.Part, st.binary(max_size=20))
ends = st.builds(messages.Closed, texts, texts)
streamed = beginnings | parts | ends


def encoded(number: int, message: messages.ReplyMessage) -> bytes:
    if isinstance(message, Reply):
        return messages.encode_reply(number, message)
    return messages.encode_stream(number, message)


reply_streams = st.lists(
    st.builds(encoded, st.sampled_from([0, 0, 1, 7]), replies | streamed), max_size=5
).map(b"".join)


def read_replies(chunks: Sequence[bytes], fds: list[int]) -> tuple[list[Any], bool]:
    """Return the messages before the first error, and whether there was an error.

    Also checks that no descriptor is lost.
    """
    reader = messages.ReplyReader()
    found: list[Any] = []
    failed = False
    try:
        for number, chunk in enumerate(chunks):
            for call_id, message in reader.feed(chunk, list(fds) if not number else []):
                assert_well_formed(message)
                found.append((call_id, message))
    except ValueError:
        failed = True
    taken = [one.fd for _, one in found if isinstance(one, Reply) and one.fd >= 0]
    assert sorted(taken + reader.take_fds()) == sorted(fds)
    return found, failed


def assert_well_formed(message: messages.ReplyMessage) -> None:
    if isinstance(message, Reply):
        assert 200 <= message.status <= 599
        assert isinstance(message.reason, str)
        assert isinstance(message.code, str)
        _assert_headers(message.headers if message.headers is not None else {})
        _assert_sane(message.measured)
    elif isinstance(message, messages.Opened):
        _assert_sane(message.measured)
        _assert_headers(message.headers)
    elif isinstance(message, messages.Closed):
        assert isinstance(message.reason, str)
        assert isinstance(message.code, str)


def _assert_sane(found: Measured) -> None:
    """Check that the server makes plausible times of what a worker has measured."""
    submitted = time.monotonic() - 1.0
    times = times_of(submitted, found)
    assert min(times) >= 0.0
    assert sum(times) <= (time.monotonic() - submitted) * 1.000001
    line_of(times)


def _assert_headers(found: Any) -> None:
    assert type(found) is dict
    assert all(type(text) is str for item in found.items() for text in item)


@contextlib.contextmanager
def reply_readers() -> Iterator[Check]:
    def check(drawn: tuple[bytes, list[int]]) -> None:
        stream, chosen = drawn
        assert read_replies([stream], []) == read_replies(cut(stream, chosen), [])
        if stream:
            read_replies(cut(stream, chosen), [1001])  # the cuts decide whose it is

    yield check


# --- lines on the control connection

control_messages: st.SearchStrategy[messages.ControlMessage] = (
    st.builds(messages.Phase, texts)
    | st.builds(messages.Ready, st.dictionaries(texts, texts, max_size=2))
    | st.builds(messages.Failed, texts, texts)
    | st.builds(messages.Taken, st.integers(0, 2**33), st.integers(0, 2**33))
    | st.builds(messages.Cancel, st.integers(0, 9))
)
control_lines = control_messages.map(messages.encode_control)


@contextlib.contextmanager
def control() -> Iterator[Check]:
    def check(line: bytes) -> None:
        try:
            message = messages.decode_control(line)
        except ValueError:
            return
        again = messages.decode_control(messages.encode_control(message))
        assert repr(again) == repr(message)  # a message with NaN is not equal to itself

    yield check


# --- work

MOST_REPEATED = 64


def calls_of(work: Callable[[], object]) -> int:
    """Count the calls of Python and C functions: a measure of work that needs no clock."""
    count = 0

    def profile(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        with contextlib.suppress(ValueError, RequestError):
            work()
    finally:
        sys.setprofile(before)
    return count


class _Nowhere:
    def write(self, data: memoryview, /) -> int:
        return len(data)

    def close(self) -> None:
        pass


def _feed_form(data: bytes) -> None:
    form = Form(CONTENT_TYPE, 10**6, 10**6, lambda _: ("/dev/null", _Nowhere()))
    for piece in form.pieces(data):
        form.feed(piece)


def _read_reply_stream(data: bytes) -> None:
    for _ in messages.ReplyReader().feed(data, []):
        pass


WORK: dict[str, Callable[[bytes], object]] = {
    "form": _feed_form,
    "json": exact_json.loads,
    "replies": _read_reply_stream,
}
repeated = st.tuples(
    st.sampled_from(sorted(WORK)),
    of_tokens(FORM_TOKENS + JSON_TOKENS, most=4),
    of_tokens(FORM_TOKENS + JSON_TOKENS, most=4),
    of_tokens(FORM_TOKENS, most=3),
)


@contextlib.contextmanager
def work() -> Iterator[Check]:
    """Check that four times the input takes at most about four times as many function calls."""

    def check(drawn: tuple[str, bytes, bytes, bytes]) -> None:
        kind, before, unit, after = drawn
        few, many = (
            calls_of(lambda count=count: WORK[kind](before + unit * count + after))  # type: ignore[misc]
            for count in (MOST_REPEATED // 4, MOST_REPEATED)
        )
        assert many <= 5 * few + 1000, f"{few} calls become {many}"

    yield check


hostile_packets = mutated(packets_of_calls, PROTOCOL_TOKENS) | of_tokens(PROTOCOL_TOKENS, most=8)
hostile_replies = mutated(reply_streams, PROTOCOL_TOKENS) | of_tokens(PROTOCOL_TOKENS, most=8)
hostile_lines = mutated(control_lines, PROTOCOL_TOKENS) | of_tokens(PROTOCOL_TOKENS, most=8)
