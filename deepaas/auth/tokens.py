"""Sign-in by tokens: the plug-in `tokens`.

The tokens come from a file, which is read again when it changes, and from the environment.
"""

from __future__ import annotations

import hmac
import logging
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from deepaas.auth.plugins import Headers, Options
from deepaas.auth.sign_in import CHALLENGE
from deepaas.auth.token_lines import (
    MAKE,
    MAX_TOKEN,
    MIN_TOKEN,
    LineError,
    Token,
    digest_of,
    parse,
)
from deepaas.exceptions import BadTokenError, ConfigurationError
from deepaas.http.principal import Principal

logger = logging.getLogger("deepaas.auth")

VARIABLE = "DEEPAAS_TOKENS"
"""The environment variable with tokens: lines as in a token file."""

LOOK_SECONDS = 1.0
"""The shortest interval between two checks whether the file has changed."""

FRESH_SECONDS = 2.0
"""For so long after a change of the file, another one may leave its times as they are."""

MAX_FILE = 4 * 1024 * 1024  # bytes

_OPEN_TO_OTHERS = stat.S_IRWXO | stat.S_IWGRP

Signature = tuple[int, ...]


def make(options: Options) -> Tokens:
    """Return the tokens. Raises ConfigurationError if there is no token or a malformed line."""
    return Tokens(options.token_file, os.environ.get(VARIABLE, ""), options.models)


class Tokens:
    """The tokens of a file and of a text with the same lines. It is an Authenticator."""

    challenge = CHALLENGE
    headers = ("authorization",)  # those that `authenticate` reads

    def __init__(self, path: str, text: str, models: frozenset[str] = frozenset()) -> None:
        self._path = Path(path).absolute() if path else None
        self._models = models
        self._version = 0
        self._checked = time.monotonic()
        self._signature: Signature | None = None
        self._data = b""
        try:
            self._fixed = list(parse(text))
        except LineError as error:
            raise ConfigurationError(f"{VARIABLE}, {error}") from None
        self._tokens: dict[bytes, Token] = {}
        try:
            tokens = self._read() if self._path is not None else None
        except _FileError as error:
            raise ConfigurationError(f"{error}") from None
        self._replace(tokens or [])
        if not self._tokens:
            where = f"{self._path} has no token" if path else "no token is given"
            raise ConfigurationError(
                f"--auth tokens: {where}; make one with: {MAKE} NAME --scopes predict "
                f"--token-file {path or 'FILE'}, and give the file with --token-file"
            )

    def version(self) -> int:
        """Return how often the tokens have changed. Look first whether the file has changed."""
        now = time.monotonic()
        if now - self._checked >= LOOK_SECONDS:
            self._checked = now
            self._update()
        return self._version

    async def authenticate(self, headers: Headers) -> Principal | None:
        self.version()
        given = headers.getall("Authorization", [])
        if not given:
            return None
        scheme, _, token = given[0].partition(" ")
        if len(given) > 1:
            raise BadTokenError(CHALLENGE, "The header Authorization must be there only once")
        if scheme.lower() != "bearer":
            return None
        found = self._find(token.strip(" "))
        if found is None:
            raise BadTokenError(CHALLENGE, "This server does not know the token")
        return found.principal

    def _find(self, token: str) -> Token | None:
        if not MIN_TOKEN <= len(token) <= MAX_TOKEN:
            return None
        digest = digest_of(token)
        found = self._tokens.get(digest)
        # The time that a look-up by hash takes reveals nothing about a token, and neither does
        # this comparison.
        if found is None or not hmac.compare_digest(found.digest, digest):
            return None
        return found

    # --- the file

    def _update(self) -> None:
        """Read the file again if it has changed. If it is malformed, keep the old tokens."""
        if self._path is None:
            return
        try:
            tokens = self._read()
        except _FileError as error:
            logger.error("The tokens stay as they were: %s", error)
            return
        if tokens is not None:
            self._replace(tokens)
            logger.info("Read %d token(s) from %s", len(tokens), self._path)
            if not tokens:
                logger.warning("%s has no token any more", self._path)

    def _read(self) -> list[Token] | None:
        """Return the tokens of the file, or None if it is as it was. Raises _FileError.

        The same error is raised only once.
        """
        assert self._path is not None
        try:
            signature = _signature(os.stat(self._path))
        except OSError as error:
            if self._signature == ():
                return None
            self._signature = ()
            raise _FileError(self._path, f"it cannot be read: {error.strerror}") from None
        if signature == self._signature:
            return None
        self._signature = signature
        data, is_fresh = _content(self._path)
        if is_fresh:  # another change could leave the signature as it is
            self._signature = None
        if data == self._data:
            return None
        self._data = data
        try:
            return list(parse(data.decode("utf-8")))
        except UnicodeDecodeError:
            raise _FileError(self._path, "it is not a text in UTF-8") from None
        except LineError as error:
            raise _FileError(self._path, str(error)) from None

    def _replace(self, tokens: Iterable[Token]) -> None:
        self._tokens = {token.digest: token for token in [*self._fixed, *tokens]}
        self._version += 1
        named = {name for token in self._tokens.values() for name in token.principal.models or ()}
        if self._models and (unknown := named - self._models):
            text = ", ".join(sorted(unknown))
            logger.warning("Tokens name models that this server does not serve: %s", text)


class _FileError(Exception):
    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"--token-file {path}: {message}")


def _signature(status: os.stat_result) -> Signature:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode)


def _content(path: Path) -> tuple[bytes, bool]:
    """Return the content of the file, and whether it was changed a moment ago."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            _check(path, status)
            with open(fd, "rb", closefd=False) as file:
                return file.read(MAX_FILE), abs(time.time() - status.st_mtime) < FRESH_SECONDS
        finally:
            os.close(fd)
    except OSError as error:
        raise _FileError(path, f"it cannot be read: {error.strerror}") from None


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _FileError(path, "it is not a file")
    if status.st_mode & _OPEN_TO_OTHERS:
        raise _FileError(
            path, f"other users can read or change it; correct that with: chmod 600 {path}"
        )
    if status.st_size > MAX_FILE:
        raise _FileError(path, f"it is larger than {MAX_FILE} bytes")
