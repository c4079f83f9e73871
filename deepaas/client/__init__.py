"""A client of DEEPaaS servers. It knows only HTTP, and imports nothing of the server.

`Client` is for asyncio; `deepaas call` uses it.
"""

from deepaas.client.errors import (
    ClientError,
    NotConnectedError,
    RefusedError,
    UnsuitableArgumentError,
)
from deepaas.client.http import DEFAULT_URL, Client, Response
from deepaas.client.requests import File

__all__ = [
    "DEFAULT_URL",
    "Client",
    "ClientError",
    "File",
    "NotConnectedError",
    "RefusedError",
    "Response",
    "UnsuitableArgumentError",
]
