"""A model that requests its weights directory only when it predicts."""

from __future__ import annotations

from deepaas.training import weights_directory


def predict() -> str:
    return str(weights_directory())
