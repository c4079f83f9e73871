"""The classifier and the data it learns from."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from .picture import Array, to_grid

HELD_OUT_EVERY = 5


def training_digits() -> tuple[Array, NDArray[np.int_]]:
    """Grids of shape (1437, 64) and their labels (1437,), from scikit-learn's 1797 digits.

    Every fifth digit (0, 5, 10, ...) is held out: those are for tests, never for training.
    """
    digits = load_digits()
    kept = np.arange(len(digits.target)) % HELD_OUT_EVERY != 0
    grids = [to_grid(image / 16).ravel() for image in digits.images[kept]]
    return np.array(grids), digits.target[kept]


def fit(grids: Array, labels: NDArray[np.int_]) -> Any:
    """Train a support-vector classifier with calibrated probabilities (about 0.2 s).

    `grids` has the shape (n, 64). There is no randomness in it: the same digits give the same
    classifier, in every worker.
    """
    return CalibratedClassifierCV(SVC(gamma=0.001), ensemble=False).fit(grids, labels)
