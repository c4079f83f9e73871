"""From a method and a path to a handler. Paths match with and without the final slash, and with
doubled slashes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from deepaas.exceptions import MethodNotAllowedError, NotFoundError

Handler = Callable[..., Awaitable[web.StreamResponse]]

MAX_CACHED = 1024


@dataclass(frozen=True)
class Route:
    """What answers a method on a path.

    The handler gets `arguments` by name, and each `{name}` that stands for a segment of `path`.
    Whatever else is in `path` is percent-encoded.
    """

    method: str
    path: str
    handler: Handler
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Step:
    """One segment of a route's path: itself, decoded, or the name of what stands there."""

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
        for route in routes:
            pattern = [_Step.of(segment) for segment in _segments(f"{base_path}/{route.path}")]
            self._routes.setdefault(len(pattern), []).append((pattern, route))
        self._cache: dict[tuple[str, str], tuple[Handler, dict[str, Any]]] = {}

    def find(self, method: str, raw_path: str) -> tuple[Handler, dict[str, Any]]:
        """The handler for a path as it stands in the request line, without its query.

        Raises NotFoundError and MethodNotAllowedError.
        """
        key = (method, raw_path)
        found = self._cache.get(key)
        if found is None:
            found = self._search(method, raw_path)
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[key] = found
        return found

    def _search(self, method: str, raw_path: str) -> tuple[Handler, dict[str, Any]]:
        # Decoded segment by segment, so that an encoded slash or .. never is a step in the path.
        segments = [unquote(segment) for segment in _segments(raw_path)]
        allowed = set()
        for pattern, route in self._routes.get(len(segments), ()):
            names = _match(pattern, segments)
            if names is None:
                continue
            if route.method == method:
                return route.handler, {**route.arguments, **names}
            allowed.add(route.method)
        if allowed:
            raise MethodNotAllowedError(method, allowed)
        raise NotFoundError(f"There is nothing at {raw_path}")


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def _match(pattern: Sequence[_Step], segments: Sequence[str]) -> dict[str, str] | None:
    names = {}
    for step, segment in zip(pattern, segments, strict=True):
        if step.is_name:
            names[step.text] = segment
        elif step.text != segment:
            return None
    return names
