"""The weights of a training: prediction, loading, and safe installation."""

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
    """A network with one hidden layer of n units, and facts about its training.

    The shapes are (64, n), (n,), (n, 10) and (10,). `date` is in ISO 8601. `accuracy`, from 0 to 1,
    is that on the held-out digits.
    """

    hidden_weights: Array
    hidden_biases: Array
    weights: Array
    biases: Array
    date: str
    epochs: int
    accuracy: float

    def predict_proba(self, grids: Any) -> Array:
        """Return the probabilities of the ten digits, shape (n, 10), for grids (n, 64)."""
        hidden = np.maximum(0, scaled(grids) @ self.hidden_weights + self.hidden_biases)
        scores = hidden @ self.weights + self.biases
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: Array = odds / odds.sum(axis=1, keepdims=True)
        return probabilities

    def about(self) -> dict[str, Any]:
        """Return the facts for the model's metadata."""
        return {"date": self.date, "epochs": self.epochs, "accuracy": round(self.accuracy, 4)}


def scaled(grids: Any) -> Array:
    """Scale grids from values 0 to 16 to the network's input, -1 to 1, in the same shape."""
    return np.asarray(grids, dtype=np.float64) / 8 - 1


def to_bytes(network: Network) -> bytes:
    """Return the network as a file of plain numpy arrays; unlike a pickle, it can run no code."""
    file = BytesIO()
    np.savez(file, format=FORMAT, **network._asdict())
    return file.getvalue()


def read(path: Path) -> Network:
    """Read the network in a file. Raises an exception of any type if the file is invalid."""
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
    """Return the network of the last training, or None if there is no usable one."""
    try:
        place = weights_directory() / FILE
    except RuntimeError as error:
        logger.warning("Using the built-in classifier: %s", error)
        return None
    try:
        return read(place)
    except FileNotFoundError:
        return None
    except Exception as error:  # for a damaged file, numpy and zipfile raise many types
        logger.warning("Using the built-in classifier: %s cannot be read: %s", place, error)
        return None


def prepare() -> None:
    """Check before a training that its weights can be saved, and remove abandoned files.

    Killed trainings leave such files. Raises RuntimeError if there is no directory for weights, and
    OSError if it cannot be written to.
    """
    there = weights_directory()
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{there}, the directory for weights, cannot be written to")
    for left in there.glob(UNFINISHED):
        if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
            left.unlink(missing_ok=True)


def install(data: bytes) -> None:
    """Replace the file that `load` reads in one step: if killed, the old file stays complete."""
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
    _sync(place.parent)


def _sync(directory: Path) -> None:
    """Make the new name survive a power cut, if the file system supports that."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        logger.info("%s cannot be synchronised", directory)
    finally:
        os.close(descriptor)
