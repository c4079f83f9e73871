"""What a metadata file says about a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deepaas.catalog.problems import Problem, Severity

CAPABILITIES = ("trainable", "inference", "pre-trained")


@dataclass(frozen=True)
class Metadata:
    """The content of one metadata file, of any format.

    Texts that the file lacks are "", and lists are empty. `description` is Markdown. Dates have the
    form YYYY-MM-DD, as far as the file has it. `links` are addresses by name (`source_code`,
    `dataset`, ...); `docker_image` is a reference to an image. `resources` has the keys `inference`
    and `training`, each with `cpu`, `gpu`, `memory_MB`, `gpu_memory_MB`, `storage_MB` (numbers) and
    `gpu_compute_capability` (text). `capabilities` are claims: True, False, or None if the file
    says nothing. `extras` are values that the format does not know, in JSON types.
    """

    format: str
    title: str = ""
    summary: str = ""
    description: str = ""
    created: str = ""
    updated: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    docker_image: str = ""
    license: str = ""
    libraries: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    data_types: tuple[str, ...] = ()
    capabilities: Mapping[str, bool | None] = field(default_factory=dict)
    is_tool: bool = False
    is_template: bool = False
    doi: str = ""
    resources: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> list[Problem]:
        return [one for one in self.problems if one.severity is Severity.ERROR]


def claims(words: tuple[str, ...]) -> dict[str, bool | None]:
    """Return the claims from the capabilities that a file lists; None for all if it lists none."""
    if not set(words) & {*CAPABILITIES, "tools"}:
        return dict.fromkeys(CAPABILITIES)
    return {name: name in words for name in CAPABILITIES}
