"""The files that a training has left, of any type and with any name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.jobs import artifacts
from deepaas.jobs.artifacts import list_files, open_file


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "artifacts"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Check that no descriptor stays open."""
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


@contextlib.contextmanager
def bound_by_modes() -> Iterator[None]:
    """Make the modes of files apply to root too."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3; this thread
    before = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    fewer = (ctypes.c_uint32 * 6)(*before)
    fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def write(path: Path, data: bytes = b"data") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def paths(directory: Path, most: int = 1000) -> list[str]:
    return [file.path for file in list_files(directory, most)[0]]


def read(directory: Path, *parts: str) -> bytes:
    with open(open_file(directory, parts), "rb") as file:
        return file.read()


def put_specials(directory: Path) -> list[str]:
    """Make one file of each type except regular files and directories; return their names."""
    os.mkfifo(directory / "pipe")
    os.symlink("/etc/passwd", directory / "link")
    os.symlink("/etc", directory / "etc")
    os.symlink("nowhere", directory / "broken")
    os.symlink("loop", directory / "loop")
    os.mknod(directory / "socket", stat.S_IFSOCK | 0o600)
    return ["pipe", "link", "etc", "broken", "loop", "socket"]


# --- listing ---------------------------------------------------------------------------------


def test_directory_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert list_files(tmp_path / "absent", 10) == ([], False)


def test_empty_directory_has_no_files(directory: Path) -> None:
    (directory / "empty" / "empty").mkdir(parents=True)
    assert list_files(directory, 10) == ([], False)


def test_file_is_listed_with_its_size_and_time(directory: Path) -> None:
    write(directory / "sub dir" / "model.bin", b"x" * 1000)
    os.utime(directory / "sub dir" / "model.bin", (0, 1_700_000_000.75))
    (file,), is_cut = list_files(directory, 10)
    assert (file.path, file.size, is_cut) == ("sub dir/model.bin", 1000, False)
    assert file.modified == "2023-11-14T22:13:20.750000Z"
    assert file.quoted == "sub%20dir/model.bin"


@pytest.mark.parametrize(
    ("seconds", "year"), [(-(2**31), "1970"), (2**33, "2242"), (2**33 + 2**32, "2378")]
)
def test_file_may_be_of_any_time(directory: Path, seconds: int, year: str) -> None:
    write(directory / "file")
    os.utime(directory / "file", (seconds, seconds))
    (file,) = list_files(directory, 10)[0]
    assert file.modified.startswith(year)


def test_files_are_in_the_order_of_the_parts_of_their_paths(directory: Path) -> None:
    for name in ("b", "a.txt", "a/z", "a/b/c", "a b", ".hidden", ".dir/x", "Z", "ä"):
        write(directory / name)
    ordered = [".dir/x", ".hidden", "Z", "a/b/c", "a/z", "a b", "a.txt", "b", "ä"]
    assert paths(directory) == ordered


def test_hidden_files_are_listed_and_opened(directory: Path) -> None:
    write(directory / ".hidden" / ".file", b"seen")
    assert paths(directory) == [".hidden/.file"]
    assert read(directory, ".hidden", ".file") == b"seen"


def test_what_is_no_regular_file_is_left_out(directory: Path) -> None:
    put_specials(directory)
    write(directory / "file")
    assert paths(directory) == ["file"]


def test_directory_that_is_a_link_has_no_files(directory: Path, tmp_path: Path) -> None:
    write(directory / "file")
    (tmp_path / "link").symlink_to(directory)
    assert list_files(tmp_path / "link", 10) == ([], False)


def test_name_that_is_no_text_is_shown_and_stands_for_its_file(directory: Path) -> None:
    name = os.fsdecode(b"\xff \xc3\xa4\n%")
    write(directory / name, b"strange")
    (file,) = list_files(directory, 10)[0]
    assert file.path == "\\xff ä\n%"
    assert file.quoted == "%FF%20%C3%A4%0A%25"
    assert read(directory, unquote(file.quoted, errors="surrogateescape")) == b"strange"


def test_first_files_are_listed_if_there_are_too_many(directory: Path) -> None:
    for number in range(30):
        write(directory / f"{number:02}")
    assert paths(directory, 30) == [f"{number:02}" for number in range(30)]
    assert list_files(directory, 30)[1] is False
    for most in (1, 10, 29):
        files, is_cut = list_files(directory, most)
        assert [file.path for file in files] == [f"{number:02}" for number in range(most)]
        assert is_cut is True


def test_first_files_are_listed_if_there_are_too_many_in_directories(directory: Path) -> None:
    for number in range(12):
        write(directory / f"{number // 3}" / f"{number:02}")
    files, is_cut = list_files(directory, 5)
    assert [file.path for file in files] == ["0/00", "0/01", "0/02", "1/03", "1/04"]
    assert is_cut


def test_search_for_files_has_an_end_where_there_are_none(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        (directory / f"{number:03}").mkdir()
    opened = []
    open_directory = artifacts._open_directory

    def open_one(path: Path | bytes, within: int | None = None) -> int:
        opened.append(path)
        return open_directory(path, within)

    monkeypatch.setattr(artifacts, "_open_directory", open_one)
    assert list_files(directory, 10) == ([], True)
    assert len(opened) <= 12


def test_files_are_looked_for_down_to_some_depth(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "MAX_DEPTH", 3)
    write(directory / "1" / "2" / "file")
    assert list_files(directory, 10)[1] is False
    write(directory / "1" / "2" / "3" / "file")
    files, is_cut = list_files(directory, 10)
    assert ([file.path for file in files], is_cut) == (["1/2/file"], True)


def test_very_deep_directories_are_no_harm(directory: Path) -> None:
    inner = os.open(directory, os.O_RDONLY)
    name = "deep" * 20
    for _ in range(200):  # the path becomes longer than any that can be opened
        os.mkdir(name, dir_fd=inner)
        outer, inner = inner, os.open(name, os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)
    write(directory / "file")
    files, is_cut = list_files(directory, 3000)
    assert ([file.path for file in files], is_cut) == (["file"], True)
    with pytest.raises(FileNotFoundError):
        open_file(directory, [name] * 200 + ["file"])


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_directory_that_may_not_be_looked_into_is_left_out(directory: Path, mode: int) -> None:
    write(directory / "a" / "file")
    write(directory / "b")
    (directory / "a").chmod(mode)
    try:
        with bound_by_modes():
            assert paths(directory) == ["b"]
    finally:
        (directory / "a").chmod(0o700)


def test_file_that_goes_meanwhile_is_left_out(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c/d", "e"):
        write(directory / name)
    look = os.stat

    def late(name: bytes, **options: object) -> os.stat_result:
        if name == b"b":
            (directory / "b").unlink()
        found = look(name, **options)  # type: ignore[arg-type]
        if name == b"c":
            shutil.rmtree(directory / "c")
        return found

    monkeypatch.setattr(os, "stat", late)
    assert paths(directory) == ["a", "e"]


# --- opening a file --------------------------------------------------------------------------


def test_file_is_opened_for_reading_alone(directory: Path) -> None:
    write(directory / "a" / "b" / "file", b"content")
    assert read(directory, "a", "b", "file") == b"content"
    fd = open_file(directory, ["a", "b", "file"])
    try:
        assert os.get_inheritable(fd) is False
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [""],
        ["."],
        [".."],
        ["..", "secret"],
        ["sub", "..", "..", "secret"],
        ["sub", "..", "file"],
        ["sub", ".", "file"],
        ["sub", "", "file"],
        ["", "file"],
        ["sub/file"],
        ["../secret"],
        ["/etc/passwd"],
        ["", "etc", "passwd"],
        ["file\0"],
        ["\0"],
        ["file\ud800"],
        ["absent"],
        ["absent", "file"],
        ["file", "file"],
        ["file", ""],
        ["sub"],
        ["x" * 256],
        ["x" * 100_000],
        ["sub"] * 10_000,
    ],
    ids=lambda parts: ascii(parts)[:30],
)
def test_path_that_is_none_of_a_file_is_not_there(
    directory: Path, tmp_path: Path, parts: Sequence[str]
) -> None:
    write(tmp_path / "secret")
    write(directory / "file")
    write(directory / "sub" / "file")
    with pytest.raises(FileNotFoundError):
        open_file(directory, parts)


@pytest.mark.parametrize("name", ["pipe", "link", "etc", "broken", "loop", "socket"])
def test_what_is_no_regular_file_is_not_there(directory: Path, name: str) -> None:
    assert name in put_specials(directory)
    with pytest.raises(FileNotFoundError):
        open_file(directory, [name])


def test_nothing_is_reached_through_a_link(directory: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside" / "secret")
    write(directory / "inside" / "file")
    (directory / "out").symlink_to(tmp_path / "outside")
    (directory / "in").symlink_to("inside")
    (tmp_path / "artifacts too").symlink_to(directory)
    for place, parts in (
        (directory, ["out", "secret"]),
        (directory, ["in", "file"]),
        (tmp_path / "artifacts too", ["inside", "file"]),
    ):
        with pytest.raises(FileNotFoundError):
            open_file(place, parts)


def test_file_of_a_directory_that_is_not_there_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "absent", ["file"])


def test_file_that_may_not_be_read_is_not_there(directory: Path) -> None:
    write(directory / "file")
    (directory / "file").chmod(0)
    with bound_by_modes(), pytest.raises(FileNotFoundError):
        open_file(directory, ["file"])


@pytest.mark.parametrize("other", ["pipe", "link"])
def test_file_that_becomes_another_meanwhile_is_not_there(
    directory: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    write(directory / "file")
    put_specials(directory)
    look = os.stat

    def early(name: bytes, **options: object) -> os.stat_result:
        found = look(name, **options)  # type: ignore[arg-type]
        (directory / other).rename(directory / "file")
        return found

    monkeypatch.setattr(os, "stat", early)
    with pytest.raises(FileNotFoundError):
        open_file(directory, ["file"])


_names = st.binary(min_size=1, max_size=20).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..")
)


@given(st.lists(_names, min_size=1, max_size=4))
def test_every_file_that_is_listed_can_be_opened_by_its_quoted_path(names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = b"/".join([os.fsencode(name), *names])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"found")
        (found,) = list_files(directory, 10)[0]
        parts = [unquote(part, errors="surrogateescape") for part in found.quoted.split("/")]
        assert read(directory, *parts) == b"found"
