"""A model whose arguments come from its type hints."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
from marshmallow.validate import Range

from deepaas.model.v2.wrapper import UploadedFile


class Mode(enum.Enum):
    FAST = "fast"
    EXACT = "exact"


@dataclass
class Box:
    """A part of an image.

    Attributes:
        left: The distance from the left edge, in pixels
        width: In pixels
    """

    left: int
    width: Annotated[int, Range(min=1)] = 10


@dataclass
class Answer:
    """What predict returns."""

    type: str
    value: Any = None
    labels: list[str] = field(default_factory=list)


def predict(
    image: UploadedFile | None = None,
    others: list[UploadedFile] = [],  # noqa: B006
    path: Path | None = None,
    content: bytes | None = None,
    threshold: Annotated[float, Range(0, 1)] = 0.5,
    mode: Mode = Mode.FAST,
    size: Literal["s", "l"] = "s",
    day: datetime.date | None = None,
    box: Box | None = None,
    pixels: npt.NDArray[np.float32] | None = None,
) -> dict[str, Answer]:
    """Find letters in an image.

    Args:
        image: The image, as a file
        threshold: The least score of a letter

    Returns:
        What was found.
    """
    given = {k: v for k, v in locals().items() if v is not None}
    return {name: Answer(type(value).__name__, _shown(value)) for name, value in given.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, UploadedFile):
        return Path(str(value.filename)).read_text()
    if isinstance(value, Path):
        return value.read_text()
    return len(value) if isinstance(value, bytes) else value


def train(
    rows: Path,
    epochs: Annotated[int, Range(min=1)] = 2,
    mode: Mode = Mode.FAST,
    box: Box = Box(1),  # noqa: B008
) -> list[Any]:
    """Train.

    :param epochs: How often each row is seen
    """
    return [rows.read_text(), epochs, mode, box]


class Steps:
    """Streams its answers."""

    def predict(self, count: int = 2) -> Iterator[Answer]:
        for step in range(count):
            yield Answer("int", step)


class Query(TypedDict, total=False):
    """A call.

    Attributes:
        text: What to count
    """

    text: Annotated[str, "What to count"]
    times: int


class Batch:
    """Counts letters in a batch."""

    def predict_batch(self, batch: list[Query]) -> list[int]:
        return [len(one["text"]) * one.get("times", 1) for one in batch]
