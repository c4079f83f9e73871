"""The log of a training: written in segments, read at the same time, and split into lines."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.jobs import logs as output
from deepaas.jobs.logs import Lines, LogReader, LogWriter

MANY = 10**9


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "log"


def segments(directory: Path) -> dict[int, bytes]:
    return {int(path.name): path.read_bytes() for path in sorted(directory.iterdir())}


def content(directory: Path) -> bytes:
    return b"".join(segments(directory).values())


def wrote(directory: Path, *pieces: bytes, size: int = 0) -> None:
    writer = LogWriter(directory, size)
    for piece in pieces:
        writer.write(piece)
    writer.close()


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[Callable[[int], None]]:
    """Limit the size of files written by this process, as on a full disk; yield a setter."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def change(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    change(size)
    try:
        yield change
    finally:
        change(before)


# --- writing ---------------------------------------------------------------------------------


def test_log_without_limit_is_one_file(directory: Path) -> None:
    wrote(directory, b"abc", b"", b"d" * 100_000)
    assert segments(directory) == {0: b"abc" + b"d" * 100_000}
    assert [path.name for path in directory.iterdir()] == ["0" * 20]


def test_segments_are_named_by_their_offset_and_the_oldest_go(directory: Path) -> None:
    data = bytes(range(100))
    wrote(directory, data, size=40)
    assert segments(directory) == {start: data[start : start + 10] for start in (60, 70, 80, 90)}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 40, 1000])
