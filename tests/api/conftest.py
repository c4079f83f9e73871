"""Fixtures for several tests of the HTTP part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.form_bodies import Uploads

Read = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    """Return a directory for the files of forms."""
    return Uploads(tmp_path)


@pytest.fixture
def read(uploads: Uploads) -> Read:
    """Return a function that reads a form from chunks; see Uploads.read."""
    return uploads.read
