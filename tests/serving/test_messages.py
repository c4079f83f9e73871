"""Encoding and decoding of every message between server and worker."""

from __future__ import annotations

import json
import resource
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaas.file_part import FilePart
from deepaas.model.v2.exchange import NOT_MEASURED, Call, Measured, Reply
from deepaas.protocol.messages import (
    ALONE,
    CALL_HEADER,
    MAX_LINE,
    MAX_PACKET,
    MAX_REPLY,
    CallOptions,
    Cancel,
    Closed,
    ControlMessage,
    Failed,
    Opened,
    Part,
    Phase,
    Ready,
    ReplyMessage,
    ReplyReader,
    Start,
    Taken,
    call_id_of,
    call_in_file,
    concurrency_of,
    cut_lines,
    decode_call,
    decode_control,
    encode_call,
    encode_control,
    encode_meta,
    encode_reply,
    encode_stream,
    spill,
    with_concurrency,
)

texts = st.text(max_size=20)
ids = st.integers(0, 2**32 - 1)
headers = st.dictionaries(texts, texts, max_size=3)
file_parts = st.builds(FilePart, texts, texts, texts)
forms = st.none() | st.lists(st.tuples(texts, texts | file_parts), max_size=4)
calls = st.builds(
    Call,
    query=texts,
    content_type=texts,
    headers=headers,
    form=forms,
    body_path=texts,
    body=st.binary(max_size=200),
    validate=st.sampled_from(["", "train", "predict"]),
)
replies = st.builds(
    Reply,
    status=st.integers(200, 599),
    body=st.binary(max_size=60),
    headers=st.none() | headers,
    reason=texts,
    code=texts.filter(bool),
) | st.builds(Reply, status=st.integers(200, 599), body=st.binary(max_size=60))


def packet_of(call_id: int, call: Call) -> bytes:
    return encode_call(call_id, encode_meta(call), call.body)


# --- calls -----------------------------------------------------------------------------------


@given(ids, calls)
def test_call_comes_back_as_it_was(call_id: int, call: Call) -> None:
    packet = packet_of(call_id, call)
    assert call_id_of(packet) == call_id
    assert decode_call(memoryview(packet)) == (call_id, call)


def test_parts_of_a_form_keep_their_kinds() -> None:
    part = FilePart("/uploads/1", "image/png", "cat.png")
    call = Call(form=[("a", "text"), ("b", part), ("a", "")])
    _, decoded = decode_call(memoryview(packet_of(1, call)))
    assert decoded.form == [("a", "text"), ("b", part), ("a", "")]
    assert [type(pair) for pair in decoded.form] == [tuple, tuple, tuple]


def test_body_does_not_change_with_the_buffer_it_came_in() -> None:
    buffer = bytearray(packet_of(1, Call(body=b"abc")))
    _, call = decode_call(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert call.body == b"abc"


def test_small_call_has_a_small_packet() -> None:
    packet = packet_of(7, Call("a=1", "application/json", body=b"{}"))
    assert packet[CALL_HEADER:] == b'["a=1","application/json"]{}'


def test_small_check_says_what_is_checked() -> None:
    packet = packet_of(7, Call("a=1", "application/json", body=b"{}", validate="train"))
    assert packet[CALL_HEADER:] == b'["a=1","application/json",{},null,"","train"]{}'
    assert decode_call(memoryview(packet))[1].validate == "train"


@settings(deadline=None)
@given(ids, calls)
def test_call_in_a_file_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, call_id: int, call: Call
) -> None:
    path = tmp_path_factory.getbasetemp() / "call-ä"
    path.write_bytes(packet_of(call_id, call))
    packet = call_in_file(call_id, str(path))
    assert call_id_of(packet) == call_id
    assert decode_call(memoryview(packet)) == (call_id, call)


def test_id_of_a_call_in_a_file_is_that_of_the_packet(tmp_path: Path) -> None:
    path = tmp_path / "call"
    path.write_bytes(packet_of(1, Call()))
    assert decode_call(memoryview(call_in_file(2, str(path)))) == (2, Call())


def test_file_of_a_call_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        decode_call(memoryview(call_in_file(1, str(tmp_path / "gone"))))


@pytest.mark.parametrize("check", ["", "train"])
def test_spilled_call_comes_back_as_it_was(tmp_path: Path, check: str) -> None:
    call = Call("a=1", form=[("a", "x" * MAX_PACKET)], body=b"b", validate=check)
    packet, path = spill(9, packet_of(9, call), str(tmp_path))
    assert len(packet) <= MAX_PACKET
    assert [str(file) for file in tmp_path.iterdir()] == [path]
    assert decode_call(memoryview(packet)) == (9, call)


