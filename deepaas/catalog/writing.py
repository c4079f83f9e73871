"""Writes metadata in the format V2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from deepaas.catalog import vocabulary
from deepaas.catalog.metadata import Metadata
from deepaas.catalog.sections import quoted
from deepaas.catalog.text import NOT_TEXT

VERSION = "2.3.0"


def as_v2(metadata: Metadata) -> str:
    """Return the file `ai4-metadata.yml` for this metadata, of whatever format it was.

    Values for which V2 has no place, such as the licence and those of V1 only, become comments at
    the end, so that nothing is lost.
    """
    keywords = [name for name, claim in metadata.capabilities.items() if claim]
    if metadata.is_tool:
        keywords.append("tools")
    categories = [vocabulary.CATEGORY_OF_KEYWORD[name] for name in keywords]
    own = {*metadata.libraries, *vocabulary.CATEGORY_OF_KEYWORD}
    tags = [tag for tag in metadata.tags if not _is_said(tag, own)]
    links = dict(metadata.links)
    no_links = {name: links.pop(name) for name in ("training_files", "dockerfile") if name in links}
    if metadata.docker_image:
        links["docker_image"] = metadata.docker_image
    lines = [
        f"metadata_version: {VERSION}",
        f"title: {quoted(metadata.title)}",
        f"summary: {quoted(metadata.summary)}",
        *_text("description", metadata.description),
    ]
    dates = {"created": metadata.created, "updated": metadata.updated or metadata.created}
    if metadata.created or metadata.updated:
        lines += ["dates:", *(f"  {name}: {quoted(date)}" for name, date in dates.items() if date)]
    lines += ["links:", *(f"  {name}: {quoted(link)}" for name, link in sorted(links.items()))]
    lines += _list("libraries", metadata.libraries or ("Other",))
    lines += _list("tasks", metadata.tasks or ("Other",))
    lines += _list("categories", categories)
    lines += _list("tags", tags)
    if metadata.data_types:
        lines += _list("data-type", metadata.data_types)
    if metadata.doi:
        lines.append(f"doi: {quoted(metadata.doi)}")
    lines += _resources(metadata.resources)
    rest: dict[str, Any] = {"license": metadata.license} if metadata.license else {}
    lines += _comments(rest | no_links | dict(metadata.extras))
    return "\n".join(lines) + "\n"


def _is_said(tag: str, words: Iterable[str]) -> bool:
    """Return whether another list of V2 says the same as this keyword of V1."""
    return bool(vocabulary.match(tag, tuple(words)))


def _text(key: str, text: str) -> list[str]:
    if not text.strip():
        return [f"{key}: ''"]
    lines = text.split("\n")
    indicator = "|2-" if lines[0].startswith(" ") else "|-"
    return [f"{key}: {indicator}", *(f"  {line}" if line else "" for line in lines)]


def _list(key: str, items: Iterable[str]) -> list[str]:
    lines = [f"  - {quoted(item)}" for item in items]
    return [f"{key}:", *lines] if lines else [f"{key}: []"]


def _resources(resources: Mapping[str, Mapping[str, float | str]]) -> list[str]:
    lines = ["resources:"] if resources else []
    for name, quantities in resources.items():
        lines.append(f"  {name}:")
        for key, value in quantities.items():
            lines.append(f"    {key}: {quoted(value) if isinstance(value, str) else value}")
    return lines


def _comments(values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    lines = [
        NOT_TEXT.sub(" ", f"# {_key(key)}: {json.dumps(value, ensure_ascii=False)}")
        for key, value in values.items()
    ]
    return ["", "# Values for which this format has no field:", *lines]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w.-]+", key) else json.dumps(key, ensure_ascii=False)
