"""One line a request, without the secrets in it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from deepaas.log import Lines

MASK = "********"
_SHOWN: Any = "deepaas.target"
if hasattr(web, "RequestKey"):  # aiohttp has it since 3.14, and warns of other keys
    _SHOWN = web.RequestKey("deepaas.target", str)
_MAY_HOLD_MORE = re.compile(r"[?&;#=%@]")
_SEPARATOR = re.compile(r"[?&;#]")
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")
_MOST_ROUNDS = 5
"""How often a text may have been percent-encoded."""

_MOST_CHARACTERS = 8 * 1024
"""Of a longer target that names a secret, no value is shown: to look at each would take long."""


def hide_secrets(request: web.BaseRequest, descriptions: Iterable[Mapping[str, Any]]) -> None:
    """Let no log show the secrets in the target of a request.

    They are the arguments of these models that their descriptions call secret. If a model has not
    described itself yet, every value may be one.
    """
    request[_SHOWN] = masked(request.raw_path, _secrets_of(descriptions))


def may_hold_secrets(target: str) -> bool:
    """Whether a target has more than a plain path."""
    return _MAY_HOLD_MORE.search(target) is not None


def _secrets_of(descriptions: Iterable[Mapping[str, Any]]) -> frozenset[str] | None:
    """The names of secret arguments; None if they are not all known."""
    secrets: set[str] = set()
    for description in descriptions:
        if not description:
            return None
        for function in ("predict", "train"):
            secrets.update(description.get(function, {}).get("secrets", ()))
    return frozenset(map(_plain_name, secrets))


def masked(target: str, secrets: frozenset[str] | None) -> str:
    """A target without the values of these arguments; without any value, if `secrets` is None.

    A value ends at the next `&`, and nowhere else: a secret may hold every other separator.
    """
    if target[:1] != "/":
        target = _USER.sub(r"\1", target)
    if secrets is not None and not _names_one(target, secrets):  # as most do not
        return target
    path = _SEPARATOR.split(target, maxsplit=1)[0]
    mark, parts = target[len(path) :][:1], target[len(path) + 1 :].split("&")
    if _holds_secret(_SEPARATOR.split(_decoded(path))[1:], secrets):  # an encoded ? is in it
        path = path.partition("%")[0] + MASK
    if secrets is None or len(target) > _MOST_CHARACTERS:
        return f"{path}{mark}{MASK}" if mark else path
    return f"{path}{mark}{'&'.join(_masked_part(part, secrets) for part in parts)}"


def _names_one(target: str, secrets: frozenset[str]) -> bool:
    """Whether the name of a secret is anywhere in a target."""
    text = _decoded(target).casefold() if secrets else ""
    return any(name in text for name in secrets)


def _masked_part(part: str, secrets: frozenset[str]) -> str:
    """One `name=value` of a query, without the value if a secret is in it."""
    name, equals, _ = part.partition("=")
    is_secret = equals and _plain_name(unquote_plus(name)) in secrets
    if not is_secret and not _holds_secret(_SEPARATOR.split(_decoded(part)), secrets):
        return part
    is_name = equals and not _SEPARATOR.search(_decoded(name)) and "=" not in _decoded(name)
    return f"{name}={MASK}" if is_name else MASK


def _holds_secret(pairs: Iterable[str], secrets: frozenset[str] | None) -> bool:
    """Whether one of these pairs gives a value to a secret."""
    names = [_plain_name(pair.partition("=")[0]) for pair in pairs if "=" in pair]
    return bool(names) if secrets is None else not secrets.isdisjoint(names)


def _plain_name(name: str) -> str:
    """A name without what clients vary: encoding, case, blanks, and `[]` at the name of a list."""
    return _decoded(name).strip().casefold().partition("[")[0]


def _decoded(text: str) -> str:
    """A text without percent-encoding, even if a client has encoded it more than once."""
    for _ in range(_MOST_ROUNDS):
        if "%" not in text:
            break
        text = unquote_plus(text)
    return text.replace("+", " ")


def shown_target(request: web.BaseRequest) -> str:
    """The target of a request as logs may show it."""
    target: str = request.get(_SHOWN, request.raw_path)
    return target


class AccessLog:
    """Writes the lines of all requests that are answered in one turn of the event loop at once.

    To make a record and to write it takes longer than all else that a small request needs.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write the lines that wait."""
        if not self._lines:
            return
        lines, self._lines = Lines(self._lines), []
        # Not logger.info(), which would search the stack for where it was called.
        name = self._logger.name
        self._logger.handle(logging.LogRecord(name, logging.INFO, "", 0, lines, (), None))


class AccessLogger(AbstractAccessLogger):
    """Logs the client, the request, the status, the bytes of the answer's body, and the seconds.

    Made for speed: at ten thousand requests a second aiohttp's own costs more than the answers.
    """

    def __init__(self, log: AccessLog, log_format: str) -> None:
        """A logger for one connection. aiohttp makes it, and gives a format, which is not used."""
        self._log = log

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.write(
            request.remote,
            request.method,
            shown_target(request),
            response.status,
            _body_length(request, response),
            time,
            request.headers.get(hdrs.USER_AGENT, "-"),
        )

    def write(
        self,
        remote: str | None,
        method: str,
        target: str,
        status: int,
        length: int,
        seconds: float,
        agent: str,
    ) -> None:
        """Log one line."""
        self._log.add(
            f'{remote} "{method} {target} HTTP/1.1" {status} {length} {seconds:.6f} "{agent}"'
        )


def _body_length(request: web.BaseRequest, response: web.StreamResponse) -> int:
    """The bytes of the body that were sent, without the head, which aiohttp would count, too."""
    if request.method == hdrs.METH_HEAD:
        return 0
    if isinstance(response, web.FileResponse):
        return response.content_length or 0
    if isinstance(response, web.Response):
        return len(response.body) if isinstance(response.body, bytes) else 0
    return response.body_length
