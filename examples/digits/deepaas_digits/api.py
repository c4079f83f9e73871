"""What DEEPaaS calls: `digits = "deepaas_digits.api"` in the group `deepaas.v2.model`."""

from importlib.metadata import metadata
from io import BytesIO
from typing import Any

from aiohttp.web import HTTPBadRequest
from marshmallow import fields, validate

from deepaas.model.v2.wrapper import UploadedFile

from .chart import bar_chart
from .classifier import fit, training_digits
from .picture import BadPictureError, read_digit

_classifier: Any = None


def warm() -> None:
    """Train the classifier, once in each worker, so that it is there for the first request."""
    global _classifier
    if _classifier is None:
        _classifier = fit(*training_digits())


def get_metadata() -> dict[str, Any]:
    """What the package says of itself in its `pyproject.toml`."""
    package = metadata("deepaas_digits")
    return {
        "description": package["Summary"],
        "version": package["Version"],
        "license": package["License-Expression"],
        "author": package["Author"],
    }


def get_predict_args() -> dict[str, fields.Field]:
    """A picture, and what to answer: JSON or a chart."""
    return {
        "image": fields.Raw(
            required=True,
            metadata={
                "type": "file",
                "location": "form",
                "description": "A picture of one digit: PNG, JPEG, GIF, BMP or WebP, of any size.",
            },
        ),
        "accept": fields.Str(
            load_default="application/json",
            validate=validate.OneOf(["application/json", "image/png"]),
            metadata={"description": "JSON, or a bar chart of the probabilities."},
        ),
    }


def predict(image: UploadedFile, accept: str = "application/json") -> dict[str, Any] | BytesIO:
    """The most probable digit and the probabilities of all ten, or these as a bar chart.

    Raises HTTPBadRequest if the upload is not a picture of a digit.
    """
    if not isinstance(image, UploadedFile) or not image.filename:
        raise HTTPBadRequest(reason="image must be sent as a file")
    try:
        digit = read_digit(image.filename)
    except BadPictureError as error:
        raise HTTPBadRequest(reason=str(error)) from error
    warm()  # does nothing unless the server runs with --nowarm
    probabilities = _classifier.predict_proba([digit.ravel()])[0]
    if accept == "image/png":
        return bar_chart(probabilities)
    return {
        "label": int(probabilities.argmax()),
        "probabilities": [round(float(probability), 4) for probability in probabilities],
    }
