"""Replies and errors as HTTP answers: the one place where an error gets its form."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
from collections.abc import Mapping

import orjson
from aiohttp import web
from multidict import CIMultiDict

from deepaas.exceptions import NotFoundError, NotImplementedByModelError, RequestError
from deepaas.model.v2.exchange import Reply

logger = logging.getLogger("deepaas.api")

CHUNK = 256 * 1024
_JSON = CIMultiDict({"Content-Type": "application/json; charset=utf-8"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_MAX_REASON = 400  # characters; the body has it all


def json_answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers=_JSON)


def reply_answer(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """The answer that a worker's reply stands for."""
    if reply.code:
        return error_answer(reply.status, reply.code, reply.reason, reply.headers)
    if reply.fd >= 0:
        return FileAnswer(reply.fd, reply.status, reply.headers or _JSON)
    return web.Response(body=reply.body, status=reply.status, headers=reply.headers or _JSON)


def error_answer(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An error as JSON, its message also as the reason phrase.

    Two have always been plain text: 404, and 501 for what the model does not implement.
    """
    message = _CONTROL.sub(" ", message)
    reason = message[:_MAX_REASON].encode("ascii", "replace").decode()
    if code == NotFoundError.code:
        return web.Response(status=status, text=f"{status}: Not Found", headers=headers)
    if code == NotImplementedByModelError.code:
        return web.Response(status=status, reason=reason, text=f"{status}: {message}")
    answer = json_answer({"message": message, "code": code}, status)
    answer.set_status(status, reason)
    answer.headers.update(headers or {})
    return answer


def answer_for(error: RequestError) -> web.Response:
    return error_answer(error.status, error.code, str(error), error.headers)


def _abort(request: web.BaseRequest) -> None:
    """Close the connection: an answer that has begun and cannot be ended must not look whole."""
    if request.transport is not None:
        request.transport.abort()


class FileAnswer(web.StreamResponse):
    """An answer whose body is streamed from a descriptor, which it closes."""

    def __init__(self, fd: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        self._file = io.FileIO(fd, "rb")
        self.content_length = os.fstat(fd).st_size

    async def send(self, request: web.BaseRequest) -> None:
        """Send the whole answer. The file is read beside the event loop, and never all of it."""
        loop = asyncio.get_running_loop()
        left = self.content_length or 0
        try:
            await self.prepare(request)
            position = 0
            while left:
                chunk = await loop.run_in_executor(
                    None, os.pread, self._file.fileno(), min(CHUNK, left), position
                )
                if not chunk:
                    _abort(request)
                    raise ConnectionResetError("the file became shorter while it was sent")
                await self.write(chunk)
                position += len(chunk)
                left -= len(chunk)
            await self.write_eof()
        finally:
            self._file.close()
