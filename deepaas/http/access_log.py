"""The access log: one line for each request."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from deepaas.http.request import Request
from deepaas.log import LogLines


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
            request.target if isinstance(request, Request) else request.raw_path,
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
