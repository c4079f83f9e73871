"""Places for trainings, and servers that have a state directory of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.trainings import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    directory = tmp_path / "place"
    directory.mkdir()
    return Place(directory)
