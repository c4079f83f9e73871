"""A server with a sign-in, and its description in a file, for generators of clients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.auth.token_files import TokenFile
from tests.conftest import Serve
from tests.support import Server

MODELS = {"regions": "zoo.clients:Regions", "pictures": "zoo.clients:Pictures"}


@dataclass
class Described:
    """A server, the token that it requires, and the file with its description."""

    server: Server
    token: str
    file: Path


@pytest.fixture(scope="module")
def described(serve_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> Described:
    folder = tmp_path_factory.mktemp("description")
    tokens = TokenFile(folder / "tokens")
    header = tokens.add("alice", "train,predict")
    server = serve_all(MODELS, *tokens.flags)
    file = folder / "openapi.json"
    file.write_bytes(server.get("/openapi.json", headers=header).content)
    return Described(server, header["Authorization"].removeprefix("Bearer "), file)
