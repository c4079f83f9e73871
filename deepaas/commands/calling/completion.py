"""Completes the names of the models of a server in the shell."""

from __future__ import annotations

import asyncio
import os

from deepaas.client import DEFAULT_URL, Client, ClientError
from deepaas.commands.calling.settings import URL_VARIABLE, token_of

SECONDS = 2.0
"""How long the shell waits at most for the names."""


def models_like(incomplete: str) -> list[str]:
    """Return the models that begin with `incomplete`; none if there is no server.

    `incomplete` may contain the address of the server.
    """
    url, slash, begin = incomplete.rpartition("/")
    if not slash:
        url = os.environ.get(URL_VARIABLE, "") or DEFAULT_URL

    async def names() -> list[str]:
        async with Client(url, token=token_of(""), timeout=SECONDS) as client:
            return await asyncio.wait_for(client.models(), SECONDS)

    try:
        found = asyncio.run(names())
    except (ClientError, OSError, TimeoutError, asyncio.TimeoutError):
        return []
    return [f"{url}/{name}" if slash else name for name in found if name.startswith(begin)]
