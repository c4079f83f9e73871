"""The lines of a token file: one for each token.

    NAME sha256:HASH scopes=SCOPE,... [models=MODEL,...] [expires=TIME]

A line has the hash of a token, and not the token, so the file is of no use to a thief. A plain
SHA-256 suffices because tokens are made at random from 256 bits: guessing one is hopeless even at
the speed of this hash. Slow hashes are for passwords, which people choose.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote, unquote

from deepaas.http.principal import MAX_NAME, Principal
from deepaas.http.routing import Access

PREFIX = "dpt_"
TOKEN_BYTES = 32
MIN_TOKEN = 32
"""Characters. A shorter token was not made at random by this package, and is always refused: its
hash may be in the file, but it could be guessed from the hash."""

MAX_TOKEN = 512

SCOPES = {str(one.value): one for one in Access if one is not Access.PUBLIC}
MAKE = "python -m deepaas.auth.make"

_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")
_DURATION = re.compile(r"([0-9]{1,6})([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400}


class LineError(ValueError):
    """A line is not as it must be. The message does not quote it, as it may contain a token."""


@dataclass(frozen=True)
class Token:
    """A token, which is known only by its hash."""

    digest: bytes
    principal: Principal


def new_token() -> str:
    """Return a new token: 256 random bits after a prefix by which scanners for secrets find it."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def parse(text: str) -> Iterator[Token]:
    """Yield the tokens of a file. Raises LineError with the number of the line."""
    first: dict[bytes, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            token = parse_line(line)
            if token.digest in first:
                raise LineError(f"this is the same token as in line {first[token.digest]}")
        except LineError as error:
            raise LineError(f"line {number}: {error}") from None
        first[token.digest] = number
        yield token


def parse_line(line: str) -> Token:
    name, *words = line.split()
    check_name(name)
    if not words or not _HASH.fullmatch(words[0]):
        raise LineError(
            "the second word must be sha256: and 64 hexadecimal digits, the hash of a token; "
            f"{MAKE} makes a token and its line"
        )
    values: dict[str, str] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if key not in ("scopes", "models", "expires"):
            raise LineError("after the hash, only scopes=, models= and expires= may follow")
        if key in values or not equals or not value:
            raise LineError(f"{key}= must be there once, with a value")
        values[key] = value
    if "scopes" not in values:
        raise LineError(f"scopes= is missing; give one or more of {', '.join(SCOPES)}")
    models = values.get("models")
    return Token(
        bytes.fromhex(words[0].removeprefix("sha256:")),
        Principal(
            name,
            scopes_of(values["scopes"]),
            None if models is None else models_of(models),
            time_of(values["expires"]) if "expires" in values else None,
        ),
    )


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise LineError(f"the name must be at most {MAX_NAME} letters, digits and ._@+-")


def scopes_of(text: str) -> frozenset[Access]:
    names = _items(text)
    wrong = sorted(names - set(SCOPES))
    if wrong or not names:
        raise LineError(f"a scope must be one of {', '.join(SCOPES)}")
    return frozenset(SCOPES[name] for name in names)


def models_of(text: str) -> frozenset[str]:
    names = frozenset(unquote(name) for name in _items(text))
    if not names:
        raise LineError("models= must name one or more models, separated by commas")
    return names


def time_of(text: str) -> float:
    """Return a time in seconds since 1970. A time without an offset is in UTC."""
    try:
        found = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
    except ValueError:
        raise LineError(
            "a time must be a date, or a date and a time in UTC, such as 2030-12-31 or "
            "2030-12-31T18:00:00Z"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=timezone.utc)
    return found.timestamp()


def expiry_of(text: str) -> float:
    """Return the time in seconds since 1970 that a duration (such as 30d) or a time means."""
    duration = _DURATION.fullmatch(text)
    if duration is None:
        return time_of(text)
    return float(int(time.time()) + int(duration[1]) * _SECONDS[duration[2]])


def line_of(token: Token) -> str:
    """Return the line of a token. `parse_line` returns the same token for it."""
    principal = token.principal
    scopes = ",".join(name for name, one in SCOPES.items() if one in principal.scopes)
    words = [principal.name, f"sha256:{token.digest.hex()}", f"scopes={scopes}"]
    if principal.models is not None:
        words.append("models=" + ",".join(quote(one, safe="") for one in sorted(principal.models)))
    if principal.expires is not None:
        ends = datetime.fromtimestamp(principal.expires, timezone.utc)
        words.append(f"expires={ends.strftime('%Y-%m-%dT%H:%M:%SZ')}")
    return " ".join(words)


def _items(text: str) -> set[str]:
    return {item for item in text.split(",") if item}
