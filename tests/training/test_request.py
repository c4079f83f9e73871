"""The request of a training, which is kept in files until the training has ended."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepaas.file_part import FilePart
from deepaas.model.v2.exchange import Call
from deepaas.protocol.call_files import read_call, write_call, write_private


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    "call",
    [
        Call(),
        Call(query="a=1&b=%ff", content_type="text/plain", headers={"x-a": "ä"}, validate="train"),
        Call(body=b"", body_path="/tmp/body"),
        Call(body=b"\n\n{}\n\x00\xff"),
        Call(body=b"{" * 1_000_000),
        Call(form=[]),
        Call(form=[("a", "1"), ("a", "2"), ("", ""), ("\n", "\r\n\x00😀")]),
        Call(form=[("a", "\ud800"), ("\udcff", "b")]),
        Call(form=[("f", FilePart("/tmp/\udcff", "image/png", "a\n.png")), ("t", "{}")]),
    ],
    ids=["empty", "head", "path", "body", "large", "no parts", "texts", "no characters", "file"],
)
def test_call_is_read_as_it_was_written(tmp_path: Path, call: Call) -> None:
    write_call(tmp_path / "call", call)
    assert read_call(tmp_path / "call") == call


def test_call_that_an_earlier_version_has_written_is_read(tmp_path: Path) -> None:
    meta = {
        "query": "a=1",
        "content_type": "multipart/form-data",
        "headers": {"x-a": "1"},
        "form": [["t", "text"], ["f", {"path": "/p", "content_type": "", "filename": "a"}]],
        "body_path": "",
        "check": "train",
        "unknown": None,
    }
    write_private(tmp_path / "call", json.dumps(meta).encode() + b"\nbody")
    form: list[tuple[str, str | FilePart]] = [("t", "text"), ("f", FilePart("/p", "", "a"))]
    assert read_call(tmp_path / "call") == Call(
        "a=1", "multipart/form-data", {"x-a": "1"}, form, body=b"body", validate="train"
    )


@pytest.mark.usefixtures("_open_umask")
def test_files_are_private(tmp_path: Path) -> None:
    write_call(tmp_path / "call", Call(body=b"secret"))
    write_private(tmp_path / "arguments", b"secret")
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_that_is_there_is_written_anew(tmp_path: Path) -> None:
    write_private(tmp_path / "file", b"much longer")
    write_private(tmp_path / "file", b"short")
    assert (tmp_path / "file").read_bytes() == b"short"


def test_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_call(tmp_path / "absent" / "call", Call())
    with pytest.raises(OSError, match="No space left"):
        write_private(Path("/dev/full"), b"data")


def test_call_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_call(tmp_path / "call")
