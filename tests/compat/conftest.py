"""Fixtures for the tests of existing modules and clients."""

from __future__ import annotations

import pytest

from tests import support


@pytest.fixture(autouse=True)
def short_waits(
    request: pytest.FixtureRequest, is_reference: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shorten the waits that must fail for the reference release."""
    if is_reference and request.node.get_closest_marker("mended"):
        monkeypatch.setattr(support, "LEAST_GUARD_SECONDS", 0.0)
