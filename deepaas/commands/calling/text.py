"""Texts of a server as they are shown: without characters that a terminal would interpret."""

from __future__ import annotations

import re

import click

_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_TEXT = re.compile(f"[{_CONTROL}]")
_IN_LINE = re.compile(rf"[\t\n{_CONTROL}]")


def printable(text: str) -> str:
    """Write control characters, but for tabs and line feeds, as JSON escapes them.

    So are lone surrogates, which no encoding has.
    """
    return _IN_TEXT.sub(_escaped, text)


def printable_line(text: str) -> str:
    """Write control characters, line feeds too, as JSON escapes them."""
    return _IN_LINE.sub(_escaped, text)


def say(text: str) -> None:
    """Print a text on stderr."""
    click.echo(printable(text), err=True)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
