"""The names of a model's definitions in the description of all models."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_PREFIX = "#/definitions/"


def add_definitions(new: Mapping[str, Any], definitions: Json) -> dict[str, str]:
    """Add a model's definitions; one whose name stands for something else gets a new name.

    Returns the new names by the old.
    """
    taken = {name for name, one in new.items() if definitions.get(name, one) != one}
    changed = set(taken)
    while True:  # what refers to a definition with a new name is not the same as before
        more = {name for name in set(new) - changed if references(new[name]) & changed}
        if not more:
            break
        changed |= more
    for number in itertools.count(1):
        renaming = {name: f"{name}{number}" for name in changed}
        added = {renaming.get(name, name): renamed(one, renaming) for name, one in new.items()}
        # Two of the new ones may not end as one, as "A" and "A1" would.
        if len(added) == len(new) and all(
            definitions.get(name, one) == one for name, one in added.items()
        ):
            definitions |= added
            return renaming
    raise AssertionError("numbers do not end")


def references(value: Any) -> set[str]:
    """The names of the definitions that `value` refers to."""
    if isinstance(value, dict):
        found = {value["$ref"].removeprefix(_PREFIX)} if _is_reference(value) else set()
        return found.union(*map(references, value.values()))
    if isinstance(value, list):
        return set().union(*map(references, value))
    return set()


def renamed(value: Any, renaming: Mapping[str, str]) -> Any:
    """The same with every reference to a renamed definition changed."""
    if isinstance(value, dict):
        changed = {key: renamed(item, renaming) for key, item in value.items()}
        if _is_reference(value):
            name = value["$ref"].removeprefix(_PREFIX)
            changed["$ref"] = _PREFIX + renaming.get(name, name)
        return changed
    if isinstance(value, list):
        return [renamed(item, renaming) for item in value]
    return value


def _is_reference(value: Json) -> bool:
    """Whether it refers to a definition, and is not the properties of one that has a `$ref`."""
    found = value.get("$ref")
    return isinstance(found, str) and found.startswith(_PREFIX)
