"""One line a request, without the secrets in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

MASK = "********"
_SHOWN = "deepaas.target"


def hide_secrets(request: web.BaseRequest, function: Mapping[str, Any] | None) -> None:
    """Let no log show the secret arguments in the query of a request for a function.

    It is given as its model describes it; without a description, all of the query may be secret.
    """
    path, mark, query = request.raw_path.partition("?")
    if not mark:
        return
    if function is None:
        request[_SHOWN] = f"{path}?{MASK}"
        return
    secrets = function.get("secrets", ())
    if secrets:
        pairs = [pair.partition("=")[:2] for pair in query.split("&")]
        hidden = [
            f"{name}={MASK}" if unquote_plus(name) in secrets else pair
            for (name, _), pair in zip(pairs, query.split("&"), strict=True)
        ]
        request[_SHOWN] = f"{path}?{'&'.join(hidden)}"


def shown_target(request: web.BaseRequest) -> str:
    """The target of a request as logs may show it."""
    target: str = request.get(_SHOWN, request.raw_path)
    return target


class AccessLogger(AbstractAccessLogger):
    """Logs who asked what, the status, the bytes of the answer, the seconds, and with what.

    Made for speed: at ten thousand requests a second aiohttp's own costs more than the answers.
    """

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.write(
            request.remote,
            request.method,
            shown_target(request),
            response.status,
            response.body_length,
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
        line = f'{remote} "{method} {target} HTTP/1.1" {status} {length} {seconds:.6f} "{agent}"'
        # Not logger.info(), which would search the stack for where it was called.
        record = self.logger.makeRecord(self.logger.name, logging.INFO, "", 0, line, (), None)
        self.logger.handle(record)
