"""Maps a method and a path to a handler.

Paths match with and without the final slash, and with doubled slashes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from deepaas.exceptions import MethodNotAllowedError, NotFoundError

Handler = Callable[..., Awaitable[web.StreamResponse]]

MAX_CACHED = 1024


@dataclass(frozen=True)
class Route:
    """A method, a path, and their handler.

    The handler gets `arguments` by name, and each `{name}`, which matches one segment of `path`. A
    last `{name*}` matches all remaining segments, one or more; its value is a tuple. In this tuple,
    bytes that are not UTF-8 are escaped as in file names: `os.fsencode` returns the bytes. The rest
    of `path` is percent-encoded.
    """

    method: str
    path: str
    handler: Handler
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Step:
    """One segment of a route's path: its decoded text, or the name of a parameter."""

    text: str
    is_name: bool

    @classmethod
    def of(cls, segment: str) -> _Step:
        if segment[0] == "{":
            return cls(segment[1:-1], is_name=True)
        return cls(unquote(segment), is_name=False)


class Router:
    def __init__(self, base_path: str, routes: Iterable[Route]) -> None:
        self._routes: dict[int, list[tuple[Sequence[_Step], Route]]] = {}
        self._tails: list[tuple[Sequence[_Step], str, Route]] = []
        for route in routes:
            pattern = [_Step.of(segment) for segment in _segments(f"{base_path}/{route.path}")]
            if pattern and pattern[-1].is_name and pattern[-1].text.endswith("*"):
                self._tails.append((pattern[:-1], pattern[-1].text[:-1], route))
            else:
                self._routes.setdefault(len(pattern), []).append((pattern, route))
        self._cache: dict[tuple[str, str], tuple[Handler, dict[str, Any]]] = {}

    def find(self, method: str, raw_path: str) -> tuple[Handler, dict[str, Any]]:
        """Return the handler of a request, and its arguments.

        `raw_path` is the path in the request line, without the query. Raises NotFoundError and
        MethodNotAllowedError.
        """
        key = (method, raw_path)
        found = self._cache.get(key)
        if found is None:
            found, is_tail = self._search(method, raw_path)
            if is_tail:  # such paths are too many to cache: they would displace the others
                return found
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[key] = found
        return found

    def _search(self, method: str, raw_path: str) -> tuple[tuple[Handler, dict[str, Any]], bool]:
        """Return the handler with its arguments, and whether the route has a `{name*}`."""
        allowed = set()
        for route, names, is_tail in self._fitting(_segments(raw_path)):
            if route.method == method:
                return (route.handler, {**route.arguments, **names}), is_tail
            allowed.add(route.method)
        if allowed:
            raise MethodNotAllowedError(method, allowed)
        raise NotFoundError(f"There is nothing at {raw_path}")

    def _fitting(
        self, raw_segments: Sequence[str]
    ) -> Iterator[tuple[Route, Mapping[str, Any], bool]]:
        """Yield the routes for this path, the values of names, and whether there is a `{name*}`."""
        # Decode each segment separately: an encoded slash or ".." must not change the path.
        segments = [unquote(segment) for segment in raw_segments]
        for pattern, route in self._routes.get(len(segments), ()):
            names = _match(pattern, segments)
            if names is not None:
                yield route, names, False
        for pattern, tail, route in self._tails:
            names = _match(pattern, segments[: len(pattern)])
            rest = raw_segments[len(pattern) :]
            if names is not None and rest:
                decoded = tuple(unquote(segment, errors="surrogateescape") for segment in rest)
                yield route, {**names, tail: decoded}, True


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def _match(pattern: Sequence[_Step], segments: Sequence[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    names = {}
    for step, segment in zip(pattern, segments, strict=True):
        if step.is_name:
            names[step.text] = segment
        elif step.text != segment:
            return None
    return names