def test_log_is_never_larger_than_its_size(directory: Path, size: int) -> None:
    writer = LogWriter(directory, size)
    everything = b""
    for number in range(150):
        piece = b"%d," % number * (number % 5)
        writer.write(piece)
        everything += piece
        there = segments(directory)
        assert sum(map(len, there.values())) <= size
        assert max(map(len, there.values())) <= max(1, size // 4)
        assert everything.endswith(content(directory))
        assert len(content(directory)) >= min(len(everything), size - max(1, size // 4))
    writer.close()


def test_files_are_private_and_not_inherited(directory: Path) -> None:
    before = os.umask(0)
    try:
        writer = LogWriter(directory, 0)
        writer.write(b"abc")
    finally:
        os.umask(before)
    (path,) = directory.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [os.get_inheritable(fd) for fd in open_at(path)] == [False]
    writer.close()
    assert open_at(path) == []


def open_at(path: Path) -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                found.append(int(name))
    return found


@pytest.mark.parametrize("size", [0, 40])
def test_another_writer_goes_on_at_the_end(directory: Path, size: int) -> None:
    data = bytes(range(95))
    for start in range(0, 95, 19):
        wrote(directory, data[start : start + 19], size=size)
    assert data.endswith(content(directory))
    assert LogReader(directory).end == 95
    if size:
        assert segments(directory) == {
            60: data[60:70],
            70: data[70:80],
            80: data[80:90],
            90: data[90:],
        }
    else:
        assert segments(directory) == {0: data}


def test_another_writer_may_have_another_size(directory: Path) -> None:
    data = bytes(range(100))
    wrote(directory, data, size=0)
    wrote(directory, b"end", size=40)
    assert segments(directory) == {100: b"end"}
    wrote(directory, b"more", size=0)
    assert segments(directory) == {100: b"endmore"}


def test_other_files_are_left_alone(directory: Path) -> None:
    directory.mkdir()
    (directory / "note").write_bytes(b"x")
    (directory / ("9" * 19)).write_bytes(b"x")
    wrote(directory, b"abc")
    assert sorted(path.name for path in directory.iterdir()) == ["0" * 20, "9" * 19, "note"]
    assert LogReader(directory).read(0, 10) == (0, b"abc")


def test_what_a_full_disk_has_lost_is_told(directory: Path) -> None:
    writer = LogWriter(directory, 0)
    with files_of_at_most(100):
        writer.write(b"a" * 60)
        writer.write(b"b" * 60)
        writer.write(b"c" * 10)
        assert content(directory) == b"a" * 60 + b"b" * 40
    writer.write(b"after\n")
    writer.close()
    told = b"\n[30 bytes of output were lost: File too large]\n"
    assert content(directory) == b"a" * 60 + b"b" * 40 + told + b"after\n"


def test_what_was_lost_after_a_whole_line_is_told_in_the_next(directory: Path) -> None:
    writer = LogWriter(directory, 0)
    writer.write(b"line\n")
    with files_of_at_most(5):
        writer.write(b"lost\n")
    writer.close()
    assert content(directory) == b"line\n[5 bytes of output were lost: File too large]\n"


def test_notice_that_has_no_room_either_is_written_on(directory: Path) -> None:
    writer = LogWriter(directory, 0)
    with files_of_at_most(5) as change:
        writer.write(b"line\n")
        writer.write(b"lost\n")
        change(15)
        writer.write(b"lost, too\n")
        assert content(directory) == b"line\n[5 bytes o"
        change(20)
        writer.write(b"and so is this\n")
    writer.write(b"after\n")
    writer.close()
    told = b"[5 bytes of output were lost: File too large]\n"
    more = b"[25 bytes of output were lost: File too large]\n"
    assert content(directory) == b"line\n" + told + more + b"after\n"


def test_loss_is_told_by_the_next_writer_never(directory: Path) -> None:
    with files_of_at_most(0):
        wrote(directory, b"lost")
    wrote(directory, b"after\n")
    assert content(directory) == b"after\n"


def test_segments_that_are_too_large_for_the_disk_are_counted(directory: Path) -> None:
    writer = LogWriter(directory, 400)
    with files_of_at_most(30):
        for _ in range(10):
            writer.write(b"x" * 29 + b"\n")
    writer.write(b"after\n")
    writer.close()
    assert content(directory) == (
        b"x" * 29 + b"\n[270 bytes of output were lost: File too large]\nafter\n"
    )


def test_log_that_cannot_be_made_harms_nobody(tmp_path: Path) -> None:
    wrote(tmp_path / "absent" / "log", b"abc", b"def")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "log").write_bytes(b"x")
    wrote(tmp_path / "log", b"abc")
    assert (tmp_path / "log").read_bytes() == b"x"


def test_log_that_is_removed_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "work" / "log"
    directory.parent.mkdir()
    writer = LogWriter(directory, 8)
    writer.write(b"ab")
    shutil.rmtree(directory.parent)
    writer.write(b"c" * 100)
    writer.close()
    assert list(tmp_path.iterdir()) == []


# --- reading ---------------------------------------------------------------------------------


def test_log_that_is_not_there_is_empty(directory: Path) -> None:
    reader = LogReader(directory)
    assert (reader.first, reader.end) == (0, 0)
    assert reader.read(0, 10) == (0, b"")
    assert reader.read(7, 10) == (7, b"")
    directory.mkdir()
    assert (reader.first, reader.end, reader.read(0, 10)) == (0, 0, (0, b""))


def test_reader_gets_what_there_is(directory: Path) -> None:
    wrote(directory, bytes(range(95)), size=40)
    reader = LogReader(directory)
    assert (reader.first, reader.end) == (60, 95)
    assert reader.read(65, 3) == (65, bytes([65, 66, 67]))
    assert reader.read(0, 3) == (60, bytes([60, 61, 62]))
    assert reader.read(90, 100) == (90, bytes(range(90, 95)))
    assert reader.read(95, 100) == (95, b"")
    assert reader.read(1000, 100) == (1000, b"")


def test_all_can_be_read_piece_by_piece(directory: Path) -> None:
    data = bytes(range(250))
    wrote(directory, data, size=400)
    reader = LogReader(directory)
    offset, read = 0, b""
    while True:
        begin, piece = reader.read(offset, 7)
        assert (begin, len(piece) <= 7) == (offset, True)
        if not piece:
            break
        read += piece
        offset += len(piece)
    assert read == data


def test_bytes_that_are_missing_between_segments_are_passed_over(directory: Path) -> None:
    directory.mkdir()
    (directory / f"{0:020}").write_bytes(b"abc")
    (directory / f"{10:020}").write_bytes(b"klm")
    reader = LogReader(directory)
    assert reader.read(0, 10) == (0, b"abc")
    assert reader.read(3, 10) == (10, b"klm")
    assert reader.read(13, 10) == (13, b"")


def test_reader_has_nothing_open_between_calls(directory: Path) -> None:
    wrote(directory, b"abc")
    before = os.listdir("/proc/self/fd")
    reader = LogReader(directory)
    assert reader.read(0, 10) == (0, b"abc")
    assert reader.end == 3
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    "listed", [[0, 20], [0, 30], [20], [30], [0, 20, 30], [10], [40], [0], [0, 40]]
)
def test_list_that_lacks_a_segment_makes_no_gap(
    directory: Path, monkeypatch: pytest.MonkeyPatch, listed: list[int]
) -> None:
    """Segments came and went during the listing: 0 and 40 are gone, or do not exist yet."""
    data = bytes(range(40))
    wrote(directory, data, size=160)
    wrote(directory / "all", b"")
    shutil.rmtree(directory)
    directory.mkdir()
    for start in (10, 20, 30):
        (directory / f"{start:020}").write_bytes(data[start : start + 10])
    lists = [[f"{start:020}" for start in listed]]
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: lists.pop() if lists else listdir(path))
    begin, read = LogReader(directory).read(10, 5)
    if listed == [0]:
        assert (begin, read) in [(10, b""), (10, data[10:15])]
    else:
        assert (begin, read) == (10, data[10:15])


