"""The files that the page at /api needs, as responses that browsers cache."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import os
import threading
from email.utils import formatdate
from pathlib import Path

from aiohttp import web

from deepaas.api.documents import accepts_gzip
from deepaas.exceptions import PreconditionFailedError, RangeError
from deepaas.http.request import Request
from deepaas.http.responses import WholeResponse

_COMPRESSED_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


def package_directory(module: str, package: str) -> Path:
    """Return the directory of a module without importing it.

    Raises ModuleNotFoundError, which names the package to install, if there is no such module.
    """
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package} is missing: pip install {package}")
    return Path(next(iter(found.submodule_search_locations)))


class PageFile:
    """One file of the page. Memory holds it only in its compressed form, after its first use."""

    def __init__(self, path: Path, cache_control: str) -> None:
        self._path = path
        self._headers = {"Cache-Control": cache_control, "Vary": "Accept-Encoding"}
        self._lock = threading.Lock()
        self._compressed: tuple[str, bytes] = ("", b"")  # with the tag of the file that it is from

    async def response_to(self, request: Request) -> web.StreamResponse:
        """Return the file, a part of it, or 304; compressed if the client accepts gzip.

        Raises PreconditionFailedError and RangeError.
        """
        file = self._path.stat()
        tag = f"{file.st_mtime_ns:x}-{file.st_size:x}"  # that of web.FileResponse
        tags = {tag, f"{tag}-gzip", "*"}
        _check(request, file, tags)
        media_type = _COMPRESSED_TYPES.get(self._path.suffix)
        is_compressed = media_type and "Range" not in request.headers and accepts_gzip(request)
        headers = {
            **self._headers,
            "ETag": f'"{tag}-gzip"' if is_compressed else f'"{tag}"',
            "Last-Modified": formatdate(file.st_mtime, usegmt=True),
        }
        if _is_known(request, file, tags):
            return web.Response(status=304, headers=headers)
        if not is_compressed:
            return web.FileResponse(self._path, headers=self._headers)
        headers |= {"Content-Type": media_type or "", "Content-Encoding": "gzip"}
        body = await asyncio.get_running_loop().run_in_executor(None, self._compress, tag)
        return WholeResponse(body, 200, headers)

    def _compress(self, tag: str) -> bytes:
        """Return the compressed file, which is compressed only once."""
        with self._lock:
            if self._compressed[0] != tag:
                self._compressed = tag, gzip.compress(self._path.read_bytes(), 6, mtime=0)
            return self._compressed[1]


def _is_known(request: web.BaseRequest, file: os.stat_result, tags: set[str]) -> bool:
    """Return whether the client has this file already."""
    known = request.if_none_match
    if known is not None:
        return any(one.value in tags for one in known)
    since = request.if_modified_since
    return since is not None and int(file.st_mtime) <= since.timestamp()


def _check(request: web.BaseRequest, file: os.stat_result, tags: set[str]) -> None:
    """Raise the errors for which `web.FileResponse` would send a response without a body."""
    wanted = request.if_match
    if wanted is not None and not any(one.value in tags for one in wanted):
        raise PreconditionFailedError("The file has another ETag than If-Match asks for")
    before = request.if_unmodified_since
    if wanted is None and before is not None and int(file.st_mtime) > before.timestamp():
        raise PreconditionFailedError("The file has changed since If-Unmodified-Since")
    try:
        start = request.http_range.start
    except ValueError:
        raise RangeError(file.st_size) from None
    if start is not None and start >= file.st_size:
        raise RangeError(file.st_size)
