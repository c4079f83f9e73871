"""`python -m deepaas.auth.make`: makes a token."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from deepaas.auth.token_lines import (
    MAKE,
    SCOPES,
    LineError,
    Token,
    check_name,
    digest_of,
    expiry_of,
    line_of,
    models_of,
    new_token,
    scopes_of,
)
from deepaas.http.principal import Principal


def main(argv: Sequence[str] | None = None) -> int:
    """Make a token, print it, and print or store the line for the token file."""
    given = _parser().parse_args(argv)
    try:
        check_name(given.name)
        token = new_token()
        principal = Principal(
            given.name,
            scopes_of(given.scopes),
            models_of(given.models) if given.models else None,
            expiry_of(given.expires) if given.expires else None,
        )
        made = line_of(Token(digest_of(token), principal))
        if given.token_file:
            _append(given.token_file, made)
    except (ValueError, LineError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{given.token_file} cannot be written: {error.strerror}")
    _say("This is the token. It is shown only now:", error_stream=bool(given.token_file))
    print(token)
    if given.token_file:
        _say(f"Its line is now in {given.token_file}.", error_stream=True)
    else:
        print(f"\nThis is its line for the token file:\n{made}")
    return 0


def _append(path: str, line: str) -> None:
    """Append a line to a file. If the file does not exist, make it private to the user."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        start = b"\n" if file.read(1) not in (b"", b"\n") else b""
        file.write(start + line.encode() + b"\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=MAKE,
        description="Make a token for deepaas-run --auth tokens. The token file has only its hash.",
    )
    parser.add_argument("name", help="the name of the client, for the log and for records")
    parser.add_argument(
        "--scopes",
        default="predict",
        help=f"what the client may do: one or more of {', '.join(SCOPES)}, separated by commas; "
        "predict and train include read, and admin includes all [default: predict]",
    )
    parser.add_argument(
        "--models", default="", help="the models, separated by commas [default: all models]"
    )
    parser.add_argument(
        "--expires",
        default="",
        help="when the token expires: after 90m, 12h or 30d, or at a date such as 2030-12-31 "
        "[default: never]",
    )
    parser.add_argument(
        "--token-file", default="", help="append the line to this file, and print only the token"
    )
    return parser


def _say(text: str, error_stream: bool) -> None:
    print(text, file=sys.stderr if error_stream else sys.stdout, flush=True)


def _fail(message: str) -> int:
    print(f"{MAKE}: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
