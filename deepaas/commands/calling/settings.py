"""The options of `deepaas call`, the address of the model, and the errors with exit codes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from deepaas.client import DEFAULT_URL, Client
from deepaas.client.address import checked_address
from deepaas.client.http import CONNECT_TIMEOUT, TIMEOUT

URL_VARIABLE = "DEEPAAS_URL"
TOKEN_VARIABLE = "DEEPAAS_TOKEN"

REFUSED, USAGE, NOT_CONNECTED, FAILED_TRAINING, INTERRUPTED = 1, 2, 3, 4, 130
"""The exit codes, besides 0."""


class CallError(click.ClickException):
    """An error with its exit code. `details` is what --json shows about it."""

    def __init__(self, message: str, code: int, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]
        self.details = {"message": message} if details is None else dict(details)


@dataclass(frozen=True)
class Settings:
    """The options of the program that were given, with their defaults."""

    local: bool = False
    token_file: str = ""
    timeout: float = TIMEOUT
    connect_timeout: float = CONNECT_TIMEOUT
    output: str = ""
    json: bool = False
    accept: str = ""
    parallel: int = 1
    later: bool = False

    @classmethod
    def of(cls, *given: Mapping[str, Any]) -> Settings:
        """Return the settings; of several values of an option, the last counts."""
        values: dict[str, Any] = {}
        for options in given:
            values |= {name: value for name, value in options.items() if value}
        if "async" in values:
            values["later"] = values.pop("async")
        return cls(**values)

    def client(self, url: str) -> Client:
        return Client(
            url,
            token=token_of(self.token_file),
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
        )


def token_of(path: str) -> str:
    """Return the token in a file, or in the variable DEEPAAS_TOKEN. Raises a usage error."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    source = TOKEN_VARIABLE
    if path:
        source = path
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                token = file.read(64 * 1024)
        except OSError as error:
            raise click.UsageError(f"the token file {path}: {error.strerror}") from None
    token = token.strip()
    if (
        not token.isascii()
        or any(character.isspace() for character in token)
        or (path and not token)
    ):
        raise click.UsageError(f"{source} must have one token, and nothing else")
    return token


def target_of(word: str) -> tuple[str, str]:
    """Return the URL of the server and the name of the model; the name may be empty.

    Raises click.UsageError and UnsuitableArgumentError.
    """
    if "://" not in word:
        if "/" in word:
            raise click.UsageError(
                f"{word} is no name of a model; write an address with http://, such as "
                "http://127.0.0.1:5000/digits, or --local for a file"
            )
        return server_of_environment(), unquote(word)
    address = checked_address(word, "MODEL")
    parts = urlsplit(address)
    path, _, name = parts.path.rpartition("/")
    path = path.removesuffix("/v2/models")
    return f"{parts.scheme}://{parts.netloc}{path}", unquote(name)


def server_of_environment() -> str:
    """Return the address in the variable DEEPAAS_URL. Raises UnsuitableArgumentError."""
    return checked_address(os.environ.get(URL_VARIABLE, "") or DEFAULT_URL, URL_VARIABLE)


def connection_in(words: Sequence[str], options: Sequence[click.Parameter]) -> dict[str, Any]:
    """Return the options of the connection among the words after MODEL.

    They are needed before the arguments of the model are known. The words are read again when
    these are known, and mistakes are reported then.
    """
    command = click.Command(
        "call",
        params=[*options],
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    try:
        return command.make_context("call", list(words)).params
    except click.ClickException:
        return {}
