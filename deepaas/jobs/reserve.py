"""Room that is kept free in the state directory, for what must be possible on a full disk.

Files take the room. They are removed when the disk is too full for the record of trainings to be
written, so that an end can be written and a record can be removed. A server makes them again when
the disk has room. There are several files because a disk can run out of inodes, too.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

logger = logging.getLogger("deepaas.training")

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a full disk."""

FILES = 4
PROBE_SIZE = 64 * 1024
"""Bytes: a disk that cannot take a file of this size counts as full."""

_PROBE = "probe"


class Reserve:
    """The reserve of a state directory. `size` is in bytes, 0 is no reserve."""

    def __init__(self, state: Path, size: int = 0) -> None:
        self._state = state
        self._directory = state / "reserve"
        self._size = size
        self._complaint = ""

    def __repr__(self) -> str:
        return f"<Reserve {self._directory}: {self._size} bytes>"

    @property
    def is_there(self) -> bool:
        """Whether the room is taken, or none is wanted."""
        return all(_size(path) >= self._share for path in self._paths() if self._size)

    def make(self) -> bool:
        """Take the room unless it is taken; False if the disk is too full for that.

        A disk on which the reserve is impossible for another reason does without one.
        """
        if self._size == 0 or self.is_there:
            return True
        if self._is_short():
            return False
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            for path in self._paths():
                _allocate(path, self._share)
        except OSError as error:
            self.release()
            if error.errno in FULL:
                return False
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.warning("There can be no reserve in %s: %s", self._state, error)
        return True

    def release(self) -> bool:
        """Give the room back to the disk; False if none was taken."""
        released = False
        for path in self._paths():
            with contextlib.suppress(OSError):
                path.unlink()
                released = True
        return released

    def disk_is_full(self) -> bool:
        """Whether the disk has no room for a small file."""
        path = self._directory / _PROBE
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            _allocate(path, PROBE_SIZE)
        except OSError as error:
            return error.errno in FULL
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
        return False

    @property
    def _share(self) -> int:
        return -(-self._size // FILES)

    def _paths(self) -> list[Path]:
        return [self._directory / f"{number}" for number in range(FILES)]

    def _is_short(self) -> bool:
        """Whether the reserve would take more than half of the room that there is.

        Then the next write would release it again.
        """
        try:
            status = os.statvfs(self._state)
        except OSError:
            return False
        knows_its_size = status.f_blocks > 0  # some network file systems do not
        return knows_its_size and status.f_bavail * status.f_frsize < 2 * self._size


def _size(path: Path) -> int:
    """The size of a file; -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _allocate(path: Path, size: int) -> None:
    """Make a file that takes as many bytes on the disk. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)
