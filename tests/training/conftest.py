"""Fixtures: directories for trainings, and servers with a separate state directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.trainings import Place, Site


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return _place(tmp_path / "place")


@pytest.fixture
def places(tmp_path: Path) -> list[Place]:
    """Return 20 directories, enough for every test."""
    return [_place(tmp_path / f"place {number}") for number in range(20)]


def _place(directory: Path) -> Place:
    directory.mkdir()
    return Place(directory)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A state directory for several servers; at the end no process may be left."""
    site = Site(tmp_path / "state")
    try:
        yield site
    finally:
        site.close()
