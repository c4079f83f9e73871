"""The digits to learn from, and the classifier that is there without any training."""

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
    """Images of shape (1437, 8, 8), 0 to 1, and their labels (1437,), from scikit-learn's 1797.

    Every fifth digit (0, 5, 10, ...) is held out: those 360 are for tests, never for training.
    """
    data = load_digits()
    wanted = (np.arange(len(data.target)) % HELD_OUT_EVERY == 0) == held_out
    return data.images[wanted] / 16, data.target[wanted]


def grids(images: Array) -> Array:
    """What the classifiers see of images (n, height, width) with values from 0 to 1: (n, 64)."""
    return np.array([to_grid(image).ravel() for image in images])


def built_in() -> Any:
    """A support-vector classifier with calibrated probabilities, made in about 0.2 s.

    There is no randomness in it: every worker gets the same one.
    """
    images, labels = digits()
    classifier = CalibratedClassifierCV(SVC(gamma=0.001), ensemble=False)
    return classifier.fit(grids(images), labels)
