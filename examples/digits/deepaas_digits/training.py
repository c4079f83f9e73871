"""Training: a network learns the digits, with new random variants in each epoch."""

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import numpy as np
from PIL import Image
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from deepaas.training import directory, report

from . import weights
from .classifier import digits, grids
from .picture import Array

HIDDEN_UNITS = 256
BATCH_SIZE = 32
MARGIN = 4
TURN = SLANT = 0.1
STRETCH = 0.08


def learn(epochs: int, learning_rate: float, seed: int) -> dict[str, Any]:
    """Train for `epochs` epochs, install the weights, and return the final figures.

    The same arguments give the same weights. `loss` is the training loss, `accuracy` the accuracy
    on the held-out digits, and `seconds` the duration. Raises ValueError if the loss becomes
    infinite, and OSError if the weights cannot be saved. The old weights then stay, also if the
    training is killed.
    """
    weights.prepare()
    began = time.monotonic()
    chance = np.random.RandomState(seed)  # scikit-learn accepts no other generator
    classifier = MLPClassifier(
        HIDDEN_UNITS,
        learning_rate_init=learning_rate,
        batch_size=BATCH_SIZE,
        random_state=chance,
    )
    # The matrices are so small that several threads would mostly wait for each other.
    with (
        threadpool_limits(1, user_api="blas"),
        (directory() / "learning-curve.csv").open("w", buffering=1) as curve,
    ):
        print("epoch,loss,accuracy", file=curve)
        for epoch, (loss, accuracy) in enumerate(lessons(classifier, epochs, chance), 1):
            report(progress=epoch / epochs, epoch=epoch, loss=loss, accuracy=accuracy)
            print(f"epoch {epoch} of {epochs}: loss {loss:.4f}, accuracy {accuracy:.4f}")
            print(f"{epoch},{loss:.6f},{accuracy:.4f}", file=curve)
    data = weights.to_bytes(network_of(classifier, epochs, accuracy))
    (directory() / weights.FILE).write_bytes(data)
    figures = {
        "epochs": epochs,
        "loss": round(loss, 6),
        "accuracy": round(accuracy, 4),
        "seconds": round(time.monotonic() - began, 2),
    }
    weights.install(data)  # last, so that a stopped training changes nothing
    return figures


def lessons(
    classifier: MLPClassifier, count: int, chance: np.random.RandomState
) -> Iterator[tuple[float, float]]:
    """Train for `count` epochs; after each, yield its loss and the accuracy on held-out digits.

    Each epoch shows every digit twice: unchanged, and as a random variant.
    """
    images, labels = digits()
    plain = grids(images)
    unseen, answers = digits(held_out=True)
    test = weights.scaled(grids(unseen))
    for _ in range(count):
        variants = grids(np.array([distorted(image, chance) for image in images]))
        shown = weights.scaled(np.concatenate([plain, variants]))
        classifier.partial_fit(shown, np.tile(labels, 2), classes=np.arange(10))
        yield float(classifier.loss_), float(classifier.score(test, answers))


def distorted(image: Array, chance: np.random.RandomState) -> Array:
    """Return the image randomly turned, slanted and stretched a little, with a margin around it.

    `image` has the shape (8, 8), the result (16, 16); both have values from 0 to 1.
    """
    (angle, slant), stretch = chance.normal(0, (TURN, SLANT)), chance.normal(0, STRETCH, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, slant], [0, 1]]) @ np.diag(np.exp(stretch))
    picture = Image.fromarray(np.pad(image, MARGIN).astype(np.float32))
    centre = np.array(picture.size) / 2
    transform = np.column_stack([matrix, centre - matrix @ centre])
    warped = picture.transform(
        picture.size, Image.Transform.AFFINE, transform.ravel().tolist(), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(warped, dtype=np.float64), 0, 1)


def network_of(classifier: MLPClassifier, epochs: int, accuracy: float) -> weights.Network:
    """Return the weights of a classifier with one hidden layer as a Network."""
    (hidden_weights, output_weights), (hidden_biases, output_biases) = (
        classifier.coefs_,
        classifier.intercepts_,
    )
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return weights.Network(
        hidden_weights, hidden_biases, output_weights, output_biases, date, epochs, accuracy
    )
