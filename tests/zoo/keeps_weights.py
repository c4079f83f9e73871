"""Trains a word, saves it in the weights directory, and predicts it."""

from __future__ import annotations

from typing import Any

from webargs import fields

from deepaas.training import weights_directory

_word = "untrained"


def warm() -> None:
    global _word
    file = weights_directory() / "word"
    _word = file.read_text() if file.exists() else "untrained"


def predict() -> dict[str, Any]:
    return {"word": _word, "directory": str(weights_directory())}


def get_train_args() -> dict[str, Any]:
    return {"word": fields.Str(required=True)}


def train(word: str) -> dict[str, Any]:
    (weights_directory() / "word").write_text(word)
    return {"directory": str(weights_directory())}
