"""The weights that the author of a model declares, and their version.

`weights` is a list of paths: of files, or of directories with all files in them. The version is
made from their names and contents, so it changes if and only if one of these changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from deepaas.log import get_logger
from deepaas.model.v2.declarations import a
from deepaas.model.v2.json_schema import Json
from deepaas.model.v2.places import at, place_of_attribute

logger = get_logger("deepaas.worker")

MAX_BYTES = 32 * 2**30
"""Bytes of all files; larger weights have no version, because it would take too long."""

MAX_FILES = 10_000
MAX_SHOWN = 100
"""Files in the description."""

DIGITS = 16
"""Hexadecimal digits of a version."""

LOCK_SECONDS = 120.0
"""Maximum time to wait for another worker that hashes the same file."""

_LARGE = 16 * 2**20  # bytes; the digest of a smaller file is not stored
_LONG = 2**30  # bytes; the log says that a larger file is read
_PIECE = 2**20  # bytes that are read at once
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Weights:
    """The declared paths of a model, `directory` of the model's module, and the mistakes in them.

    The mistakes have a line each.
    """

    paths: Sequence[str]
    directory: str
    mistakes: Sequence[str] = ()


def declared_weights(model: object, file: str) -> Weights | None:
    """Return the weights that the model declares, or None.

    `file` is the file of the model's module. A value that is neither a path nor a list with paths
    is a variable of the model, and not a declaration.
    """
    declared = inspect.getattr_static(model, "weights", None)  # a property may run the model
    directory = os.path.dirname(file)
    if isinstance(declared, str | os.PathLike) and looks_like_path(declared):
        text = f"weights is {a(declared)}, and not a list of paths; write weights = "
        lines = [at(place_of_attribute(model, "weights"), f"{text}[{os.fspath(declared)!r}]")]
        return Weights([], directory, lines)
    if not isinstance(declared, list | tuple):
        return None
    paths = [os.fspath(one) for one in declared if isinstance(one, str | os.PathLike)]
    if not paths:
        return None
    mistakes = [
        at(
            place_of_attribute(model, "weights", item=index),
            f"weights[{index}] is {a(one)}, and not a path; write a text",
        )
        for index, one in enumerate(declared)
        if not isinstance(one, str | os.PathLike)
    ]
    return Weights(paths, directory, mistakes)


def looks_like_path(value: object) -> bool:
    """Return whether the value is probably meant as the path of a file."""
    return isinstance(value, os.PathLike) or (
        isinstance(value, str) and ("." in value or os.sep in value)
    )


def describe_weights(weights: Weights | None, name: str, cache: str = "") -> Json | None:
    """Return the version of the weights of the model `name` and its files; None without weights.

    `version` is None if no file can be read, or if there are too many bytes or files. `files` has
    `path`, `size` in bytes, and `problem`: None, or why the file cannot be read. Digests of large
    files are stored in the directory `cache`, so that several workers do not hash the same file.
    """
    if weights is None or not weights.paths:
        return None
    files = [one for path in weights.paths for one in _files_at(path, weights.directory)]
    total = sum(one.size for one in files)
    described: Json = {
        "version": None,
        "files": [
            {"path": one.shown, "size": one.size, "problem": one.problem}
            for one in files[:MAX_SHOWN]
        ],
    }
    if total > MAX_BYTES or len(files) > MAX_FILES:
        limit = f"{MAX_BYTES} bytes or {MAX_FILES} files"
        logger.warning("The weights of model %s have no version: more than %s", name, limit)
        return described
    return described | {"version": _version(files, cache)}


@dataclass
class _File:
    shown: str  # the path in the description
    path: str
    size: int = 0
    problem: str | None = None


def _files_at(declared: str, directory: str) -> list[_File]:
    """Return the file at a declared path, or the files in the directory at this path."""
    path = os.path.join(directory, os.path.expanduser(os.path.expandvars(declared)))
    shown = _shown(declared, directory)
    if not os.path.isdir(path):
        return [_checked(shown, path)]
    found: list[_File] = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            inner = os.path.join(folder, name)
            relative = os.path.relpath(inner, path)
            found.append(_checked(os.path.join(shown, relative), inner))
        if len(found) > MAX_FILES:
            break
    return found


def _shown(declared: str, directory: str) -> str:
    """Return the path without the directories of this machine."""
    if not os.path.isabs(declared):
        return declared
    relative = os.path.relpath(declared, directory or os.sep)
    return os.path.basename(declared) if relative.startswith(os.pardir) else relative


def _checked(shown: str, path: str) -> _File:
    shown = shown.encode("utf-8", "backslashreplace").decode()  # a name may not be UTF-8
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        return _File(shown, path, problem=_reason(error))
    if not stat.S_ISREG(status.st_mode):
        return _File(shown, path, problem="Not a file")
    return _File(shown, path, status.st_size)


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or "Not a path"


def _version(files: Sequence[_File], cache: str) -> str | None:
    whole = hashlib.sha256()
    has_any = False
    for one in files:
        if one.problem is not None:
            continue
        try:
            digest = _digest_of(one.path, cache)
        except OSError as error:  # it was removed meanwhile, or the disk fails
            logger.warning("The weights %s cannot be read: %s", one.path, _reason(error))
            continue
        whole.update(f"{one.shown}\0{digest}\n".encode())
        has_any = True
    return f"sha256:{whole.hexdigest()[:DIGITS]}" if has_any else None


def _digest_of(path: str, cache: str) -> str:
    """Return the digest of a file's contents. Raises OSError."""
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not cache or status.st_size < _LARGE:
            return _hash(file)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        key = hashlib.sha256(repr(identity).encode()).hexdigest()
        try:
            entry = open(os.path.join(cache, f"weights-{key}"), "a+b")  # noqa: SIM115
        except OSError:  # the disk is full
            return _hash(file)
        with entry:
            return _stored(entry, file)


def _hash(file: BinaryIO) -> str:
    """Return the digest of the contents, which are read in pieces."""
    size = os.fstat(file.fileno()).st_size
    if size > _LONG:
        name = os.path.basename(str(file.name))
        logger.info("Reading %s (%.1f GB) for the version of the weights", name, size / 1e9)
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _stored(entry: BinaryIO, file: BinaryIO) -> str:
    """Return the digest that another worker has stored, or compute and store it."""
    _lock(entry)
    entry.seek(0)
    known = entry.read().decode("ascii", "replace")
    if len(known) == hashlib.sha256().digest_size * 2:
        return known
    digest = _hash(file)
    with contextlib.suppress(OSError):  # the disk is full
        entry.truncate(0)
        entry.write(digest.encode())
        entry.flush()
    return digest


def _lock(entry: BinaryIO) -> None:
    """Wait until no other worker hashes the file; not forever, as that worker may be stopped."""
    ends = time.monotonic() + LOCK_SECONDS
    while not _try_lock(entry) and time.monotonic() < ends:
        time.sleep(_POLL_SECONDS)


def _try_lock(entry: BinaryIO) -> bool:
    try:
        fcntl.flock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would wait
