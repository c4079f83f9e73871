"""The engine, the base image, the package and its image, once for all tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import engine
from tests.engines.engine import Podman
from tests.engines.package import write_package

PROGRAM = Path(sys.executable).with_name("deepaas")
SIZES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    reason = engine.reason_to_skip()
    if reason:
        pytest.skip(reason)
    archive = engine.base_archive()
    with engine.podman() as started:
        started.run("import", str(archive), "base", timeout=engine.BUILD_SECONDS)
        yield started


@pytest.fixture(scope="session")
def package(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a package with a model, with a Dockerfile and all wheels."""
    folder = write_package(tmp_path_factory.mktemp("package"))
    (folder / "wheels").mkdir()
    engine.collect_wheels(folder / "wheels")
    subprocess.run([str(PROGRAM), "dockerfile", "--base", "base"], cwd=folder, check=True)
    return folder


def build(podman: Podman, folder: Path, *options: str) -> str:
    """Build an image without an index, as docs/containers.md says; return the output."""
    command = ["build", "--format", "docker", "--build-arg", "PIP_NO_INDEX=1", *options, "."]
    done = podman.run(*command, cwd=folder, timeout=engine.BUILD_SECONDS)
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def image(podman: Podman, package: Path, pytestconfig: pytest.Config) -> str:
    build(podman, package, "--tag", "counting")
    sizes = podman.says(
        "images", "--filter", "dangling=false", "--format", "{{.Repository}} {{.Size}}"
    )
    pytestconfig.stash[SIZES] = sizes.splitlines()
    return "counting"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for size in config.stash.get(SIZES, []):
        terminalreporter.write_line(f"image {size}")
