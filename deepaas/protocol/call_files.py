"""The request for a training as files: it is asked for in one process and done in another."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from deepaas.model.v2.exchange import Call, FilePart


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this user can read. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def write_call(path: Path, call: Call) -> None:
    """Write a call: a line of JSON, then its body. Raises OSError."""
    meta = asdict(call)
    body = meta.pop("body")
    write_private(path, json.dumps(meta).encode() + b"\n" + body)


def read_call(path: Path) -> Call:
    """Read what `write_call` has written. Raises OSError."""
    head, _, body = path.read_bytes().partition(b"\n")
    meta = json.loads(head)
    form = meta.pop("form")
    if form is not None:
        form = [(n, FilePart(**v) if isinstance(v, dict) else v) for n, v in form]
    return Call(**meta, form=form, body=body)
