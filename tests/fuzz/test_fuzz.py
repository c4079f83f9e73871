"""Hostile input of every kind with fixed seeds. See `tests.fuzz.run` for random input."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.fuzz.targets import BASE, BY_NAME


@pytest.mark.parametrize("name", BY_NAME)
def test_hostile_input_does_no_harm(name: str) -> None:
    target = BY_NAME[name]
    how = settings(BASE, derandomize=True, database=None, max_examples=target.examples)
    with target.opened() as check:
        assert target.run(check, how) > target.examples // 2
