"""Reads and checks the format V2, `ai4-metadata.yml`."""

from __future__ import annotations

import re
from typing import Any

from deepaas.catalog import vocabulary
from deepaas.catalog.metadata import Metadata, claims
from deepaas.catalog.problems import Problems, Replacement
from deepaas.catalog.tree import Entry, Node
from deepaas.catalog.values import Values

FORMAT = "V2"
REQUIRED = (
    *("metadata_version", "title", "summary", "description", "links"),
    *("libraries", "tasks", "categories", "tags"),
)
KEYS = (*REQUIRED, "dates", "data-type", "doi", "resources")
LISTS = ("libraries", "tasks", "categories", "tags", "data-type")
LINKS = (
    *("source_code", "self", "documentation", "zenodo_doi", "dataset", "weights", "citation"),
    *("base_model", "cicd_url", "cicd_badge"),
)
NOT_ADDRESSES = ("docker_image", "ai4_template")
OF_V1 = ("tosca", "sources", "dataset_url", "cite_url", "date_creation", "keywords")
"""Keys of V1, which are forbidden at the top level of V2."""

_NEW_LINKS = {"cite_url": "citation", "dataset_url": "dataset"}
_QUANTITIES = ("cpu", "gpu", "memory_MB", "gpu_memory_MB", "storage_MB")
_QUANTITY = re.compile(
    r"\s*(\d+(?:\.\d+)?)\s*(?:[-\u2013]\s*\d+(?:\.\d+)?\s*)?([kMGT]i?B?)?\s*", re.I
)
_FACTORS = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024.0}
_IMAGE = re.compile(
    r"(?:docker://)?(?:[\w.-]+(?::\d+)?/)*[a-z0-9][a-z0-9._-]*(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_HUB = re.compile(r"https?://hub\.docker\.com/(?:r/|_/)?(?P<image>[\w./-]+?)/?(?:tags.*)?")
_DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:\s*)?(10\.\d{4,9}/\S+)", re.I)


def read(root: Node, problems: Problems) -> Metadata:
    """Return the metadata of a parsed file. Nothing in it raises an exception."""
    values = Values(root, problems)
    values.rename_near((*KEYS, "provenance", "license"))
    values.require(*REQUIRED)
    _version(values)
    links, image, link_extras = _links(values.mapping("links"))
    libraries, no_libraries = values.words("libraries", vocabulary.LIBRARIES)
    tasks, no_tasks = values.words("tasks", vocabulary.TASKS)
    categories, no_categories = values.words("categories", vocabulary.CATEGORIES)
    data_types, no_data_types = values.words("data-type", vocabulary.DATA_TYPES)
    tags = (*values.texts("tags"), *no_libraries, *no_tasks, *no_categories, *no_data_types)
    created, updated = _dates(values.mapping("dates"))
    resources = _resources(values.mapping("resources"))
    doi, more_dois = doi_of(values, "doi")
    keywords = tuple(k for k, c in vocabulary.CATEGORY_OF_KEYWORD.items() if c in categories)
    extras: dict[str, Any] = {}
    if link_extras:
        extras["links"] = link_extras
    if more_dois:
        extras["doi"] = more_dois
    return Metadata(
        format=FORMAT,
        title=values.text("title"),
        summary=values.text("summary"),
        description=values.text("description"),
        created=created,
        updated=updated,
        links=links,
        docker_image=image,
        license=values.text("license"),
        libraries=libraries,
        tasks=tasks,
        tags=tuple(dict.fromkeys(tags)),
        data_types=data_types,
        capabilities=claims(keywords),
        is_tool="tools" in keywords,
        doi=doi,
        resources=resources,
        extras=extras | _extras(values),
    )


def _version(values: Values) -> None:
    entry = values.entry("metadata_version")
    if entry is None or not entry.value.is_scalar or entry.value.is_empty:
        return
    text = entry.value.text
    if re.fullmatch(r"2\.\d+\.\d+", text):
        return
    new = "2.0.0"
    values.warn(
        "version",
        f"metadata_version is {text[:40]}, but the fields are those of V2; write {new}",
        entry,
        (Replacement(entry.line, entry.column, text, new),),
    )


def _dates(dates: Values) -> tuple[str, str]:
    created, updated = dates.date("created"), dates.date("updated")
    entry = dates.entry("created")
    if entry and updated and created > updated:
        dates.warn("date", f"created, {created}, is after updated, {updated}", entry)
    _report_rest(dates)
    return created, updated


