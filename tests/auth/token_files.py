"""Makes token files for the tests of the sign-in."""

from __future__ import annotations

import os
import time
from pathlib import Path

from deepaas.auth.token_lines import Token, digest_of, line_of, new_token, scopes_of
from deepaas.http.principal import Principal

UNKNOWN = new_token()
"""A token that no file has."""


class TokenFile:
    """A token file, to which tests add tokens. `path` exists from the first token on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, str] = {}

    @property
    def flags(self) -> list[str]:
        return ["--auth", "tokens", "--token-file", str(self.path)]

    def add(
        self,
        name: str,
        scopes: str = "predict",
        models: list[str] | None = None,
        seconds: float | None = None,
    ) -> dict[str, str]:
        """Add a token that expires in so many seconds, and return the header that carries it."""
        token = new_token()
        limited = None if models is None else frozenset(models)
        expires = None if seconds is None else time.time() + seconds
        principal = Principal(name, scopes_of(scopes), limited, expires)
        self._lines[name] = line_of(Token(digest_of(token), principal))
        self.write("\n".join(self._lines.values()) + "\n")
        return {"Authorization": f"Bearer {token}"}

    def remove(self, name: str) -> None:
        del self._lines[name]
        self.write("\n".join(self._lines.values()) + "\n")

    def write(self, text: str) -> None:
        """Replace the content in one step."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        fresh.replace(self.path)
