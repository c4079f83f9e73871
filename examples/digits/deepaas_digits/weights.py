"""The weights that a training has learned: how they predict, where they lie, how they get there."""

import logging
import os
import time
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from deepaas.training import weights_directory

from .picture import SIDE, Array

logger = logging.getLogger(__name__)

FILE = "weights.npz"
FORMAT = 1
UNFINISHED = "*.tmp"
ABANDONED_SECONDS = 3600


class Network(NamedTuple):
    """A network with one hidden layer of n units, and how it came about.

    The shapes are (64, n), (n,), (n, 10) and (10,). `date` is in ISO 8601, `accuracy`, 0 to 1, that
    on the held-out digits.
    """

    hidden_weights: Array
    hidden_biases: Array
    weights: Array
    biases: Array
    date: str
    epochs: int
    accuracy: float

    def predict_proba(self, grids: Any) -> Array:
        """The probabilities of the ten digits, shape (n, 10), for grids of shape (n, 64)."""
        hidden = np.maximum(0, scaled(grids) @ self.hidden_weights + self.hidden_biases)
        scores = hidden @ self.weights + self.biases
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: Array = odds / odds.sum(axis=1, keepdims=True)
        return probabilities

    def about(self) -> dict[str, Any]:
        """What is told of it in the model's metadata."""
        return {"date": self.date, "epochs": self.epochs, "accuracy": round(self.accuracy, 4)}


def scaled(grids: Any) -> Array:
    """Grids with values from 0 to 16 as the network wants them, from -1 to 1; same shape."""
    return np.asarray(grids, dtype=np.float64) / 8 - 1


def to_bytes(network: Network) -> bytes:
    """The network as a file of plain numpy arrays: nothing in it is ever run, as a pickle is."""
    file = BytesIO()
    np.savez(file, format=FORMAT, **network._asdict())
    return file.getvalue()


def read(path: Path) -> Network:
    """The network in a file; what is wrong with a file that holds none is raised."""
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        if file["format"] != FORMAT:
            raise ValueError(f"its format is {file['format']}, not {FORMAT}")
        hidden_weights, hidden_biases, weights, biases = (
            np.asarray(file[name], dtype=np.float64) for name in Network._fields[:4]
        )
        date, epochs, accuracy = str(file["date"]), int(file["epochs"]), float(file["accuracy"])
    network = Network(hidden_weights, hidden_biases, weights, biases, date, epochs, accuracy)
    units, shapes = hidden_biases.size, [array.shape for array in network[:4]]
    if shapes != [(SIDE * SIDE, units), (units,), (units, 10), (10,)]:
        raise ValueError(f"its arrays have the shapes {shapes}")
    if not all(np.isfinite(array).all() for array in network[:4]):
        raise ValueError("not all its numbers are finite")
    return network


def load() -> Network | None:
    """The network that the last training has installed, or None if there is none to be used."""
    try:
        place = weights_directory() / FILE
    except RuntimeError as error:
        logger.warning("The built-in classifier is used: %s", error)
        return None
    try:
        return read(place)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file makes numpy and zipfile raise all kinds
        logger.warning("The built-in classifier is used, as %s cannot be read: %s", place, error)
        return None


def prepare() -> None:
    """Make sure, before the work of a training begins, that its weights can be kept.

    Raises RuntimeError if there is no directory for them, and OSError if nothing can be written
    there. Removes the unfinished files of trainings that were killed.
    """
    there = weights_directory()
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{there}, where the weights go, cannot be written to")
    for left in there.glob(UNFINISHED):
        if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
            left.unlink(missing_ok=True)


def install(data: bytes) -> None:
    """Put the bytes of a network where `load` looks: all of them at once, or, killed, none."""
    place = weights_directory() / FILE
    unfinished = place.with_name(UNFINISHED.replace("*", uuid4().hex))
    try:
        with unfinished.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, place)
    finally:
        unfinished.unlink(missing_ok=True)
    _make_lasting(place.parent)


def _make_lasting(directory: Path) -> None:
    """Have the new name survive a power cut, on file systems that can do so."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        logger.info("%s cannot be synchronised", directory)
    finally:
        os.close(descriptor)
