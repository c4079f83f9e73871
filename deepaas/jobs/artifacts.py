"""The files that a training has left: list them and open one.

A training may put anything there, including links to other places. Links are never followed.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes

from deepaas.jobs.times import utc_text

MAX_DEPTH = 64
"""The deepest level of nested directories that is listed."""

_LATEST = 253402300799  # the last second of the year 9999
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NOT_THERE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EACCES,
    errno.EINVAL,
)


@dataclass(frozen=True)
class Artifact:
    """A file: its path below the directory, its size in bytes, its last change (UTC, ISO 8601).

    In `path`, a byte that is not UTF-8 is shown as \\xff. `quoted` is the percent-encoded path for
    a URL; it identifies exactly this file.
    """

    path: str
    size: int
    modified: str
    quoted: str


def list_files(directory: Path, most: int) -> tuple[list[Artifact], bool]:
    """Return the first `most` regular files in and below `directory`, and whether there are more.

    The files are sorted by the parts of their paths. Links, and directories that this user may not
    read, are left out. The list is empty if the directory does not exist. Raises OSError if it
    cannot be read.
    """
    listing = _Listing(most)
    with contextlib.suppress(FileNotFoundError), _opened(_open_directory(directory)) as fd:
        listing.add_from(fd, b"", 1)
    return listing.files[:most], listing.is_cut or len(listing.files) > most


def open_file(directory: Path, parts: Sequence[str]) -> int:
    """Open the regular file at `directory`/part/part/… and return its descriptor.

    The caller closes it. Raises FileNotFoundError if there is no such file, if the path leads
    through a link, or if `parts` are not a valid path.
    """
    try:
        names = [part.encode("utf-8", "surrogateescape") for part in parts]
    except UnicodeEncodeError:
        names = []
    if not names or not all(map(_is_name, names)):
        raise _not_there()
    fd = _open_directory(directory)
    for name in names[:-1]:
        with _opened(fd):
            fd = _open_directory(name, fd)
    with _opened(fd):
        return _open_regular(names[-1], fd)


class _Listing:
    """The files found so far. `is_cut` is true if some were left out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._directories = 0
        self.files: list[Artifact] = []
        self.is_cut = False

    def add_from(self, fd: int, prefix: bytes, depth: int) -> None:
        """Add the files in a directory and below it."""
        self._directories += 1
        room = 2 * self._most + 1  # there may be millions, and the first may contain no files
        with os.scandir(fd) as entries:
            names = heapq.nsmallest(room, (os.fsencode(one.name) for one in entries))
        self.is_cut |= len(names) == room
        for name in names:
            if len(self.files) > self._most or self._directories > self._most:
                self.is_cut = True
                return
            with contextlib.suppress(FileNotFoundError, PermissionError):  # removed, or forbidden
                self._add(name, fd, prefix, depth)

    def _add(self, name: bytes, fd: int, prefix: bytes, depth: int) -> None:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            self.files.append(_artifact(prefix + name, status))
        elif stat.S_ISDIR(status.st_mode) and depth == MAX_DEPTH:
            self.is_cut = True
        elif stat.S_ISDIR(status.st_mode):
            with _opened(_open_directory(name, fd)) as inner:
                self.add_from(inner, prefix + name + b"/", depth + 1)


def _artifact(path: bytes, status: os.stat_result) -> Artifact:
    seconds = min(max(status.st_mtime, 0), _LATEST)
    return Artifact(
        path=path.decode("utf-8", "backslashreplace"),
        size=status.st_size,
        modified=utc_text(seconds),
        quoted=quote_from_bytes(path),
    )


def _is_name(part: bytes) -> bool:
    return part not in (b"", b".", b"..") and b"/" not in part and b"\0" not in part


def _open_directory(path: Path | bytes, within: int | None = None) -> int:
    try:
        return os.open(path, _OPEN_DIRECTORY, dir_fd=within)
    except OSError as error:
        raise _translated(error) from None


def _open_regular(name: bytes, within: int) -> int:
    """Open only regular files: opening a FIFO or a device can block."""
    try:
        mode = os.stat(name, dir_fd=within, follow_symlinks=False).st_mode
        fd = os.open(name, _OPEN_FILE, dir_fd=within) if stat.S_ISREG(mode) else -1
    except OSError as error:
        raise _translated(error) from None
    if fd < 0:
        raise _not_there()
    if not stat.S_ISREG(os.fstat(fd).st_mode):  # it was replaced meanwhile
        os.close(fd)
        raise _not_there()
    return fd


def _translated(error: OSError) -> OSError:
    return _not_there() if error.errno in _NOT_THERE else error


def _not_there() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextlib.contextmanager
def _opened(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
