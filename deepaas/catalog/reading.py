"""Reads a metadata file of either format. It never raises, and it loses no module.

The strict check and the reader are one: the problems of the metadata are what the check reports.
"""

from __future__ import annotations

import os
from dataclasses import replace

from deepaas.catalog import json_tree, sections, v1, v2, yaml_tree
from deepaas.catalog.metadata import Metadata, claims
from deepaas.catalog.problems import Problems
from deepaas.catalog.text import decoded, is_template
from deepaas.catalog.tree import Kind, Node, UnreadableError

NAMES = ("ai4-metadata.yml", "ai4-metadata.yaml", "ai4-metadata.json", "metadata.json")
"""The usual names of metadata files, the best first."""

_ENDS = (".yml", ".yaml", ".json")


def read(filename: str, data: bytes) -> Metadata | None:
    """Return the metadata of a file; None if its name is not that of a YAML or JSON file."""
    end = os.path.splitext(filename.lower())[1]
    if end not in _ENDS:
        return None
    problems = Problems()
    text = decoded(data, problems)
    if end == ".json":
        root = json_tree.parse(text, problems)
    else:
        problems.lines = text.split("\n")
        root = _yaml(text, problems)
    if root.kind is not Kind.MAPPING:
        what = "is empty" if root.is_empty else f"has a {root.kind} at its top"
        problems.error("empty", f"the file {what}; write the fields, first metadata_version")
        return Metadata(
            format=v1.FORMAT if end == ".json" else v2.FORMAT,
            capabilities=claims(()),
            is_template=is_template(text),
            problems=problems.sorted(),
        )
    # The keys decide, and never the version number or the name of the file.
    found = v1.read(root, problems) if _is_v1(root, end) else v2.read(root, problems)
    template = is_template(text)
    if template:
        problems.error("template", "this is a template, and not the metadata of a module")
    return replace(found, is_template=template, problems=problems.sorted())


def _yaml(text: str, problems: Problems) -> Node:
    own = Problems()
    try:
        root = yaml_tree.parse(text, own)
    except UnreadableError as error:
        root = sections.parse(text, problems, v2.KEYS, v2.LISTS)
        if not any(one.code == "yaml" for one in problems.found):
            problems.error("yaml", f"{error.message}; mend this line", error.line, error.column)
        return root
    for problem in own.found:
        problems.add(problem)
    return root


def _is_v1(root: Node, end: str) -> bool:
    keys = {entry.key for entry in root.entries}
    of_v1 = len(keys & {*v2.OF_V1, "license", "continuous_integration"})
    of_v2 = len(keys & {"metadata_version", "links", "dates", *v2.LISTS})
    return of_v1 > of_v2 or (of_v2 == 0 and end == ".json")
