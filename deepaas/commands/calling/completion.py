"""Completes the names of the models of a server in the shell."""

from __future__ import annotations

import asyncio

import click

from deepaas.client import Client, ClientError
from deepaas.commands.calling.settings import server_of_environment, token_of

SECONDS = 2.0
"""How long the shell waits at most for the names."""


def models_like(incomplete: str) -> list[str]:
    """Return the models that begin with `incomplete`; none if there is no server.

    `incomplete` may contain the address of the server.
    """
    url, slash, begin = incomplete.rpartition("/")

    async def names() -> list[str]:
        address = url if slash else server_of_environment()
        async with Client(address, token=token_of(""), timeout=SECONDS) as client:
            return await asyncio.wait_for(client.models(), SECONDS)

    try:
        found = asyncio.run(names())
    except (ClientError, click.ClickException, OSError, TimeoutError, asyncio.TimeoutError):
        return []
    found = [name for name in found if name.isprintable()]
    return [f"{url}/{name}" if slash else name for name in found if name.startswith(begin)]
