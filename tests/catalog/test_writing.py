"""The migration to V2 keeps everything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deepaas.catalog.reading import read
from deepaas.catalog.writing import as_v2

OLD = {
    "title": "Area: the product",
    "summary": "yes",
    "description": ["# Title\n", "See: this", "", "**References**", "  [1] text # no comment"],
    "keywords": ["trainable", "pre-trained", "keras", "geometry", "- odd", "vo.x: y"],
    "license": "MIT",
    "date_creation": "2024-10-25",
    "cite_url": "https://example.org/paper",
    "dataset_url": "https://example.org/data",
    "training_files_url": "https://example.org/files",
    "doi": "10.5281/zenodo.12",
    "sources": {
        "code": "https://example.org/x/area",
        "dockerfile_repo": "https://example.org/x/docker",
        "docker_registry_repo": "x/area",
        "pre_trained_weights": "https://example.org/weights",
        "Tutorial": "https://example.org/tutorial",
    },
    "continuous_integration": {"build_status_url": "https://example.org/ci"},
    "tosca": [{"title": "CPU", "url": "https://example.org/t.yml", "inputs": ["rclone_conf"]}],
}


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [one for item in value.values() for one in texts(item)]
    if isinstance(value, list):
        return [one for item in value for one in texts(item)]
    return [str(value).strip()]


def test_migration_keeps_everything() -> None:
    old = read("metadata.json", json.dumps(OLD).encode())
    assert old is not None
    written = as_v2(old)
    new = read("ai4-metadata.yml", written.encode())
    assert new is not None
    assert new.problems == ()
    assert (new.title, new.summary, new.description) == (old.title, old.summary, old.description)
    assert new.capabilities == {"trainable": True, "inference": False, "pre-trained": True}
    assert new.libraries == ("Keras",)
    assert new.tags == ("geometry", "- odd", "vo.x: y")
    assert new.docker_image == "x/area"
    said = {"trainable", "pre-trained", "keras"}  # by categories and libraries
    missing = [one for one in texts(OLD) if one not in written and one not in said]
    assert missing == []


@pytest.mark.parametrize(
    "title", ["a: b", "yes", "2024", "- x", "#x", '"', "'", "a # b", "", " ", "{x}", "*a", "é\\n"]
)
def test_any_title_is_read_as_it_was_written(title: str) -> None:
    data = json.dumps({**OLD, "title": title}).encode()
    old = read("metadata.json", data)
    assert old is not None
    new = read("ai4-metadata.yml", as_v2(old).encode())
    assert new is not None
    assert new.title == old.title


def test_no_value_can_break_the_file() -> None:
    odd = "a\nevil: [1"
    values = {
        "title": "\x00\x01\u2028\x85",
        "date_creation": "2020-01-01'",
        odd: 1,
        "more": "\u2028evil: [",
    }
    old = read("metadata.json", json.dumps({**OLD, **values}).encode())
    assert old is not None
    new = read("ai4-metadata.yml", as_v2(old).encode())
    assert new is not None
    assert new.created == "2020-01-01'"
    assert {one.code for one in new.problems} <= {"date", "required"}
