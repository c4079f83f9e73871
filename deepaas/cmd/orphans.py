"""What servers leave behind that were killed together with their guards: it is removed at a start.

A server holds the lock of a file in its upload directory, and of one in its state directory, for as
long as it lives. The kernel gives up a lock when the process that holds it ends, and the lock is
seen from other containers too. So a file whose lock is free belongs to a server that has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from deepaas.exceptions import ConfigurationError
from deepaas.processes import kill_marked
from deepaas.serving.guard import MARK

logger = logging.getLogger("deepaas")

PREFIX = "deepaas-"
LOCK = ".server-lock"
SIGN = b"The upload directory of a running deepaas-run, which holds a lock on this file.\n"
"""What a lock says, so that nobody else's directory is taken for one of a server."""

TURN = "starting.lock"
TURN_SECONDS = 2.0
"""How long a server waits for another one that opens the same state directory."""

_SERVER = re.compile(r"\d+-\d+-[0-9a-f]{8}")
_MADE_BY_US = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")


@contextlib.contextmanager
def upload_directory(parent: str) -> Iterator[str]:
    """A new directory in `parent`, the system's temporary one if that is empty.

    It is removed when the block ends. Raises ConfigurationError.
    """
    try:
        directory = tempfile.mkdtemp(prefix=PREFIX, dir=parent or None)
    except OSError as error:
        place = parent or tempfile.gettempdir()
        raise ConfigurationError(
            f"no directory for uploads can be made in {place}: {error.strerror}; "
            "give another place with --upload-dir"
        ) from None
    with contextlib.ExitStack() as resources:
        resources.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            resources.callback(os.close, _lock_new(directory))
        except OSError as error:  # a full disk, or one without locks
            logger.debug("%s has no lock and will not be found by others: %s", directory, error)
        yield directory


def _lock_new(directory: str) -> int:
    """Make the lock of a directory and hold it; its descriptor. Raises OSError.

    It has its name once it is held, so nobody finds it free.
    """
    path = os.path.join(directory, LOCK)
    fd = os.open(f"{path}-new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, SIGN)
        os.rename(f"{path}-new", path)
    except OSError:
        os.close(fd)
        os.unlink(f"{path}-new")
        raise
    return fd


def sweep_beside(directory: str) -> None:
    """Remove the upload directories of servers that are gone, from where `directory` lies.

    That is done in a thread which nobody waits for: a start does not take longer for it.
    """
    parent = os.path.dirname(directory)
    threading.Thread(target=sweep_uploads, args=(parent,), daemon=True, name="sweeping").start()


def sweep_uploads(parent: str) -> None:
    try:
        found = [entry.name for entry in os.scandir(parent) if _MADE_BY_US.fullmatch(entry.name)]
    except OSError as error:
        logger.debug("%s cannot be read: %s", parent, error)
        return
    for name in found:
        with contextlib.suppress(OSError), _lock_of_the_gone(os.path.join(parent, name)) as is_held:
            if is_held:
                logger.info("Removing %s, which a server has left that was killed", name)
                kill_marked(f"{MARK}={name}/")
                _remove(os.path.join(parent, name))


@contextlib.contextmanager
def _lock_of_the_gone(path: str) -> Iterator[bool]:
    """Hold the lock of a directory whose server has gone; False if that lives, or is not known.

    Raises OSError if the directory has no lock, or cannot be read.
    """
    with contextlib.ExitStack() as opened:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | flags)
        opened.callback(os.close, directory)
        lock = os.open(LOCK, os.O_RDWR | os.O_NONBLOCK | flags, dir_fd=directory)
        opened.callback(os.close, lock)
        ours = all(os.fstat(fd).st_uid == os.geteuid() for fd in (directory, lock))
        yield ours and _is_sign(lock) and _take(lock)


def _is_sign(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode) and os.pread(fd, len(SIGN) + 1, 0) == SIGN


def _take(fd: int) -> bool:
    """Whether the lock was free; then it is held."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(directory: str) -> None:
    """Remove a directory, the lock last: what cannot be removed now is found again."""
    for entry in os.scandir(directory):
        if entry.name == LOCK:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
    if os.listdir(directory) == [LOCK]:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def sweeping_servers(state: Path) -> AsyncIterator[None]:
    """Remove the locks of servers that are gone from a state directory, which the block opens.

    Servers do both one after another. One that opens the directory makes its lock a moment before
    it holds it, and another one must not take it for a free one in that moment.
    """
    turn = await _wait_for_turn(state)
    try:
        yield
    except BaseException:
        if turn >= 0:
            os.close(turn)
        raise
    if turn >= 0:
        arguments = (state / "servers", turn)
        threading.Thread(target=_sweep_servers, args=arguments, daemon=True).start()


async def _wait_for_turn(state: Path) -> int:
    """A descriptor that holds the lock of those that start; below 0 if it cannot be had."""
    fd = _open_turn(state)
    if fd < 0:
        return -1
    try:
        deadline = time.monotonic() + TURN_SECONDS
        while time.monotonic() < deadline:
            if _take(fd):
                return fd
            await asyncio.sleep(0.02)
        logger.debug("Another server has been opening %s for %g s", state, TURN_SECONDS)
    except OSError as error:
        logger.debug("%s has no locks: %s", state, error)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return -1


def _open_turn(state: Path) -> int:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(state / TURN, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:  # those who open the directory say why
        return -1


def _sweep_servers(directory: Path, turn: int) -> None:
    try:
        for path in directory.iterdir():
            if _SERVER.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_if_free(path)
    except OSError as error:
        logger.debug("%s cannot be read: %s", directory, error)
    finally:
        os.close(turn)


def _remove_if_free(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid == os.geteuid() and _take(fd):
            path.unlink()
    finally:
        os.close(fd)
