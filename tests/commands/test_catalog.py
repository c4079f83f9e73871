"""`deepaas catalog check` and `deepaas catalog migrate`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("deepaas")

WRONG = """metadata_version: 2.0.0
title: Area
summary: It multiplies.
description: See: this
links:
  source_code: https://example.org/x/area
libraries: [scikit learn]
tasks: [Regression]
categories: [AI4 inference]
tags: [geometry]
doi: https://doi.org/10.5281/zenodo.12
"""


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), "catalog", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "ai4-metadata.yml").write_text(WRONG)
    return tmp_path


def test_check_says_what_to_write_and_where(directory: Path) -> None:
    done = run(directory, "check")
    assert done.returncode == 1
    assert "ai4-metadata.yml:4:17: error: mapping values are not allowed" in done.stdout
    assert (
        "ai4-metadata.yml:7:13: error: 'scikit learn' is not a word of libraries; "
        "write 'Scikit-learn'" in done.stdout
    )
    assert "ai4-metadata.yml:11:1: warning: write the DOI as 10.5281/zenodo.12" in done.stdout
    assert done.stdout.endswith("ai4-metadata.yml: 2 errors, 1 warning\n")


def test_check_prints_json(directory: Path) -> None:
    done = run(directory, "check", "--json", ".")
    (file,) = json.loads(done.stdout)
    assert (file["file"], file["format"], file["errors"]) == ("ai4-metadata.yml", "V2", 2)
    assert {one["code"] for one in file["problems"]} == {"yaml", "unknown-word", "doi"}


def test_patch_mends_the_file(directory: Path) -> None:
    patch = run(directory, "check", "--fix").stdout
    subprocess.run(
        ["git", "apply", "-"], cwd=directory, input=patch, text=True, check=True, timeout=60
    )
    after = run(directory, "check")
    assert after.returncode == 0
    assert "See: this" in (directory / "ai4-metadata.yml").read_text()
    assert after.stdout.endswith("0 errors, 1 warning\n")


def test_patch_mends_a_file_without_a_final_line_feed(directory: Path) -> None:
    (directory / "ai4-metadata.yml").write_text(WRONG.partition("tasks:")[0].rstrip("\n"))
    patch = run(directory, "check", "--fix").stdout
    subprocess.run(
        ["git", "apply", "-"], cwd=directory, input=patch, text=True, check=True, timeout=60
    )
    assert (directory / "ai4-metadata.yml").read_text().endswith("libraries: [Scikit-learn]")


def test_file_in_another_encoding_is_not_patched(directory: Path) -> None:
    (directory / "ai4-metadata.yml").write_text(WRONG, encoding="utf-16")
    assert "save ai4-metadata.yml in UTF-8 first" in run(directory, "check", "--fix").stderr


def test_migrate_writes_v2_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"title": "Area", "license": "MIT"}')
    done = run(tmp_path, "migrate", "--output", "new.yml")
    assert done.returncode == 0
    text = (tmp_path / "new.yml").read_text()
    assert text.startswith("metadata_version: 2.3.0\ntitle: Area\n")
    assert text == run(tmp_path, "migrate").stdout
    again = run(tmp_path, "migrate", "-o", "new.yml")
    assert again.returncode == 1
    assert "new.yml cannot be written: File exists" in again.stderr


def test_wrong_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text("x")
    assert "there is no ai4-metadata.yml or " in run(tmp_path, "check").stderr
    assert "text.md is neither a YAML file" in run(tmp_path, "check", "text.md").stderr
    assert run(tmp_path, "check", "absent.yml").returncode == 2
