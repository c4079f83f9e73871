"""The weights that a model declares, and their version."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deepaas.model.v2 import weights
from deepaas.model.v2.weights import declared_weights, describe_weights

Json = dict[str, Any]

WANTED = "69cca5925f7cec4e"
"""The first digits of the sha256 of "w/a.bin", a zero byte, the sha256 of "a" and a line break."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "w" / "deep").mkdir(parents=True)
    (folder / "w" / "a.bin").write_bytes(b"a")
    (folder / "w" / "deep" / "b.bin").write_bytes(b"b")
    return folder


def declared(folder: Path, value: Any) -> weights.Weights | None:
    module = ModuleType("made")
    module.__dict__["weights"] = value
    return declared_weights(module, str(folder / "made.py"))


def described(folder: Path, *paths: Any, cache: str = "") -> Json:
    made = describe_weights(declared(folder, list(paths)), "made", cache)
    assert made is not None
    return made


def version(folder: Path, *paths: Any) -> str:
    found = described(folder, *paths)["version"]
    assert isinstance(found, str)
    return found


def test_version_is_stable_and_short(folder: Path) -> None:
    assert version(folder, "w/a.bin") == "sha256:" + WANTED
    os.utime(folder / "w" / "a.bin", (1, 1))
    assert version(folder, "w/a.bin") == "sha256:" + WANTED


def test_version_changes_with_contents_and_with_names(folder: Path) -> None:
    versions = {version(folder, "w")}
    (folder / "w" / "deep" / "b.bin").write_bytes(b"c")
    versions.add(version(folder, "w"))
    (folder / "w" / "deep" / "b.bin").rename(folder / "w" / "deep" / "c.bin")
    versions.add(version(folder, "w"))
    (folder / "w" / "new.bin").write_bytes(b"")
    versions.add(version(folder, "w"))
    assert len(versions) == 4


def test_files_of_a_directory_are_shown(folder: Path) -> None:
    assert described(folder, "w")["files"] == [
        {"path": "w/a.bin", "size": 1, "problem": None},
        {"path": "w/deep/b.bin", "size": 1, "problem": None},
    ]


def test_missing_file_is_shown_and_does_not_count(folder: Path) -> None:
    made = described(folder, "w/a.bin", "w/c.bin")
    assert made["version"] == version(folder, "w/a.bin")
    problem = "No such file or directory"
    assert made["files"][1] == {"path": "w/c.bin", "size": 0, "problem": problem}
    assert described(folder, "w/c.bin")["version"] is None


def test_only_files_are_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    made = described(folder, "pipe", "/dev/zero", "a\0b")
    assert [one["problem"] for one in made["files"]] == ["Not a file", "Not a file", "Not a path"]
    assert made["version"] is None


def test_variables_are_expanded_and_no_directory_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPAAS_MODEL_WEIGHTS", str(folder / "w"))
    monkeypatch.setenv("HOME", str(folder))
    (folder.parent / "other.bin").write_bytes(b"o")
    paths = ["$DEEPAAS_MODEL_WEIGHTS/a.bin", "~/w/a.bin", folder / "w" / "a.bin"]
    made = described(folder, *paths, folder.parent / "other.bin")
    shown = ["$DEEPAAS_MODEL_WEIGHTS/a.bin", "~/w/a.bin", "w/a.bin", "other.bin"]
    assert [one["path"] for one in made["files"]] == shown
    assert {one["problem"] for one in made["files"]} == {None}


@pytest.mark.parametrize("value", [None, [], {}, b"abc", 0.5, [0.5, 1], "imagenet", object()])
def test_variable_of_the_model_is_no_declaration(folder: Path, value: Any) -> None:
    assert declared(folder, value) is None


def test_property_is_not_read(folder: Path) -> None:
    class Model:
        @property
        def weights(self) -> Any:
            raise AssertionError

    assert declared_weights(Model(), str(folder / "made.py")) is None


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 1), ("MAX_FILES", 1)])
def test_too_large_weights_have_no_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(weights, limit, value)
    made = described(folder, "w")
    assert made["version"] is None
    assert len(made["files"]) == 2


class Counting:
    """Counts how often a file is hashed, and can wait in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        original = weights._hash

        def hash_it(file: Any) -> str:
            self.count += 1
            self.begun.set()
            assert self.may_end.wait(60)
            return original(file)

        monkeypatch.setattr(weights, "_hash", hash_it)
        monkeypatch.setattr(weights, "_LARGE", 0)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


def test_unchanged_file_is_hashed_once(folder: Path, tmp_path: Path, counting: Counting) -> None:
    first = described(folder, "w/a.bin", cache=str(tmp_path))
    assert described(folder, "w/a.bin", cache=str(tmp_path)) == first
    assert counting.count == 1
    (folder / "w" / "new").write_bytes(b"A")
    (folder / "w" / "new").replace(folder / "w" / "a.bin")
    assert described(folder, "w/a.bin", cache=str(tmp_path))["version"] != first["version"]
    assert counting.count == 2


def test_two_workers_do_not_hash_the_same_file(
    folder: Path, tmp_path: Path, counting: Counting
) -> None:
    counting.may_end.clear()
    made: list[Json] = []
    threads = [
        threading.Thread(
            target=lambda: made.append(described(folder, "w/a.bin", cache=str(tmp_path)))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert counting.begun.wait(60)
    counting.may_end.set()
    for thread in threads:
        thread.join()
    assert made[0] == made[1]
    assert counting.count == 1


def test_file_is_hashed_if_the_other_worker_does_not_end(
    folder: Path, tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_try_lock", lambda entry: False)
    monkeypatch.setattr(weights, "LOCK_SECONDS", 0)
    made = described(folder, "w/a.bin", cache=str(tmp_path))
    assert made["version"] == version(folder, "w/a.bin")


def test_missing_cache_does_not_matter(folder: Path, counting: Counting) -> None:
    made = described(folder, "w/a.bin", cache=str(folder / "nowhere"))
    assert made["version"] == version(folder, "w/a.bin")


def test_log_says_which_long_file_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(weights.logger, "info", lambda text, *values: lines.append(text % values))
    version(folder, "w/a.bin")
    assert lines == []
    monkeypatch.setattr(weights, "_LONG", 0)
    version(folder, "w/a.bin")
    assert lines == ["Reading a.bin (0.0 GB) for the version of the weights"]
