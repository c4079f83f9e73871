"""The access log: one line for each request."""

from __future__ import annotations

import asyncio
import logging

from deepaas.events import RequestEnded
from deepaas.log import LogLines


class AccessLog:
    """A log that writes the lines of one event loop turn together.

    For a small request, making and writing a log record takes longer than everything else.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lines: list[str] = []

    def note(self, ended: RequestEnded) -> None:
        """Log the client, the request, the status, the size of the response body in bytes, the
        seconds, the client's program, the request id, and the name of a client that has signed
        in."""
        self.add(
            f'{ended.remote} "{ended.method} {ended.target} HTTP/1.1" {ended.status} '
            f'{ended.length} {ended.seconds:.6f} "{ended.agent}" {ended.request_id or "-"}'
            f"{' ' if ended.principal else ''}{ended.principal}"
        )

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
