"""Calls in files: a job stores the request that started it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from deepaas.file_part import FilePart
from deepaas.model.v2.exchange import Call
from deepaas.protocol.messages import decode_meta, encode_meta


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this user can read. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def write_call(path: Path, call: Call) -> None:
    """Write a call: its meta data as a line of JSON, then its body. Raises OSError."""
    write_private(path, encode_meta(call) + b"\n" + call.body)


def read_call(path: Path) -> Call:
    """Return the call that `write_call` has written. Raises OSError."""
    line, _, body = path.read_bytes().partition(b"\n")
    return _old_call(line, body) if line.startswith(b"{") else decode_meta(line, body)


def _old_call(line: bytes, body: bytes) -> Call:
    """Return the call of a queued job from a file that an older version has written."""
    meta = json.loads(line)
    form = meta.pop("form")
    validate = meta.pop("check", "")
    if form is not None:
        form = [(n, FilePart(**v) if isinstance(v, dict) else v) for n, v in form]
    return Call(**meta, form=form, body=body, validate=validate)