def test_segment_that_cannot_be_reached_is_no_endless_loop(directory: Path) -> None:
    directory.mkdir()
    (directory / f"{0:020}").symlink_to("nowhere")
    reader = LogReader(directory)
    assert (reader.end, reader.read(0, 10)) == (0, (0, b""))


@pytest.mark.parametrize("size", [200, 4000])
def test_log_is_read_while_it_is_written(directory: Path, size: int) -> None:
    """Each byte is at its offset, even after older segments have been removed."""
    pattern = bytes(range(251))
    total = 200_000
    written = threading.Event()

    def write() -> None:
        writer = LogWriter(directory, size)
        for start in range(0, total, 37):
            count = min(37, total - start)
            writer.write((pattern * 2)[start % 251 : start % 251 + count])
        writer.close()
        written.set()

    thread = threading.Thread(target=write)
    thread.start()
    reader = LogReader(directory)
    offset = pieces = 0
    while True:
        is_over = written.is_set()
        begin, data = reader.read(offset, 100)
        assert begin >= offset
        assert data == (pattern * 2)[begin % 251 : begin % 251 + len(data)]
        assert begin <= reader.end <= total
        offset = begin + len(data)
        pieces += bool(data)
        if is_over and not data:
            break
    thread.join()
    assert offset == total
    assert pieces > 1


# --- lines -----------------------------------------------------------------------------------


def fed(*pieces: bytes, offset: int = 0) -> list[tuple[int, str]]:
    """Return all lines, including an unfinished last one."""
    lines = Lines()
    found = []
    for piece in pieces:
        found += lines.feed(offset, piece)
        offset += len(piece)
    rest = lines.rest()
    return found if rest is None else [*found, rest]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", [(1, "a")]),
        (b"a\n", [(2, "a")]),
        (b"a\nb", [(2, "a"), (3, "b")]),
        (b"a\r\nb\r\n", [(3, "a"), (6, "b")]),
        (b" 1%\r 2%\r 3%\n", [(4, " 1%"), (8, " 2%"), (12, " 3%")]),
        (b"\n\n\r\n\r", [(1, ""), (2, ""), (4, ""), (5, "")]),
        (b"a\r\r\nb", [(2, "a"), (4, ""), (5, "b")]),
        ("ä€😀\n".encode(), [(10, "ä€😀")]),
        (b"\xff\xc3\n\xa4", [(3, "\ufffd\ufffd"), (4, "\ufffd")]),
        ("a\x0b\x0c\x1c\u2028b\n".encode(), [(9, "a\x0b\x0c\x1c\u2028b")]),
    ],
)
def test_lines(data: bytes, lines: list[tuple[int, str]]) -> None:
    assert fed(data) == lines
    assert fed(*(data[index : index + 1] for index in range(len(data)))) == lines


def test_line_is_given_as_soon_as_it_is_whole() -> None:
    lines = Lines()
    assert lines.feed(0, b"a\nb") == [(2, "a")]
    assert lines.feed(3, b"c\r") == []  # an \n may belong to it
    assert lines.feed(5, b"d") == [(5, "bc")]
    assert lines.feed(6, b"\r") == []
    assert lines.feed(7, b"\n") == [(8, "d")]
    assert lines.rest() is None


def test_end_in_two_pieces_is_one_end_for_who_begins_anew() -> None:
    lines = Lines()
    assert lines.feed(0, b"a\r\nb\r") == [(3, "a")]
    assert Lines().feed(3, b"b\r\nc\n") == [(6, "b"), (8, "c")]


def test_what_is_left_of_a_line_at_a_gap_is_one() -> None:
    lines = Lines()
    assert lines.feed(10, b"a\nbcd") == [(12, "a")]
    assert lines.feed(100, b"e\n") == [(15, "bcd"), (102, "e")]
    assert lines.feed(200, b"f\n") == [(202, "f")]