def _links(links: Values) -> tuple[dict[str, str], str, dict[str, Any]]:
    """Return the addresses by name, the image, and values that are neither."""
    if links.node.entries:
        links.require("source_code")
    found: dict[str, str] = {}
    extras: dict[str, Any] = {}
    image = image_of(links, "docker_image")
    for entry in list(links.node.entries):
        key = entry.key
        if key in links.used:
            continue
        if entry.value.is_empty and key != "source_code":  # that one is required
            links.used.add(key)
            links.warn("empty", f"{links.name_of(key)} has no value; remove the line", entry)
        elif key in LINKS:
            found[key] = links.address(key)
        elif key in _NEW_LINKS:
            new = _NEW_LINKS[key]
            address = links.address(key)
            links.warn(
                *("old-name", f"{links.name_of(key)} is a name of V1; write links.{new}", entry),
                edits=(Replacement(entry.line, entry.column, key, new),),
            )
            found.setdefault(new, address)
        else:
            extras[key] = _other_link(links, entry)
    return {key: address for key, address in found.items() if address}, image, extras


def _other_link(links: Values, entry: Entry) -> Any:
    links.used.add(entry.key)
    if entry.key != "ai4_template":
        near = vocabulary.nearest(entry.key, LINKS, 0.75)
        hint = f"; did you mean {near}?" if near else ""
        links.warn("unknown-link", f"there is no link {entry.key[:60]}{hint}", entry)
    return entry.value.plain()


def image_of(links: Values, key: str) -> str:
    """Return the reference to an image, which may be given as an address or with blanks."""
    entry = links.entry(key)
    raw = entry.value.text if entry and entry.value.is_scalar else ""
    text = links.text(key)
    if not text or entry is None:
        return ""
    if raw != raw.strip():
        links.warn("blank", f"{links.name_of(key)} has a blank at its start or end", entry)
    hub = _HUB.fullmatch(text)
    if hub:
        text = hub["image"]
        links.warn("image", f"{links.name_of(key)} is a web page; write {text}", entry)
    elif not _IMAGE.fullmatch(text) and not re.match(r"https?://", text):
        links.error("image", f"{text[:80]!r} is not the name of an image", entry)
    return text.removeprefix("docker://")


def doi_of(values: Values, key: str) -> tuple[str, list[str]]:
    """Return the DOI without a prefix, and further ones."""
    entry = values.entry(key)
    if entry is None or entry.value.is_empty:
        return "", []
    if not entry.value.is_scalar:
        values.warn("doi", f"{values.name_of(key)} is a {entry.value.kind}; write one DOI", entry)
    found = []
    for one in entry.value.scalars():
        doi = _DOI.fullmatch(one.text.strip())
        if doi is None:
            values.error(
                "doi", f"{one.text[:80]!r} is not a DOI; write one such as 10.5281/zenodo.1", entry
            )
            continue
        if doi[1] != one.text:
            values.warn("doi", f"write the DOI as {doi[1]}", entry)
        found.append(doi[1])
    return (found[0], found[1:]) if found else ("", [])


def _resources(resources: Values) -> dict[str, dict[str, float | str]]:
    found: dict[str, dict[str, float | str]] = {}
    for name in ("inference", "training"):
        section = resources.mapping(name)
        section.rename_near((*_QUANTITIES, "gpu_compute_capability"))
        values: dict[str, float | str] = {}
        for key in _QUANTITIES:
            quantity = _quantity(section, key)
            if quantity is not None:
                values[key] = quantity
        capability = section.entry("gpu_compute_capability")
        if capability is not None and capability.value.is_scalar and capability.value.text:
            values["gpu_compute_capability"] = capability.value.text[:40]
        _report_rest(section)
        if values:
            found[name] = values
    _report_rest(resources)
    return found


def _quantity(section: Values, key: str) -> float | None:
    entry = section.entry(key)
    if entry is None or entry.value.is_empty:
        return None
    name = section.name_of(key)
    text = entry.value.text if entry.value.is_scalar else ""
    found = _QUANTITY.fullmatch(text)
    if not found:
        section.error("number", f"{name} is {text[:40]!r}, and not a number; write one", entry)
        return None
    unit = (found[2] or "").lower()
    factor = _FACTORS.get(unit[:1], 1.0) if key.endswith("_MB") else 1.0
    value = float(found[1][:20]) * factor
    value = int(value) if value.is_integer() else value
    if text.strip() != f"{value:g}" and text.strip() != str(value):
        section.error("number", f"{name} is {text[:40]!r}; write the number {value}", entry)
    return value


def _report_rest(values: Values) -> None:
    for entry in values.rest():
        values.used.add(entry.key)
        values.warn("unknown-field", f"there is no field {values.name_of(entry.key)[:80]}", entry)


def _extras(values: Values) -> dict[str, Any]:
    """Return the values of unknown keys. A key of V1 is an error, any other a warning."""
    values.used |= {"title", "summary", "description", "license"}
    found: dict[str, Any] = {}
    for entry in values.rest():
        key = entry.key
        if key in OF_V1:
            values.error(
                "of-v1", f"{key} is a field of V1, which V2 does not have; remove it", entry
            )
        else:
            values.warn("unknown-field", f"there is no field {key[:80]}; it is kept", entry)
        found[key] = entry.value.plain()
    return found
