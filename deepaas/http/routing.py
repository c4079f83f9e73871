"""Maps a method and a path to a route.

Paths match with and without the final slash, and with doubled slashes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from aiohttp import hdrs, web

from deepaas.enums import TextEnum
from deepaas.exceptions import MethodNotAllowedError, NotFoundError

Handler = Callable[..., Awaitable[web.StreamResponse]]

Operation = Callable[[dict[str, Any]], "dict[str, Any] | None"]
"""Returns the description of a route now, or None if the route is not offered now.

It may add definitions to its argument.
"""

MAX_CACHED = 1024


class Access(TextEnum):
    """What a client must be allowed to do in order to use a route."""

    PUBLIC = "public"
    READ = "read"
    PREDICT = "predict"
    TRAIN = "train"
    ADMIN = "admin"


def _no_secrets() -> frozenset[str] | None:
    return frozenset()


@dataclass(frozen=True)
class Route:
    """A method and a path, their handler, who may use them, and their description.

    The handler gets `arguments` by name, and each `{name}`, which matches one segment of `path`. A
    last `{name*}` matches all remaining segments, one or more; its value is a tuple. In this tuple,
    bytes that are not UTF-8 are escaped as in file names: `os.fsencode` returns the bytes. The rest
    of `path` is percent-encoded. A final slash of `path` is only for the description.

    `model` is the name of the model that the route belongs to, or empty. `secrets` returns the
    names of arguments whose values logs must not show, or None if they are not known yet.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    operation: Operation
    arguments: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    secrets: Callable[[], frozenset[str] | None] = _no_secrets


class Match(NamedTuple):
    """The route of a request, and the arguments of its handler.

    `is_lasting` is False if the route was made for this request only.
    """

    route: Route
    arguments: dict[str, Any]
    is_lasting: bool = True


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
    """Finds routes. `secrets` are those of a request whose path has no route."""

    def __init__(
        self,
        base_path: str,
        routes: Iterable[Route],
        secrets: Callable[[], frozenset[str] | None] = _no_secrets,
    ) -> None:
        self._routes: dict[int, list[tuple[Sequence[_Step], Route]]] = {}
        self._tails: list[tuple[Sequence[_Step], str, Route]] = []
        for route in routes:
            pattern = [_Step.of(segment) for segment in _segments(f"{base_path}/{route.path}")]
            if pattern and pattern[-1].is_name and pattern[-1].text.endswith("*"):
                self._tails.append((pattern[:-1], pattern[-1].text[:-1], route))
            else:
                self._routes.setdefault(len(pattern), []).append((pattern, route))
        self._cache: dict[tuple[str, str], Match] = {}
        self._secrets = secrets

    def find(self, method: str, raw_path: str) -> Match:
        """Return the route of a request, and the arguments of its handler.

        `raw_path` is the path in the request line, without the query. If there is no such route,
        the result is one whose handler raises NotFoundError or MethodNotAllowedError, or answers
        OPTIONS. HEAD uses the route of GET.
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

    def _search(self, method: str, raw_path: str) -> tuple[Match, bool]:
        """Return the match, and whether it is not to be cached."""
        wanted = hdrs.METH_GET if method == hdrs.METH_HEAD else method
        allowed: set[str] = set()
        first: Route | None = None
        for route, names, is_tail in self._fitting(_segments(raw_path)):
            if route.method == wanted:
                return Match(route, {**route.arguments, **names}), is_tail
            allowed.add(route.method)
            first = first or route
        return Match(self._unmatched(method, raw_path, allowed, first), {}, False), True

    def _unmatched(
        self, method: str, raw_path: str, allowed: set[str], first: Route | None
    ) -> Route:
        """Return a route for a request without one; `first` is one with the same path."""
        if hdrs.METH_GET in allowed:
            allowed.add(hdrs.METH_HEAD)
        handler: Handler
        if method == hdrs.METH_OPTIONS and (allowed or raw_path == "*"):
            handler = _options(allowed)
        elif allowed:
            handler = _raising(MethodNotAllowedError(method, {*allowed, hdrs.METH_OPTIONS}))
        else:
            handler = _raising(NotFoundError(f"There is nothing at {raw_path}"))
        access = Access.READ if first is None else first.access
        model, secrets = ("", self._secrets) if first is None else (first.model, first.secrets)
        return Route(method, raw_path, handler, access, lambda _: None, {}, model, secrets)

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


def pattern_of(path: str) -> tuple[str, ...]:
    """Return the segments of a route's path, without the names of parameters.

    Routes of the same method and pattern match the same requests.
    """
    steps = map(_Step.of, _segments(path))
    return tuple(f"{{{step.text[-1:] == '*'}}}" if step.is_name else step.text for step in steps)


def _options(allowed: set[str]) -> Handler:
    """Return a handler that says which methods are allowed."""
    methods = ", ".join(sorted({*allowed, hdrs.METH_OPTIONS}))

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=204, headers={hdrs.ALLOW: methods})

    return answer


def _raising(error: Exception) -> Handler:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        raise error

    return refuse


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