def test_spilled_call_is_private(tmp_path: Path) -> None:
    _, path = spill(9, packet_of(9, Call(body=b"secret")), str(tmp_path))
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_call_is_spilled_to_the_systems_directory_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _, path = spill(9, packet_of(9, Call()), "")
    assert Path(path).parent == tmp_path


def test_call_that_cannot_be_spilled_leaves_no_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    packet = packet_of(9, Call(body=bytes(100_000)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            spill(9, packet, str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


# --- expected concurrency --------------------------------------------------------------------


@given(ids, calls, st.integers(0, 0xFFFF))
def test_company_of_a_call(call_id: int, call: Call, concurrency: int) -> None:
    packet = packet_of(call_id, call)
    assert concurrency_of(memoryview(packet)) == 1
    accompanied = with_concurrency(packet, concurrency)
    assert concurrency_of(memoryview(accompanied)) == concurrency
    assert decode_call(memoryview(accompanied)) == (call_id, call)
    assert len(accompanied) == len(packet)


def test_company_of_a_call_in_a_file_is_that_of_the_packet(tmp_path: Path) -> None:
    path = tmp_path / "call"
    path.write_bytes(packet_of(1, Call(query="a=1")))
    packet = with_concurrency(call_in_file(1, str(path)), 7)
    assert concurrency_of(memoryview(packet)) == 7
    assert decode_call(memoryview(packet)) == (1, Call(query="a=1"))


def test_large_company_is_as_large_as_can_be_said() -> None:
    packet = packet_of(1, Call())
    assert concurrency_of(memoryview(with_concurrency(packet, 1_000_000))) == 0xFFFF


def test_nobody_has_the_company_of_those_who_are_alone() -> None:
    packet = packet_of(1, Call())
    assert concurrency_of(memoryview(with_concurrency(packet, ALONE))) == ALONE
    assert concurrency_of(memoryview(packet)) != ALONE


# --- replies ---------------------------------------------------------------------------------


Sent = tuple[int, ReplyMessage]


def read(chunks: Sequence[bytes]) -> list[Sent]:
    reader = ReplyReader()
    return [found for chunk in chunks for found in reader.feed(chunk, [])]


@given(ids, replies)
def test_reply_comes_back_as_it_was(call_id: int, reply: Reply) -> None:
    assert read([encode_reply(call_id, reply)]) == [(call_id, reply)]


MEASURED: Measured = (12345.5, 0.25, 0.5, 4000.75, 0.0, 2**32 - 1)


@pytest.mark.parametrize(
    "message",
    [
        Reply(body=b"abc", measured=MEASURED),
        Reply(400, reason="no", code="bad", measured=MEASURED),
        Opened({}, measured=MEASURED),
    ],
)
def test_measured_times_come_back_exactly(message: Reply | Opened) -> None:
    [(_, found)] = read([encode(1, message)])
    assert isinstance(found, Reply | Opened)
    assert found.measured == MEASURED


def test_message_without_times_has_none() -> None:
    [(_, found)] = read([encode_reply(1, Reply())])
    assert isinstance(found, Reply)
    assert found.measured == NOT_MEASURED


def encode(call_id: int, message: ReplyMessage) -> bytes:
    if isinstance(message, Reply):
        return encode_reply(call_id, message)
    return encode_stream(call_id, message)


# A worker sends no empty part.
parts = st.builds(Part, st.binary(min_size=1, max_size=60))
streamed = st.builds(Opened, headers) | parts | st.builds(Closed, texts, texts)
sent_messages = st.lists(st.tuples(ids, replies | streamed), max_size=8)


@given(ids, streamed)
def test_part_of_a_stream_comes_back_as_it_was(call_id: int, message: ReplyMessage) -> None:
    assert read([encode(call_id, message)]) == [(call_id, message)]


@given(sent_messages, st.data())
def test_messages_come_back_however_the_stream_is_cut(
    sent: list[Sent], data: st.DataObject
) -> None:
    stream = b"".join(encode(call_id, message) for call_id, message in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(chunks) == sent


def test_messages_come_back_byte_by_byte() -> None:
    sent: list[Sent] = [
        (1, Reply(body=b"abc")),
        (2, Reply(400, headers={"X": "y"}, reason="no", code="bad")),
        (4, Opened({"Content-Type": "text/plain"})),
        (4, Part(b"part")),
        (3, Reply()),
        (5, Opened({})),
        (4, Closed()),
        (5, Closed("ä", "code")),
    ]
    stream = b"".join(encode(call_id, message) for call_id, message in sent)
    assert read([bytes([byte]) for byte in stream]) == sent


def test_reply_comes_as_soon_as_it_is_whole() -> None:
    reader = ReplyReader()
    stream = encode_reply(1, Reply(body=b"abc"))
    assert list(reader.feed(stream[:-1], [])) == []
    assert list(reader.feed(stream[-1:] + stream[:5], [])) == [(1, Reply(body=b"abc"))]
    assert list(reader.feed(stream[5:], [])) == [(1, Reply(body=b"abc"))]


def test_plain_reply_has_no_meta_data() -> None:
    assert encode_reply(1, Reply(body=b"abc")).endswith(b"abc")
    assert len(encode_reply(1, Reply(body=b"abc"))) == len(encode_reply(1, Reply())) + 3


def test_descriptors_go_to_their_replies_in_order() -> None:
    reader = ReplyReader()
    # These are not descriptors of this process: the reader only passes the numbers on.
    first = encode_reply(1, Reply(headers={"X": "y"}, fd=5))
    second = encode_reply(2, Reply(body=b"abc"))
    third = encode_reply(3, Reply(fd=6))
    assert list(reader.feed(first[:-1], [1001])) == []
    assert list(reader.feed(first[-1:] + second + third, [1002])) == [
        (1, Reply(headers={"X": "y"}, fd=1001)),
        (2, Reply(body=b"abc")),
        (3, Reply(fd=1002)),
    ]
    assert reader.take_fds() == []


def test_descriptors_go_past_the_parts_of_streams() -> None:
    reader = ReplyReader()
    file = encode_reply(1, Reply(headers={"X": "y"}, fd=5))
    stream = encode_stream(2, Opened({})) + encode_stream(2, Part(b"a")) + file
    assert list(reader.feed(stream[:-1], [1001])) == [(2, Opened({})), (2, Part(b"a"))]
    end = stream[-1:] + encode_stream(2, Closed())
    assert list(reader.feed(end, [])) == [
        (1, Reply(headers={"X": "y"}, fd=1001)),
        (2, Closed()),
    ]


_descriptors = st.lists(st.booleans(), max_size=8)


@given(_descriptors, st.data())
def test_descriptors_go_to_their_replies_however_the_stream_is_cut(
    with_fd: list[bool], data: st.DataObject
) -> None:
    """The kernel delivers a descriptor with the first byte of its reply."""
    reader = ReplyReader()
    found: list[Sent] = []
    for number, has_fd in enumerate(with_fd):
        packet = encode_reply(number, Reply(headers={}, fd=5 if has_fd else -1))
        cut = data.draw(st.integers(1, len(packet)))
        found += reader.feed(packet[:cut], [1000 + number] if has_fd else [])
        found += reader.feed(packet[cut:], [])
    expected = [1000 + number if has_fd else -1 for number, has_fd in enumerate(with_fd)]
    assert [message.fd for _, message in found if isinstance(message, Reply)] == expected
    assert reader.take_fds() == []


@pytest.mark.parametrize(
    ("packet", "descriptors"),
    [
        (encode_reply(1, Reply(body=b"abc")), [1001]),
        (encode_reply(1, Reply(fd=5)), [1001, 1002]),
        (encode_reply(1, Reply(fd=5))[:-1], [1001, 1002]),
    ],
)
def test_descriptor_that_belongs_to_no_reply_is_an_error(
    packet: bytes, descriptors: list[int]
) -> None:
    """Otherwise it would be assigned to the next reply."""
    reader = ReplyReader()
    with pytest.raises(ValueError, match="belongs to no reply"):
        list(reader.feed(packet, descriptors))


def test_length_that_no_reply_has_is_an_error() -> None:
    reader = ReplyReader()
    largest = encode_stream(1, Part(b"x" * MAX_REPLY))
    assert list(reader.feed(largest, [])) == [(1, Part(b"x" * MAX_REPLY))]
    with pytest.raises(ValueError, match="a reply cannot have"):
        list(reader.feed(b"\xff" * 100, []))


def forged(status: int, meta: bytes, body: bytes = b"") -> bytes:
    """Return the bytes of a reply that no worker sends."""
    return header(len(meta) + len(body), status, len(meta)) + meta + body


def header(length: int, status: int, meta_length: int) -> bytes:
    return struct.pack("<IIHIdddddI", length, 1, status, meta_length, *NOT_MEASURED)


@pytest.mark.parametrize(
    "data",
    [
        forged(99, b""),
        forged(600, b""),
        forged(0, b"", b"{}"),
        forged(600, b'[null,"","",false]'),
        forged(200, b'[null,"","",true]'),
        forged(200, b'[null,"","",0]'),
        forged(200, b'[null,null,"",false]'),
        forged(200, b'[[],"","",false]'),
        forged(200, b'[{"a":5},"","",false]'),
        forged(200, b'[{"a":null}]'),
        forged(200, b"[null]"),
        forged(200, b"[]"),
        forged(200, b"{}"),
        forged(200, b"5"),
        forged(200, b"nonsense"),
        forged(200, b"[" * 5000),
        forged(500, b"[{}]"),
        forged(2, b'["a"]'),
        forged(2, b'["a",5]'),
        header(1, 200, 2) + b"[]",
    ],
)
def test_reply_that_no_worker_sends_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read([data])
    with pytest.raises(ValueError):  # noqa: PT011
        read([bytes([byte]) for byte in data])


def test_descriptors_without_a_reply_are_handed_over_once() -> None:
    reader = ReplyReader()
    assert list(reader.feed(encode_reply(1, Reply(fd=5))[:-1], [1001])) == []
    assert reader.take_fds() == [1001]
    assert reader.take_fds() == []


# --- control ---------------------------------------------------------------------------------

START = Start(
    name="demo",
    target="demo.py:Model",
    folder="/models",
    index=1,
    warm=True,
    log={"level": "INFO", "file": "", "json": False},
)


@pytest.mark.parametrize(
    "message",
    [
        START,
        Start("a", "b", "", 0, False, {}, vars(CallOptions(max_batch_size=5, stream_buffer=1))),
        Phase("warming"),
        Ready({"has": ["predict"]}),
        Failed("warming", "ä: two\nlines", ["a", "b"], "calls \udcff"),
        Taken(2**32 - 1, 65536),
        Cancel(7),
    ],
)
def test_control_message_comes_back_as_it_was(message: ControlMessage) -> None:
    line = encode_control(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_control(line) == message


def test_limits_come_back_as_they_were() -> None:
    limits = CallOptions(max_batch_size=3, max_batch_wait_ms=0, max_concurrency=9, stream_buffer=1)
    start = decode_control(encode_control(Start("a", "b", "", 0, True, {}, vars(limits))))
    assert isinstance(start, Start)
    assert CallOptions(**start.options) == limits


@pytest.mark.parametrize(("index", "name"), [(0, "a[0]"), (7, "a[7]"), (-1, "a[validation]")])
def test_worker_is_called_by_its_place(index: int, name: str) -> None:
    start = decode_control(encode_control(Start("a", "b", "", index, True, {})))
    assert isinstance(start, Start)
    assert start.worker == name


def test_limits_are_the_models_own_unless_set() -> None:
    limits = CallOptions()
    assert (limits.max_batch_size, limits.max_concurrency) == (0, 0)
    assert limits.max_batch_wait_ms == -1


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), _json, max_size=3))
def test_any_description_comes_back_as_it_was(description: dict[str, Any]) -> None:
    line = encode_control(Ready(description))
    assert b"\n" not in line[:-1]
    assert decode_control(line) == Ready(description)


def test_what_is_no_json_in_a_description_is_its_text() -> None:
    line = encode_control(Ready({"a": 3j}))
    assert json.loads(line)[1]["description"] == {"a": "3j"}


def test_unknown_control_message_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a control message"):
        decode_control(b'["Other",{}]\n')


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"5",
        b'["Phase"]',
        b'["Phase",[]]',
        b'["Phase",{}]',
        b'["Phase",{"phase":5}]',
        b'["Phase",{"phase":"a","other":"b"}]',
        b'["Ready",{"description":[]}]',
        b'["Taken",{"id":"1","size":1}]',
        b'["Taken",{"id":1,"size":true}]',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=lambda line: str(line[:40]),
)
def test_line_that_is_no_message_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_control(line)


def test_line_has_a_bound() -> None:
    assert cut_lines(b"a\nb\nc") == ([b"a", b"b"], b"c")
    assert cut_lines(b"a" * MAX_LINE) == ([], b"a" * MAX_LINE)
    with pytest.raises(ValueError, match="a line of more than"):
        cut_lines(b"a\n" + b"a" * (MAX_LINE + 1))
