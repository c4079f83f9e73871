"""The words of the metadata format V2, and the nearest of them to a word that is not one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

LIBRARIES = (
    *("TensorFlow", "PyTorch", "Keras", "Scikit-learn", "XGBoost", "LightGBM", "CatBoost"),
    "Other",
)
TASKS = (
    *("Computer Vision", "Natural Language Processing", "Time Series", "Recommender Systems"),
    *("Anomaly Detection", "Regression", "Classification", "Clustering"),
    *("Dimensionality Reduction", "Generative Models", "Graph Neural Networks", "Optimization"),
    *("Reinforcement Learning", "Transfer Learning", "Uncertainty Estimation", "Other"),
)
CATEGORIES = ("AI4 pre trained", "AI4 trainable", "AI4 inference", "AI4 tools")
DATA_TYPES = ("Image", "Text", "Time Series", "Tabular", "Graph", "Audio", "Video", "Other")

CATEGORY_OF_KEYWORD = {
    "trainable": "AI4 trainable",
    "inference": "AI4 inference",
    "pre-trained": "AI4 pre trained",
    "tools": "AI4 tools",
}
"""The keywords of V1 with a meaning, and the category that V2 has for each."""


def reduced(word: str) -> str:
    """Return the word without case, blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", word).casefold()


def match(word: str, words: Sequence[str]) -> str:
    """Return the word of the vocabulary that is the same without case, blank and hyphen, or ""."""
    key = reduced(word)
    return next((known for known in words if reduced(known) == key), "")


def nearest(word: str, words: Collection[str], cutoff: float = 0.6) -> str:
    """Return the most similar word, or ""."""
    by_key = {reduced(known): known for known in words}
    found = difflib.get_close_matches(reduced(word)[:80], by_key, n=1, cutoff=cutoff)
    return by_key[found[0]] if found else ""
