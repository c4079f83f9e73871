"""Reads and checks the format V1, `metadata.json`."""

from __future__ import annotations

from typing import Any

from deepaas.catalog import vocabulary
from deepaas.catalog.metadata import Metadata, claims
from deepaas.catalog.problems import Problems
from deepaas.catalog.tree import Kind, Node
from deepaas.catalog.v2 import doi_of, image_of
from deepaas.catalog.values import Values

FORMAT = "V1"
REQUIRED = (
    *("title", "summary", "description", "date_creation", "keywords", "license", "sources"),
)
KEYS = (
    *REQUIRED,
    *("cite_url", "dataset_url", "training_files_url", "tosca", "continuous_integration"),
    *("description_references", "docker_tags", "doi"),
)
_LINKS = {"cite_url": "citation", "dataset_url": "dataset", "training_files_url": "training_files"}
_SOURCES = {
    "code": "source_code",
    "dockerfile_repo": "dockerfile",
    "pre_trained_weights": "weights",
}
_BUILD = {"build_status_badge": "cicd_badge", "build_status_url": "cicd_url"}


def read(root: Node, problems: Problems) -> Metadata:
    """Return the metadata of a parsed file. Nothing in it raises an exception."""
    values = Values(root, problems)
    values.rename_near(KEYS)
    values.require(*REQUIRED)
    links: dict[str, str] = {}
    _add_links(values, _LINKS, links)
    sources = values.mapping("sources")
    if sources.node.entries:
        sources.require("code")
    image = image_of(sources, "docker_registry_repo")
    _add_links(sources, _SOURCES | _LINKS | {"zenodo_doi": "zenodo_doi"}, links)
    _add_links(values.mapping("continuous_integration"), _BUILD, links)
    keywords = values.texts("keywords")
    words = [vocabulary.match(word, tuple(vocabulary.CATEGORY_OF_KEYWORD)) for word in keywords]
    libraries = [w for k in keywords if (w := vocabulary.match(k, vocabulary.LIBRARIES))]
    doi, more = doi_of(values, "doi")
    extras: dict[str, Any] = {"doi": more} if more else {}
    created = values.date("date_creation")
    return Metadata(
        format=FORMAT,
        title=values.text("title"),
        summary=values.text("summary"),
        description=_description(values),
        created=created,
        links=links,
        docker_image=image,
        license=values.text("license"),
        libraries=tuple(dict.fromkeys(libraries)),
        tags=keywords,
        capabilities=claims(tuple(words)),
        is_tool="tools" in words,
        doi=doi,
        extras=extras | _extras(values, sources),
    )


def _description(values: Values) -> str:
    """Return the lines of the list as one text; a text stays as it is."""
    values.used.add("description")
    lines: list[str] = []
    for entry in values.node.all("description"):
        if entry.value.kind is Kind.LIST:
            lines += [one.text.removesuffix("\n") for one in entry.value.items if one.is_scalar]
        elif entry.value.is_scalar and not entry.value.is_empty:
            lines.append(entry.value.text)
    return "\n".join(lines).strip()


def _add_links(values: Values, names: dict[str, str], links: dict[str, str]) -> None:
    for old, new in names.items():
        if values.node.all(old):
            address = values.address(old)
            if address:
                links.setdefault(new, address)


def _extras(values: Values, sources: Values) -> dict[str, Any]:
    values.used |= {"title", "summary", "license"}
    found: dict[str, Any] = {}
    for entry in values.rest():
        if entry.key not in KEYS:
            values.warn("unknown-field", f"there is no field {entry.key[:80]}; it is kept", entry)
        found[entry.key] = entry.value.plain()
    more = {entry.key: entry.value.plain() for entry in sources.rest()}
    if more:
        found["sources"] = more
    return found
