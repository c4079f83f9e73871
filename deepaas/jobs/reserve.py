"""Disk space that is reserved in the state directory for changes that must work on a full disk.

Files take the space. They are removed when the disk is too full to write the record of trainings,
so that an end can be written and a record can be removed. A server creates them again when the disk
has room. There are several files because a disk can also run out of inodes.
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
    """The reserve of a state directory. `size` is in bytes; 0 means no reserve."""

    def __init__(self, state: Path, size: int = 0) -> None:
        self._state = state
        self._directory = state / "reserve"
        self._size = size
        self._complaint = ""

    def __repr__(self) -> str:
        return f"<Reserve {self._directory}: {self._size} bytes>"

    @property
    def is_there(self) -> bool:
        """Whether the reserve is complete, or its size is 0."""
        return all(_size(path) >= self._share for path in self._paths() if self._size)

    def make(self) -> bool:
        """Create the reserve unless it exists; return False if the disk is too full for it.

        If it cannot be created for another reason, log that, go without it and return True.
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
                logger.warning("Cannot create the reserve in %s: %s", self._state, error)
        return True

    def release(self) -> bool:
        """Remove the reserve; return False if there was none."""
        released = False
        for path in self._paths():
            with contextlib.suppress(OSError):
                path.unlink()
                released = True
        return released

    def disk_is_full(self) -> bool:
        """Return whether the disk has no room for a small file."""
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
        """Return whether the reserve would take more than half of the free space.

        Then the next write would release it again.
        """
        try:
            status = os.statvfs(self._state)
        except OSError:
            return False
        knows_its_size = status.f_blocks > 0  # some network file systems do not
        return knows_its_size and status.f_bavail * status.f_frsize < 2 * self._size


def _size(path: Path) -> int:
    """Return the size of a file; -1 if it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _allocate(path: Path, size: int) -> None:
    """Create a file that takes this many bytes on the disk. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)
