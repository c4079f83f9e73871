"""`deepaas dockerfile`: the text, and which packages and files it accepts.

`tests/engines` builds and runs the images.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deepaas.commands.dockerfile import command, dockerfile_for
from tests.commands.test_program import run

PROJECT = """\
[project]
name = "Cell-Counter"

[project.entry-points."deepaas.v2.model"]
cells = "cell_counter.api"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a package."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def refusal(*arguments: str, code: int = 1) -> str:
    """Return the error of a call that must fail without writing a file."""
    before = set(Path().iterdir())
    done = call(*arguments)
    assert done.exit_code == code, done.output
    assert set(Path().iterdir()) == before
    return " ".join(done.output.split())


def test_help_names_the_command() -> None:
    assert "dockerfile  Write a Dockerfile" in run("--help").stdout


def test_folder_gets_a_dockerfile_and_a_list_of_files_to_leave_out(folder: Path) -> None:
    done = call()
    assert done.output == "Wrote Dockerfile\nWrote .dockerignore\n"
    assert (folder / "Dockerfile").read_text() == dockerfile_for("Cell-Counter")
    assert ".git\n" in (folder / ".dockerignore").read_text()


def test_file_stands_in_the_folder_of_the_package(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    assert call(str(folder / "elsewhere" / "..")).exit_code == 0
    assert (folder / "Dockerfile").exists()


def test_existing_files_are_kept(folder: Path) -> None:
    for name in ("Dockerfile", ".dockerignore"):
        (folder / name).write_text("mine")
    assert "Dockerfile exists; overwrite it with --force" in refusal()
    assert (folder / "Dockerfile").read_text() == "mine"
    assert call("--force").output == "Wrote Dockerfile\n"
    assert (folder / "Dockerfile").read_text().startswith("# Serves the models of Cell-Counter")
    assert (folder / ".dockerignore").read_text() == "mine"


def test_text_goes_to_standard_output_and_to_no_file(folder: Path) -> None:
    assert call("--output", "-").output == dockerfile_for("Cell-Counter")
    assert [path.name for path in folder.iterdir()] == ["pyproject.toml"]


def test_directory_that_does_not_exist_is_an_error(folder: Path) -> None:
    assert "cannot be written: No such file or directory" in refusal("--output", "no/Dockerfile")


def test_folder_without_a_package_is_an_error(folder: Path) -> None:
    (folder / "pyproject.toml").unlink()
    assert f"{folder} has no pyproject.toml" in refusal()


def test_package_without_a_model_is_an_error_that_shows_the_lines(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "plain"\n')
    assert '[project.entry-points."deepaas.v2.model"] NAME = "MODULE"' in refusal()
    assert "the distribution click has no model" in refusal("click")


def test_model_may_be_declared_in_the_other_files_of_setuptools(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[build-system]\n")
    (folder / "setup.cfg").write_text("[options.entry_points]\ndeepaas.v2.model =\n  a = a.api\n")
    assert call("--output", "-").exit_code == 0


def test_installed_distribution_is_pinned(folder: Path) -> None:
    text = call("deepaas_digits", "--output", "Containerfile").output
    assert text == "Wrote Containerfile\nWrote .dockerignore\n"
    text = (folder / "Containerfile").read_text()
    assert f"RUN pip install 'deepaas_digits=={version('deepaas_digits')}'\n" in text
    assert "COPY Containerfile wheels* /wheels/\n" in text
    assert "pyproject.toml" not in text


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        ('[tool.uv.sources]\nname = "wrong"\n', ""),
        ('[[tool.a]]\nname = "wrong"\n', 'authors = [\n  {name = "wrong"},\n]\n'),
        ("", 'keywords = [\n  "a",\n]\n# a comment\nversion = "1"\n'),
    ],
)
def test_name_is_that_of_the_project(folder: Path, before: str, inside: str) -> None:
    text = PROJECT.replace("[project]\n", f"{before}[project] # this one\n{inside}")
    (folder / "pyproject.toml").write_text(text)
    assert "models of Cell-Counter with" in call("--output", "-").output


def test_project_without_a_name_is_named_after_its_folder(folder: Path) -> None:
    text = PROJECT.replace('name = "Cell-Counter"\n', "") + '[tool.uv.sources]\nname = "wrong"\n'
    (folder / "pyproject.toml").write_text(text)
    assert f"models of {folder.name} with" in call("--output", "-").output


def test_value_that_would_change_an_instruction_is_an_error(folder: Path) -> None:
    for base in ("own:1\nRUN evil", "own:1 AS a", "", "--platform=x"):
        assert "must be the name of an image" in refusal("--base", base, code=2)
    for file in ("my file", "--from=x", "a\nRUN evil", "*"):
        assert "must be a name with" in refusal("deepaas_digits", f"--output={file}", code=2)
    assert "RUN evil" not in dockerfile_for("a\nRUN evil").splitlines()


def test_unknown_distribution_is_an_error_with_the_nearest_name(folder: Path) -> None:
    assert "did you mean deepaas_digits?" in refusal("deepaas_digit")
    assert "installed models: deepaas_digits, " in refusal("zzz")


def test_python_is_the_running_version_unless_another_is_given(folder: Path) -> None:
    running = f"3.{max(11, sys.version_info.minor)}"
    assert f"ARG BASE=python:{running}-slim\n" in call("--output", "-").output
    assert "ARG BASE=python:3.13.1-slim\n" in call("--output", "-", "--python", "3.13.1").output
    assert "ARG BASE=own:1\n" in call("--output", "-", "--base", "own:1").output


@pytest.mark.parametrize("python", ["3.10", "2.7", "latest", "3.12-alpine"])
def test_version_that_cannot_be_used_is_an_error(folder: Path, python: str) -> None:
    assert "must be a version such as 3.12, from 3.11 on" in refusal("--python", python, code=2)


def test_requirements_are_installed_if_the_folder_has_them(folder: Path) -> None:
    assert "requirements.txt" not in call("--output", "-").output
    (folder / "requirements.txt").write_text("numpy==2.0\n")
    text = call("--output", "-").output
    assert "COPY pyproject.toml requirements.txt wheels* /wheels/\n" in text
    assert "--requirement /wheels/requirements.txt\n" in text


def test_variant_for_gpus_differs_only_in_what_gpus_need() -> None:
    plain = dockerfile_for("model", python="3.12").splitlines()
    gpu = dockerfile_for("model", python="3.12", gpu=True).splitlines()
    added = [line for line in gpu if line not in plain]
    assert any("docker run --rm" in line and "--gpus all" in line for line in added)
    assert "ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility" in added
    assert len(gpu) == len(plain) + 3


def test_user_is_a_number_and_commands_need_no_shell() -> None:
    """Kubernetes can check only a number, and a shell would keep the signal."""
    text = dockerfile_for("model").replace("\\\n", "")
    assert "\nARG UID=1000\n" in text
    assert "\nUSER ${UID}:${UID}\n" in text
    for instruction in ("CMD", "HEALTHCHECK .* CMD"):
        match = re.search(rf"^{instruction} (\[.*\])$", text, re.MULTILINE)
        assert match
        assert all(isinstance(word, str) for word in json.loads(match[1]))


def test_name_of_the_image_is_allowed() -> None:
    assert "docker build --tag my-model-2 ." in dockerfile_for("My_Model.2")
