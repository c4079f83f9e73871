"""Gives the definitions of several models distinct names in one description."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

SWAGGER = "#/definitions/"
OPENAPI = "#/components/schemas/"
"""What references begin with."""


def add_definitions(
    new: Mapping[str, Any], definitions: Json, prefix: str = SWAGGER
) -> dict[str, str]:
    """Add a model's definitions; if a name is taken by another definition, use a new name.

    Returns a mapping of old names to new names.
    """
    taken = {name for name, one in new.items() if definitions.get(name, one) != one}
    changed = set(taken)
    while True:  # a definition that refers to a renamed one has changed, too
        more = {name for name in set(new) - changed if references(new[name], prefix) & changed}
        if not more:
            break
        changed |= more
    for number in itertools.count(1):
        renaming = {name: f"{name}{number}" for name in changed}
        added = {
            renaming.get(name, name): renamed(one, renaming, prefix) for name, one in new.items()
        }
        # Two new definitions must not get the same name: "A" may become "A1" beside an "A1".
        if len(added) == len(new) and all(
            definitions.get(name, one) == one for name, one in added.items()
        ):
            definitions |= added
            return renaming
    raise AssertionError("numbers do not end")


def references(value: Any, prefix: str = SWAGGER) -> set[str]:
    """Return the names of the definitions that `value` refers to."""
    if isinstance(value, dict):
        found = {value["$ref"].removeprefix(prefix)} if _is_reference(value, prefix) else set()
        return found.union(*(references(one, prefix) for one in value.values()))
    if isinstance(value, list):
        return set().union(*(references(one, prefix) for one in value))
    return set()


def renamed(value: Any, renaming: Mapping[str, str], prefix: str = SWAGGER) -> Any:
    """Return a copy of `value` with the references to renamed definitions changed."""
    if isinstance(value, dict):
        changed = {key: renamed(item, renaming, prefix) for key, item in value.items()}
        if _is_reference(value, prefix):
            name = value["$ref"].removeprefix(prefix)
            changed["$ref"] = prefix + renaming.get(name, name)
        return changed
    if isinstance(value, list):
        return [renamed(item, renaming, prefix) for item in value]
    return value


def _is_reference(value: Json, prefix: str) -> bool:
    """Return whether this is a reference, and not the properties of an object with a `$ref`."""
    found = value.get("$ref")
    return isinstance(found, str) and found.startswith(prefix)
