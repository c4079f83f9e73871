"""The access log: one line for each request, with secrets masked."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from deepaas.log import LogLines

MASK = "********"
_SHOWN: Any = "deepaas.target"
if hasattr(web, "RequestKey"):  # aiohttp 3.14 adds it, and warns about other keys
    _SHOWN = web.RequestKey("deepaas.target", str)
_MAY_HOLD_MORE = re.compile(r"[?&;#=%@]")
_SEPARATOR = re.compile(r"[?&;#]")
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")
_MAX_DECODINGS = 5
"""How many times a text may have been percent-encoded."""

_MAX_TARGET = 8 * 1024
"""Characters. A longer target that names a secret is logged without values, to save time."""


def hide_secrets(request: web.BaseRequest, descriptions: Iterable[Mapping[str, Any]]) -> None:
    """Mask the secrets in the target of a request, so that no log shows them.

    The model descriptions say which arguments are secret. If one of them is still empty, every
    value is masked.
    """
    request[_SHOWN] = masked(request.raw_path, _secrets_of(descriptions))


def may_hold_secrets(target: str) -> bool:
    """Return whether a target has more than a plain path."""
    return _MAY_HOLD_MORE.search(target) is not None


def _secrets_of(descriptions: Iterable[Mapping[str, Any]]) -> frozenset[str] | None:
    """Return the names of secret arguments, or None if a model is not described yet."""
    secrets: set[str] = set()
    for description in descriptions:
        if not description:
            return None
        for function in ("predict", "train"):
            secrets.update(description.get(function, {}).get("secrets", ()))
    return frozenset(map(_plain_name, secrets))


def masked(target: str, secrets: frozenset[str] | None) -> str:
    """Return a target without the values of these arguments, or without any if `secrets` is None.

    A value ends only at the next `&`, because a secret may contain any other separator.
    """
    if target[:1] != "/":
        target = _USER.sub(r"\1", target)
    if secrets is not None and not _names_secret(target, secrets):  # the usual case
        return target
    path = _SEPARATOR.split(target, maxsplit=1)[0]
    mark, parts = target[len(path) :][:1], target[len(path) + 1 :].split("&")
    if _holds_secret(_SEPARATOR.split(_decoded(path))[1:], secrets):  # the path has an encoded "?"
        path = path.partition("%")[0] + MASK
    if secrets is None or len(target) > _MAX_TARGET:
        return f"{path}{mark}{MASK}" if mark else path
    return f"{path}{mark}{'&'.join(_masked_part(part, secrets) for part in parts)}"


def _names_secret(target: str, secrets: frozenset[str]) -> bool:
    text = _decoded(target).casefold() if secrets else ""
    return any(name in text for name in secrets)


def _masked_part(part: str, secrets: frozenset[str]) -> str:
    name, equals, _ = part.partition("=")
    is_secret = equals and _plain_name(unquote_plus(name)) in secrets
    if not is_secret and not _holds_secret(_SEPARATOR.split(_decoded(part)), secrets):
        return part
    is_name = equals and not _SEPARATOR.search(_decoded(name)) and "=" not in _decoded(name)
    return f"{name}={MASK}" if is_name else MASK


def _holds_secret(pairs: Iterable[str], secrets: frozenset[str] | None) -> bool:
    """Return whether one of these `name=value` pairs sets a secret, or, for None, has a value."""
    names = [_plain_name(pair.partition("=")[0]) for pair in pairs if "=" in pair]
    return bool(names) if secrets is None else not secrets.isdisjoint(names)


def _plain_name(name: str) -> str:
    """Return a name without variations: encoding, case, blanks, and the `[]` of a list's name."""
    return _decoded(name).strip().casefold().partition("[")[0]


def _decoded(text: str) -> str:
    """Undo percent-encoding, even if a client has applied it more than once."""
    for _ in range(_MAX_DECODINGS):
        if "%" not in text:
            break
        text = unquote_plus(text)
    return text.replace("+", " ")


def shown_target(request: web.BaseRequest) -> str:
    """Return the target of a request as logs may show it."""
    target: str = request.get(_SHOWN, request.raw_path)
    return target


class AccessLog:
    """A log that writes the lines of one event loop turn together.

    For a small request, making and writing a log record takes longer than everything else.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write the collected lines."""
        if not self._lines:
            return
        lines, self._lines = LogLines(self._lines), []
        # logger.info() would search the stack for its caller, which is slow.
        name = self._logger.name
        self._logger.handle(logging.LogRecord(name, logging.INFO, "", 0, lines, (), None))


class AccessLogger(AbstractAccessLogger):
    """A logger of the client, the request, the status, the size of the response body in bytes, and
    the seconds.

    At ten thousand requests per second, aiohttp's AccessLogger takes longer than the responses.
    """

    def __init__(self, log: AccessLog, log_format: str) -> None:
        """Make the logger of one connection. aiohttp passes a format, which is not used."""
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
        self._log.add(
            f'{remote} "{method} {target} HTTP/1.1" {status} {length} {seconds:.6f} "{agent}"'
        )


def _body_length(request: web.BaseRequest, response: web.StreamResponse) -> int:
    """Return how many bytes of the body were sent. aiohttp would also count the head."""
    if request.method == hdrs.METH_HEAD:
        return 0
    if isinstance(response, web.FileResponse):
        return response.content_length or 0
    if isinstance(response, web.Response):
        return len(response.body) if isinstance(response.body, bytes) else 0
    return response.body_length
