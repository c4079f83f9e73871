"""The functions that DEEPaaS calls; the entry point is `digits = "deepaas_digits.api"`.

Its group is `deepaas.v2.model`.
"""

from importlib.metadata import metadata
from io import BytesIO
from typing import Annotated, Any

import numpy as np
from aiohttp.web import HTTPBadRequest
from marshmallow import fields
from marshmallow.validate import OneOf, Range

from deepaas.model.v2.wrapper import UploadedFile

from .chart import bar_chart
from .classifier import built_in
from .picture import BadPictureError, read_digit
from .training import learn
from .weights import FILE, Network, load

examples = [{"image": "samples/7.png"}, {"image": "samples/7.png", "accept": "image/png"}]
train_examples = [{"epochs": 2}]
weights = [f"$DEEPAAS_MODEL_WEIGHTS/{FILE}"]

_classifier: Any = None


def warm() -> None:
    """Load the weights of the last training, or make the built-in classifier."""
    global _classifier
    if _classifier is None:
        _classifier = load() or built_in()


def get_metadata() -> dict[str, Any]:
    """Return the metadata in the package's `pyproject.toml`, and the weights that are in use."""
    package = metadata("deepaas_digits")
    classifier = load() if _classifier is None else _classifier  # before warm(): what it will load
    return {
        "description": package["Summary"],
        "version": package["Version"],
        "license": package["License-Expression"],
        "author": package["Author"],
        "weights": classifier.about() if isinstance(classifier, Network) else "built-in",
    }


def get_predict_args() -> dict[str, fields.Field]:
    """Return the arguments: a picture, and the form of the result, JSON or a chart."""
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
            validate=OneOf(["application/json", "image/png"]),
            metadata={"description": "JSON, or a bar chart of the probabilities."},
        ),
    }


max_batch_size = 16


def predict_batch(batch: list[dict[str, Any]]) -> list[Any]:
    """Return the most probable digit and all ten probabilities, or a bar chart, for each picture.

    Sixteen pictures take hardly more time than one. If an upload is not a picture of a digit, its
    result is an HTTPBadRequest, so only that request fails.
    """
    warm()  # does nothing unless the server runs with --nowarm
    digits = [_read(arguments["image"]) for arguments in batch]
    readable = [digit.ravel() for digit in digits if isinstance(digit, np.ndarray)]
    probabilities = iter(_classifier.predict_proba(readable) if readable else [])
    return [
        _answer(next(probabilities), arguments.get("accept"))
        if isinstance(digit, np.ndarray)
        else digit
        for digit, arguments in zip(digits, batch, strict=True)
    ]


def _read(image: Any) -> "np.ndarray | HTTPBadRequest":
    """Return the picture as a grid for the classifier, or the error that refuses it."""
    if not isinstance(image, UploadedFile) or not image.filename:
        return HTTPBadRequest(reason="image must be sent as a file")
    try:
        return read_digit(image.filename)
    except BadPictureError as error:
        return HTTPBadRequest(reason=str(error))


def _answer(probabilities: "np.ndarray", accept: str | None) -> dict[str, Any] | BytesIO:
    if accept == "image/png":
        return bar_chart(probabilities)
    return {
        "label": int(probabilities.argmax()),
        "probabilities": [round(float(probability), 4) for probability in probabilities],
    }


def train(
    epochs: Annotated[int, Range(min=1, max=1000)] = 30,
    learning_rate: Annotated[float, Range(min=0.00001, max=0.1)] = 0.001,
    seed: Annotated[int, Range(min=0, max=2**32 - 1)] = 0,
) -> dict[str, Any]:
    """Train new weights, which `warm` then loads, and return their accuracy, loss and time.

    Args:
        epochs: How many times to go through the digits; each takes 0.1 s.
        learning_rate: The size of each step. Small is slow, large may diverge.
        seed: The same seed gives the same weights.
    """
    return learn(epochs, learning_rate, seed)
