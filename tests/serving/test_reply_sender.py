"""The worker's ends of its connections, and the flow control of a stream."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.model.v2.exchange import Reply
from deepaas.protocol.messages import (
    MAX_INLINE,
    Cancel,
    Closed,
    ControlMessage,
    Opened,
    Part,
    Phase,
    ReplyMessage,
    ReplyReader,
    Taken,
    encode_control,
    encode_reply,
)
from deepaas.worker import reply_sender as reply_sender_module
from deepaas.worker.reply_sender import PIECE, Control, Flow, ReplySender, pieces

# --- pieces


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 7])
def test_pieces_are_small_and_make_the_whole(size: int) -> None:
    data = os.urandom(size)
    cut = list(pieces(data))
    assert b"".join(cut) == data
    assert all(0 < len(piece) <= PIECE for piece in cut)
    assert len(cut) == -(-size // PIECE)


# --- flow


def test_flow_is_closed_when_as_much_is_under_way_as_may_be() -> None:
    flow = Flow(100)
    assert flow.is_open
    flow.sent(99)
    assert flow.is_open
    flow.sent(1)
    assert not flow.is_open
    flow.taken(1)
    assert flow.is_open


def test_flow_may_be_exceeded_by_one_part() -> None:
    flow = Flow(1)
    flow.sent(PIECE)
    assert not flow.is_open
    flow.taken(PIECE - 1)
    assert not flow.is_open
    flow.taken(1)
    assert flow.is_open


@given(st.integers(1, 1000), st.lists(st.integers(1, 300), max_size=50), st.data())
def test_flow_never_has_more_under_way_than_a_part_beyond_its_limit(
    limit: int, sizes: list[int], data: st.DataObject
) -> None:
    flow = Flow(limit)
    under_way = 0
    for size in sizes:
        while not flow.is_open:
            assert under_way >= limit
            taken = data.draw(st.integers(1, under_way))
            flow.taken(taken)
            under_way -= taken
        flow.sent(size)
        under_way += size
        assert under_way < limit + size
    assert flow.is_open == (under_way < limit)


# --- control


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(25)
    with ours, theirs:
        yield ours, theirs


Ends = tuple[socket.socket, socket.socket]
SENT: list[ControlMessage] = [Taken(1, 5), Cancel(1), Taken(2, 70_000), Phase("ä" * 100)]


def test_messages_are_polled_in_their_order(ends: Ends) -> None:
    control = Control(ends[1])
    assert control.poll() is None
    ends[0].sendall(b"".join(map(encode_control, SENT)))
    assert [control.poll() for _ in SENT] == SENT
    assert control.poll() is None


def test_message_that_is_not_whole_is_none_yet(ends: Ends) -> None:
    control = Control(ends[1])
    stream = b"".join(map(encode_control, SENT))
    received = []
    for position in range(len(stream)):
        ends[0].sendall(stream[position : position + 1])
        message = control.poll()
        if message is not None:
            received.append(message)
    assert received == SENT


def test_poll_and_receive_share_what_has_come(ends: Ends) -> None:
    control = Control(ends[1])
    ends[0].sendall(b"".join(map(encode_control, SENT)))
    assert control.receive() == SENT[0]
    assert control.poll() == SENT[1]
    assert control.receive() == SENT[2]


def test_receive_waits_for_a_whole_message(ends: Ends) -> None:
    control = Control(ends[1])
    line = encode_control(SENT[0])
    ends[0].sendall(line[:5])
    assert control.poll() is None
    later = threading.Timer(0.05, ends[0].sendall, [line[5:]])
    later.start()
    assert control.receive() == SENT[0]
    later.join()


def test_end_of_the_server_is_an_error(ends: Ends) -> None:
    control = Control(ends[1])
    ends[0].sendall(encode_control(SENT[0]))
    ends[0].close()
    assert control.poll() == SENT[0]
    with pytest.raises(EOFError):
        control.poll()
    with pytest.raises(EOFError):
        control.receive()


def test_control_sends(ends: Ends) -> None:
    Control(ends[1]).send(Phase("warming"))
    assert ends[0].recv(1000) == encode_control(Phase("warming"))


# --- replies


def received(ours: socket.socket) -> list[tuple[int, ReplyMessage]]:
    """Return the complete messages that were received, with their descriptors."""
    data, fds, _, _ = socket.recv_fds(ours, 1_000_000, 10)
    return list(ReplyReader().feed(data, fds))


def test_replies_and_streams_go_out(ends: Ends) -> None:
    replies = ReplySender(ends[1])
    replies.send(1, Reply(body=b"abc"))
    sent: list[Opened | Part | Closed] = [
        Opened({"Content-Type": "text/plain"}),
        Part(b"a"),
        Closed(),
        Closed("why", "code"),
    ]
    for message in sent:
        replies.send_stream(2, message)
    assert received(ends[0]) == [(1, Reply(body=b"abc")), *((2, message) for message in sent)]


def test_descriptor_goes_along_and_is_closed(ends: Ends, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    ReplySender(ends[1]).send(1, Reply(headers={"X": "y"}, fd=fd))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    ((_, reply),) = received(ends[0])
    assert isinstance(reply, Reply)
    with open(reply.fd, "rb") as file:
        assert file.read() == b"content"


def test_body_of_the_limit_goes_along(ends: Ends) -> None:
    body = bytes(MAX_INLINE)
    writing = threading.Thread(target=ReplySender(ends[1]).send, args=(1, Reply(body=body)))
    writing.start()
    with ends[0].makefile("rb") as file:
        sent = file.read(len(encode_reply(1, Reply(body=body))))
    writing.join()
    assert sent == encode_reply(1, Reply(body=body))


def test_larger_body_goes_by_descriptor(ends: Ends, tmp_path: Path) -> None:
    replies = ReplySender(ends[1], str(tmp_path))
    replies.send(1, Reply(201, b"x" * (MAX_INLINE + 1), {"X": "y"}))
    ((_, reply),) = received(ends[0])
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body, reply.headers) == (201, b"", {"X": "y"})
    assert os.fstat(reply.fd).st_size == MAX_INLINE + 1
    os.lseek(reply.fd, 0, os.SEEK_SET)
    with open(reply.fd, "rb") as file:
        assert file.read() == b"x" * (MAX_INLINE + 1)
    assert list(tmp_path.iterdir()) == []


def test_large_body_among_others_goes_by_descriptor(ends: Ends) -> None:
    replies = [Reply(body=b"a"), Reply(body=b"b" * (MAX_INLINE + 1)), Reply(body=b"c")]
    ReplySender(ends[1]).send_all(enumerate(replies))
    got: list[ReplyMessage] = []
    while len(got) < 3:
        got += [message for _, message in received(ends[0])]
    first, large, last = got
    assert (first, last) == (replies[0], replies[2])
    assert isinstance(large, Reply)
    assert os.fstat(large.fd).st_size == MAX_INLINE + 1
    os.close(large.fd)


def test_large_body_for_which_there_is_no_room_is_507(ends: Ends, tmp_path: Path) -> None:
    ReplySender(ends[1], str(tmp_path / "gone")).send(1, Reply(body=b"x" * (MAX_INLINE + 1)))
    ((_, reply),) = received(ends[0])
    assert isinstance(reply, Reply)
    assert (reply.status, reply.code) == (507, "storage_failed")
    assert reply.reason.startswith(f"There is no room for the response of {MAX_INLINE + 1} bytes")


def test_descriptor_is_closed_though_the_server_has_gone(ends: Ends, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    ends[0].close()
    with pytest.raises(BrokenPipeError):
        ReplySender(ends[1]).send(1, Reply(fd=fd))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def sent_together(
    sender: ReplySender, ends: Ends, replies: Iterator[tuple[int, Reply]]
) -> list[int]:
    """Return how many replies were received before each next one was requested, and in the end."""
    reader = ReplyReader()
    come: list[int] = []

    def look() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(ends[0], 10_000_000, 10)
                come.extend(call_id for call_id, _ in reader.feed(data, fds))
                for fd in fds:
                    os.close(fd)

    counts = []

    def watched() -> Iterator[tuple[int, Reply]]:
        for call_id, reply in replies:
            look()
            counts.append(len(come))
            yield call_id, reply

    ends[0].setblocking(False)
    sender.send_all(watched())
    look()
    assert come == [*range(len(come))]
    return [*counts, len(come)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the hold time so high that no machine is too slow for it."""
    monkeypatch.setattr(reply_sender_module, "HOLD_SECONDS", 60.0)


@pytest.mark.usefixtures("quick")
def test_replies_that_are_made_quickly_go_out_together(ends: Ends) -> None:
    replies = ((number, Reply(body=b"abc")) for number in range(5))
    assert sent_together(ReplySender(ends[1]), ends, replies) == [0, 0, 0, 0, 0, 5]


def test_reply_does_not_wait_for_others_that_take_long(ends: Ends) -> None:
    def slowly() -> Iterator[tuple[int, Reply]]:
        for number in range(4):
            time.sleep(0.005)
            yield number, Reply(body=b"abc")

    assert sent_together(ReplySender(ends[1]), ends, slowly()) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("quick")
def test_large_replies_do_not_wait_for_one_another(ends: Ends) -> None:
    replies = ((number, Reply(body=b"x" * (PIECE - number % 2))) for number in range(4))
    assert sent_together(ReplySender(ends[1]), ends, replies) == [0, 1, 1, 3, 4]


def test_descriptors_keep_their_place_among_the_replies(ends: Ends, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    replies = iter([(0, Reply(body=b"a")), (1, Reply(fd=fd)), (2, Reply(body=b"c"))])
    assert sent_together(ReplySender(ends[1]), ends, replies)[-1] == 3
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
