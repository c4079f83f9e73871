"""Returns values that JSON cannot represent, or that do not fit the requested media type."""

import io
import os
import tempfile
from collections.abc import Callable
from typing import Any

from webargs import fields, validate


class Liar(list[Any]):
    def __len__(self) -> int:
        raise RuntimeError("no length")


class ListsItself:
    def tolist(self) -> Any:
        return self


class ListFails:
    def tolist(self) -> Any:
        raise SystemExit("while it was encoded")


class ReadFails(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise OSError("the disk is gone")


class ReadsNumbers:
    def read(self) -> int:
        return 5


def _circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def _deep() -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


async def _coroutine() -> int:
    return 5


def _generator() -> Any:
    yield 5


def _closed() -> Any:
    file = tempfile.NamedTemporaryFile(delete=False)  # noqa: SIM115
    file.close()
    os.unlink(file.name)
    return file


def _deleted_open() -> Any:
    """Return an open file in a removed folder, as libraries for charts do."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "chart.png")
        with open(path, "wb") as file:
            file.write(b"picture")
        return open(path, "rb")


def get_predict_args() -> dict[str, Any]:
    media_types = ["application/json", "image/png"]
    return {
        "kind": fields.Str(missing="none"),
        "accept": fields.Str(validate=validate.OneOf(media_types)),
    }


KINDS: dict[str, Callable[[], Any]] = {
    "none": os.getpid,
    "object": object,
    "function": lambda: len,
    "class": lambda: int,
    "bytes": lambda: b"bytes",
    "generator": _generator,
    "coroutine": _coroutine,
    "file": lambda: open(__file__, "rb"),  # noqa: SIM115
    "complex": lambda: 1j,
    "exception": lambda: ValueError("returned, not raised"),
    "circle": _circle,
    "deep": _deep,
    "tuple-key": lambda: {(1, 2): 3},
    "object-key": lambda: {object(): 3},
    "mixed": lambda: {"good": 1, "bad": [object()]},
    "lists-itself": ListsItself,
    "list-fails": ListFails,
    "liar": lambda: Liar([1]),
    "read-fails": ReadFails,
    "reads-numbers": ReadsNumbers,
    "closed": _closed,
    "deleted-open": _deleted_open,
    "number": lambda: 5,
    "dict": lambda: {"a": 1},
}


def predict(**kwargs: Any) -> Any:
    return KINDS[kwargs["kind"]]()
