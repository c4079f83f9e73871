"""Removes, at a start, the remains of servers that were killed together with their guards.

A running server holds the locks of a file in its upload directory and of one in its state
directory. The kernel releases a lock when its process exits, and other containers see it too. So a
file whose lock is free belongs to a server that has exited.
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
SIGN = b"The directory of a running deepaas-run or deepaas check, which locks this file.\n"
"""The content of a lock file: only a directory with this content is one of a server."""

TURN = "starting.lock"
TURN_SECONDS = 2.0
"""How long a server waits while another one opens the same state directory."""

_SERVER = re.compile(r"\d+-\d+-[0-9a-f]{8}")
_MADE_BY_US = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")
_CHECK = "deepaas-check-"
_MADE_BY_A_CHECK = re.compile(re.escape(_CHECK) + r"[a-z0-9_]{8}")


@contextlib.contextmanager
def upload_directory(parent: str) -> Iterator[str]:
    """Create a directory in `parent`, or in the system's temporary one if that is empty.

    It is removed when the block ends. Raises ConfigurationError if it cannot be created.
    """
    try:
        directory = tempfile.mkdtemp(prefix=PREFIX, dir=parent or None)
    except OSError as error:
        place = parent or tempfile.gettempdir()
        raise ConfigurationError(
            f"no directory for uploads can be made in {place}: {error.strerror}; "
            "give another place with --upload-dir"
        ) from None
    with _locked(directory):
        yield directory


@contextlib.contextmanager
def check_directory() -> Iterator[str]:
    """Create a directory for the server of a check, and remove those of checks that were killed.

    It is removed when the block ends. Raises OSError if it cannot be created.
    """
    directory = tempfile.mkdtemp(prefix=_CHECK)
    with _locked(directory):
        sweep_checks(os.path.dirname(directory))
        yield directory


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Hold the lock of a directory, and remove the directory when the block ends."""
    with contextlib.ExitStack() as resources:
        resources.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            resources.callback(os.close, _lock_new(directory))
        except OSError as error:  # a full disk, or one without locks
            logger.debug("%s has no lock, so no other server removes it: %s", directory, error)
        yield


def _lock_new(directory: str) -> int:
    """Create the lock file of a directory, lock it, and return its descriptor. Raises OSError.

    The file gets its name when it is locked, so that no process finds it unlocked.
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
    """Remove the upload directories of exited servers from the parent of `directory`.

    A daemon thread does it, so that it does not delay the start.
    """
    parent = os.path.dirname(directory)
    threading.Thread(target=sweep_uploads, args=(parent,), daemon=True, name="sweeping").start()


def sweep_uploads(parent: str) -> None:
    for name in _names_in(parent, _MADE_BY_US):
        with contextlib.suppress(OSError), _lock_abandoned(os.path.join(parent, name)) as is_held:
            if is_held:
                logger.info("Removing %s, which a killed server has left behind", name)
                kill_marked(f"{MARK}={name}/")
                _remove(os.path.join(parent, name))


def sweep_checks(parent: str) -> None:
    """Remove the directories of checks that were killed from `parent`."""
    for name in _names_in(parent, _MADE_BY_A_CHECK):
        path = os.path.join(parent, name)
        with contextlib.suppress(OSError), _lock_abandoned(path) as is_held:
            if is_held:
                sweep_uploads(os.path.join(path, "uploads"))  # ends what remains of its server
                _remove(path)


def _names_in(parent: str, pattern: re.Pattern[str]) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(parent) if pattern.fullmatch(entry.name)]
    except OSError as error:
        logger.debug("%s cannot be read: %s", parent, error)
        return []


@contextlib.contextmanager
def _lock_abandoned(path: str) -> Iterator[bool]:
    """Try to lock the directory of an exited server; yield True if it is locked.

    Yield False if the server is running, or the directory is not one of a server of this user.
    Raises OSError if the directory has no lock file, or cannot be read.
    """
    with contextlib.ExitStack() as opened:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | flags)
        opened.callback(os.close, directory)
        lock = os.open(LOCK, os.O_RDWR | os.O_NONBLOCK | flags, dir_fd=directory)
        opened.callback(os.close, lock)
        ours = all(os.fstat(fd).st_uid == os.geteuid() for fd in (directory, lock))
        yield ours and _is_sign(lock) and _try_lock(lock)


def _is_sign(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode) and os.pread(fd, len(SIGN) + 1, 0) == SIGN


def _try_lock(fd: int) -> bool:
    """Try to lock the file; return whether that succeeded."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(directory: str) -> None:
    """Remove a directory, the lock file last, so that a later start finds files that remain."""
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
    """Remove the lock files of exited servers from a state directory, which the block opens.

    A lock ensures that servers do this one after another: a server creates its lock file a moment
    before it locks it, and no other server may remove the file in between.
    """
    turn = await _take_turn(state)
    try:
        yield
    except BaseException:
        if turn >= 0:
            os.close(turn)
        raise
    if turn >= 0:
        arguments = (state / "servers", turn)
        threading.Thread(target=_sweep_servers, args=arguments, daemon=True).start()


async def _take_turn(state: Path) -> int:
    """Return a descriptor that holds the lock of starting servers; -1 if it cannot be locked."""
    fd = _open_turn(state)
    if fd < 0:
        return -1
    try:
        deadline = time.monotonic() + TURN_SECONDS
        while time.monotonic() < deadline:
            if _try_lock(fd):
                return fd
            await asyncio.sleep(0.02)
        logger.debug("Another server is opening %s, even after %g s", state, TURN_SECONDS)
    except OSError as error:
        logger.debug("Files in %s cannot be locked: %s", state, error)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return -1


def _open_turn(state: Path) -> int:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(state / TURN, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:  # opening the state directory reports the error
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
        if os.fstat(fd).st_uid == os.geteuid() and _try_lock(fd):
            path.unlink()
    finally:
        os.close(fd)
