"""Asks for the directory of its weights when it predicts, not before."""

from __future__ import annotations

from deepaas.training import weights_directory


def predict() -> str:
    return str(weights_directory())
