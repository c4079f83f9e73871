"""The digits for training, and the built-in classifier, which needs no training."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from .picture import Array, to_grid

Labels = NDArray[np.int_]

HELD_OUT_EVERY = 5


def digits(*, held_out: bool = False) -> tuple[Array, Labels]:
    """Return images of shape (1437, 8, 8), 0 to 1, and their labels (1437,).

    Of scikit-learn's 1797 digits, every fifth (0, 5, 10, ...) is held out: these 360 are only for
    tests. `held_out` returns them instead.
    """
    data = load_digits()
    wanted = (np.arange(len(data.target)) % HELD_OUT_EVERY == 0) == held_out
    return data.images[wanted] / 16, data.target[wanted]


def grids(images: Array) -> Array:
    """Turn images (n, height, width), values from 0 to 1, into the classifiers' input (n, 64)."""
    return np.array([to_grid(image).ravel() for image in images])


def built_in() -> Any:
    """Make a support-vector classifier with calibrated probabilities, in about 0.2 s.

    It uses no randomness, so every worker has the same classifier.
    """
    images, labels = digits()
    classifier = CalibratedClassifierCV(SVC(gamma=0.001), ensemble=False)
    return classifier.fit(grids(images), labels)
