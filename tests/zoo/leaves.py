"""Writes files and reports, and returns nothing, so its record has every kind of entry."""

from typing import Any

from webargs import fields

from deepaas import training


def get_predict_args() -> dict[str, Any]:
    return {"text": fields.Str(load_default=None, allow_none=True)}


def get_train_args() -> dict[str, Any]:
    return {
        "epochs": fields.Int(load_default=2),
        "data": fields.Field(metadata={"type": "file", "location": "form"}),
    }


def _leave() -> None:
    print("some output", flush=True)
    folder = training.directory() / "folder"
    folder.mkdir(exist_ok=True)  # several predictions in one process have one directory
    (folder / "file.txt").write_text("artefact")
    training.report(progress=0.5, loss=0.25, note="half")


def predict(text: str | None) -> str | None:
    _leave()
    return text


def train(epochs: int, **kwargs: Any) -> None:
    _leave()
