"""All processes of a model use the same directory for trained weights, and no other model does."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest

from deepaas.cmd.state import MAX_NAME, directory_name
from deepaas.model.loading import ModelSource
from deepaas.training import weights_directory
from tests.conftest import Disk, Serve
from tests.support import Server, predictions, wait_until
from tests.training.trainings import Site, Trainings

MODELS = {"keeps": "zoo.keeps_weights"}
NAME = "keeps@zoo.keeps_weights"


def predicted(server: Server, model: str = "keeps") -> str:
    word: str = predictions(server.predict(model))["word"]
    return word


def train(server: Server, word: str, model: str = "keeps") -> str:
    """Train the model until it predicts the word; return the directory that `train` received."""
    trainings = Trainings(server, model)
    record = trainings.wait(trainings.begin(word=word))
    assert record["status"] == "done", record
    wait_until(lambda: predicted(server, model) == word, within=30, what="the new weights")
    directory: str = record["result"]["output"]["directory"]
    return directory


def test_it_is_the_same_for_training_and_prediction(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, "--state-dir", str(tmp_path / "state"))
    assert predicted(server) == "untrained"
    directory = train(server, "hello")
    assert directory == str(tmp_path / "state/weights" / NAME)
    assert predictions(server.predict("keeps"))["directory"] == directory
    job = server.predict("keeps", headers={"Prefer": "respond-async"})
    record = Trainings(server, "keeps", "jobs").wait(job.json()["uuid"])
    assert record["result"]["output"]["predictions"]["directory"] == directory


def test_it_is_private_to_the_user(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, "--weights-dir", str(tmp_path / "weights"))
    predicted(server)
    mode = (tmp_path / "weights" / NAME).stat().st_mode
    assert stat.S_IMODE(mode) == 0o700


def test_weights_survive_a_restart_and_a_reinstallation_elsewhere(site: Site) -> None:
    """Each test server has its packages in a separate directory."""
    site.models = MODELS
    site.reloads = True
    first = site.serve().server
    train(first, "hello")
    first.stop()
    second = site.serve().server
    assert second.home != first.home
    assert predicted(second) == "hello"


def test_models_of_one_name_from_different_files_have_different_weights(
    site: Site, tmp_path: Path
) -> None:
    site.models = {}
    site.reloads = True
    words = {}
    for folder in ("a", "b"):
        file = tmp_path / folder / "model.py"
        file.parent.mkdir()
        file.write_text("from zoo.keeps_weights import *")
        server = site.serve("--state-dir", str(site.state), str(file)).server
        assert predicted(server, "model") == "untrained"
        train(server, folder, "model")
        words[folder] = predicted(server, "model")
        server.stop()
    assert words == {"a": "a", "b": "b"}
    assert len(list((site.state / "weights").iterdir())) == 2


@pytest.mark.parametrize("how", ["flag", "file"])
def test_an_option_chooses_where_it_is(serve: Serve, tmp_path: Path, how: str) -> None:
    chosen = tmp_path / "chosen"
    args = ("--weights-dir", str(chosen)) if how == "flag" else ()
    config = f"[DEFAULT]\nweights_dir = {chosen}\n" if how == "file" else None
    server = serve(MODELS, *args, config=config)
    assert train(server, "hello") == str(chosen / NAME)


def test_relative_option_is_a_directory_below_the_working_directory(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(MODELS, "--weights-dir", "chosen", cwd=tmp_path)
    assert predictions(server.predict("keeps"))["directory"] == str(tmp_path / "chosen" / NAME)


def test_directory_of_a_parent_process_is_not_inherited(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, env={"DEEPAAS_MODEL_WEIGHTS": str(tmp_path / "another")})
    assert predictions(server.predict("keeps"))["directory"] != str(tmp_path / "another")


def test_model_predicts_where_it_cannot_be_made_and_training_says_why(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    weights = tmp_path / "file" / "weights"
    server = serve(
        MODELS, "--weights-dir", str(weights), "--state-dir", str(tmp_path), "--notrain-warm"
    )
    assert predicted(server) == "untrained"
    trainings = Trainings(server, "keeps")
    record = trainings.wait(trainings.begin(word="hello"))
    assert record["status"] == "error"
    assert "Not a directory" in record["message"]
    assert str(weights) in record["message"]


def test_weights_on_a_disk_that_cannot_be_written_are_read(
    serve: Serve, disk: Disk, tmp_path: Path
) -> None:
    server = serve(MODELS, "--weights-dir", str(disk.path), "--state-dir", str(tmp_path / "state"))
    train(server, "hello")
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    again = serve(MODELS, "--weights-dir", str(disk.path), "--state-dir", str(tmp_path / "state"))
    assert predicted(again) == "hello"


# --- in a script ------------------------------------------------------------------------------


def test_script_is_told_to_set_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPAAS_MODEL_WEIGHTS", raising=False)
    with pytest.raises(RuntimeError, match=r"DEEPAAS_MODEL_WEIGHTS is not set.* in a script"):
        weights_directory()


def test_script_chooses_it_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPAAS_MODEL_WEIGHTS", str(tmp_path / "mine"))
    assert weights_directory() == tmp_path / "mine"
    assert (tmp_path / "mine").is_dir()


# --- its name ---------------------------------------------------------------------------------

INSTALLED = "pytest"
"""A package that is installed wherever the tests run."""


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("digits", INSTALLED),
        ("digits", f"{INSTALLED}:Model"),
        ("a b", INSTALLED),
        ("..", INSTALLED),
        (".hidden", INSTALLED),
        ("../../etc/passwd", INSTALLED),
        ("-rf", INSTALLED),
        ("", INSTALLED),
        ("ä" * 300, INSTALLED),
        ("x" * 5000, INSTALLED),
        ("new\nline", INSTALLED),
        ("\udcff", INSTALLED),
        ("null\0", INSTALLED),
        ("digits", "no/such/file.py"),
        ("digits", "no.such.module:Model"),
        ("digits", ":"),
    ],
)
def test_name_is_safe_and_bounded(name: str, target: str) -> None:
    made = directory_name(ModelSource(name, target, "/folder"))
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._@-]*", made)
    assert len(made) <= MAX_NAME + 13


def test_name_of_an_installed_model_can_be_read() -> None:
    assert directory_name(ModelSource("digits", INSTALLED)) == f"digits@{INSTALLED}"


def test_name_of_an_installed_model_does_not_depend_on_the_folder() -> None:
    names = {directory_name(ModelSource("m", INSTALLED, folder)) for folder in ("", "/a", "/b")}
    assert len(names) == 1


SOURCES = [
    ModelSource("model", "model.py", "/a"),
    ModelSource("other", "model.py", "/a"),
    ModelSource("model", "model.py", "/b"),
    ModelSource("model", "model.py:Model", "/a"),
    ModelSource("model", "model", "/a"),
    ModelSource("model", "model", "/b"),
    ModelSource("model", INSTALLED),
    ModelSource("x" * 300 + "1", INSTALLED),
    ModelSource("x" * 300 + "2", INSTALLED),
    ModelSource("a_b", INSTALLED),
    ModelSource("a/b", INSTALLED),
    ModelSource("a:b", INSTALLED),
]


def test_each_model_has_another_name() -> None:
    assert len(set(map(directory_name, SOURCES))) == len(SOURCES)


def test_name_of_a_file_does_not_depend_on_how_its_path_is_written() -> None:
    ways = [
        ("model.py", "/a"),
        ("/a/model.py", "/b"),
        ("../a/model.py", "/b"),
        ("./model.py", "/a"),
    ]
    assert len({directory_name(ModelSource("model", *way)) for way in ways}) == 1
