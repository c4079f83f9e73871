"""Masks the values of secret arguments in the targets of requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

from aiohttp import web

from deepaas.http.middleware import FastHooks, Next
from deepaas.http.request import Request
from deepaas.http.routing import Route

MASK = "********"
_MAY_HOLD_MORE = re.compile(r"[?&;#=%@]")
_SEPARATOR = re.compile(r"[?&;#]")
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")
_MAX_DECODINGS = 5
"""How many times a text may have been percent-encoded."""

_MAX_TARGET = 8 * 1024
"""Characters. A longer target that names a secret is logged without values, to save time."""


class HideSecrets:
    """A middleware that masks the secrets in the target of a request, so that no log shows them."""

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        if _MAY_HOLD_MORE.search(request.raw_path) is not None:
            secrets = route.secrets()
            names = None if secrets is None else frozenset(map(_plain_name, secrets))
            request.target = masked(request.raw_path, names)
        return await next(request)

    def fast(self, request: Request) -> FastHooks:
        return FastHooks(reads=())  # the target is cached as this middleware has left it


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