def test_long_line_is_given_in_pieces() -> None:
    most = output.MAX_LINE
    assert most == 65536
    data = b"x" * (2 * most + 5) + b"\n"
    expected = [(most, "x" * most), (2 * most, "x" * most), (2 * most + 6, "xxxxx")]
    assert fed(data) == expected
    assert fed(data[: most + 1], data[most + 1 :]) == expected
    assert fed(b"y" * most + b"\n") == [(most + 1, "y" * most)]
    assert fed(b"y" * most, b"\r", b"\n") == [(most + 2, "y" * most)]


def test_no_character_is_divided_between_pieces() -> None:
    most = output.MAX_LINE
    for before in range(5):
        data = b"x" * before + "😀".encode() * (most // 4 + 1)
        texts = [text for _, text in fed(data)]
        assert "".join(texts) == data.decode()
        assert len(texts) == 2


def test_bytes_that_are_no_text_are_divided_somewhere() -> None:
    most = output.MAX_LINE
    assert [end for end, _ in fed(b"\x80" * (most + 9))] == [most, most + 9]


_bytes = st.text("ab\r\n€😀", max_size=60).map(str.encode) | st.lists(
    st.sampled_from([b"a", b"\r", b"\n", b"\x80", b"\xf0"]), max_size=40
).map(b"".join)


@given(_bytes, st.lists(st.integers(0, 60)), st.data())
def test_lines_are_the_same_however_they_come_and_from_wherever_one_goes_on(
    data: bytes, cuts: list[int], draw: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "MAX_LINE", 8)
        lines = fed(data)
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
        assert fed(*pieces) == lines
        assert all(len(text.encode("utf-8")) <= 3 * 8 for _, text in lines)
        if lines:
            index = draw.draw(st.integers(0, len(lines) - 1))
            end = lines[index][0]
            assert fed(data[end:], offset=end) == lines[index + 1 :]


# --- writing, reading and lines together ------------------------------------------------------


@dataclass
class Follower:
    """A client of a log that sometimes disconnects, and resumes at the offset of its last line."""

    reader: LogReader
    seen: list[tuple[int, str]] = field(default_factory=list)
    lines: Lines = field(default_factory=Lines)
    offset: int = 0
    has_missed: bool = False

    def read(self, most: int) -> bool:
        begin, data = self.reader.read(self.offset, most)
        self.has_missed |= begin > self.offset
        self.seen += self.lines.feed(begin, data)
        self.offset = begin + len(data)
        return bool(data)

    def come_again(self) -> None:
        self.lines = Lines()
        self.offset = self.seen[-1][0] if self.seen else 0

    def finish(self) -> None:
        while self.read(1000):
            pass
        if (rest := self.lines.rest()) is not None:
            self.seen.append(rest)


def all_lines(data: bytes) -> list[tuple[int, int, str]]:
    """Return the start, the end and the text of each line."""
    found = re.finditer(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", data)
    return [
        (one.start(), one.end(), one.group().rstrip(b"\r\n").decode("utf-8", "replace"))
        for one in found
    ]


_step = (
    st.tuples(st.just("write"), _bytes)
    | st.tuples(st.just("read"), st.integers(1, 30))
    | st.sampled_from([("leave", 0), ("new writer", 0)])
)


@given(st.sampled_from([0, 0, 1, 2, 3, 9, 50, 200]), st.lists(_step, max_size=40))
def test_no_line_is_lost_or_seen_twice_as_long_as_it_is_there(
    size: int, steps: list[tuple[str, bytes | int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "log"
        writer = LogWriter(directory, size)
        follower = Follower(LogReader(directory))
        everything = b""
        for what, value in steps:
            if isinstance(value, bytes):
                writer.write(value)
                everything += value
            elif what == "read":
                follower.read(value)
            elif what == "leave":
                follower.come_again()
            else:
                writer.close()
                writer = LogWriter(directory, size)
        first = follower.reader.first
        follower.finish()
        writer.close()
        check(follower, all_lines(everything), first)


def check(follower: Follower, lines: list[tuple[int, int, str]], first: int) -> None:
    ends = [end for end, _ in follower.seen]
    assert ends == sorted(set(ends))
    whole = {end: text for _, end, text in lines}
    there = [(end, text) for start, end, text in lines if start >= first]
    assert [one for one in follower.seen if one in there] == there
    if not follower.has_missed:
        assert follower.seen == [(end, text) for _, end, text in lines]
    for end, text in follower.seen:
        if end in whole and not follower.has_missed:
            assert text == whole[end]
