"""Which directories can be state directories, and how a server works without one."""

from __future__ import annotations

import contextlib
import os
import pwd
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepaas import config
from deepaas.cmd.state import state_dir
from deepaas.config.settings import settings_of
from deepaas.jobs.database import FORMS
from tests.conftest import Disk, Serve
from tests.support import predictions, program, run_program
from tests.training.trainings import Site, Trainings

MODELS = {"trains": "zoo.trains"}


def test_a_state_directory_that_was_not_asked_for_is_no_reason_not_to_predict(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    server = serve(MODELS, env={"XDG_STATE_HOME": str(tmp_path / "file")})
    assert predictions(server.predict("trains"))["warmed"] == 1
    answer = Trainings(server).post()
    assert answer.status_code == 507
    assert str(tmp_path / "file") in answer.text
    assert "--state-dir" in answer.text
    assert server.get("/v2/models/trains/train/").status_code == 507
    assert server.predict("trains", headers={"Prefer": "respond-async"}).status_code == 507
    assert "Trainings are not possible" in server.log()
    assert "ERROR" not in server.log()


def test_a_state_directory_that_was_asked_for_has_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = tmp_path / "file/state"
    finished = run_program(tmp_path / "home", ["--state-dir", str(state)], models=MODELS)
    assert finished.code == 1
    assert f"the state directory {state} cannot be used" in finished.output
    assert "Traceback" not in finished.output


def test_one_on_a_disk_that_cannot_be_written_is_refused(disk: Disk, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    args = ["--state-dir", str(disk.path / "state")]
    finished = run_program(tmp_path / "home", args, models=MODELS)
    assert finished.code == 1
    assert "Read-only file system" in finished.output
    assert "Traceback" not in finished.output


@pytest.mark.parametrize("given", [True, False])
def test_records_of_a_newer_form_are_not_touched(serve: Serve, tmp_path: Path, given: bool) -> None:
    state = tmp_path / "deepaas"
    state.mkdir()
    with contextlib.closing(sqlite3.connect(state / "trainings.db")) as db:
        db.execute(f"PRAGMA user_version={len(FORMS) + 1}")
        db.execute("CREATE TABLE unknown (what)")
    if given:
        args = ["--state-dir", str(state)]
        finished = run_program(tmp_path / "home", args, models=MODELS)
        assert finished.code == 1
        assert "was written by a newer version of deepaas" in finished.output
        assert "Traceback" not in finished.output
    else:
        server = serve(MODELS, env={"XDG_STATE_HOME": str(tmp_path)})
        assert predictions(server.predict("trains"))["warmed"] == 1
        answer = Trainings(server).post()
        assert answer.status_code == 507
        assert "newer version" in answer.text
    with contextlib.closing(sqlite3.connect(state / "trainings.db")) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("unknown",)]


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trainings.db").write_text("not a database" * 1000)
    args = ["--state-dir", str(tmp_path)]
    finished = run_program(tmp_path / "home", args, models=MODELS)
    assert finished.code == 1
    assert "not a database" in finished.output
    assert "Traceback" not in finished.output


@pytest.fixture
def careless() -> Iterator[None]:
    """Set a umask that lets all users read and write new files."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_nothing_in_a_state_directory_is_open_to_others(site: Site, careless: None) -> None:
    site.state = site.state / "a" / "b"
    args = ("--allow-callbacks", "127.0.0.1", "--train-result-size", "1000")
    trainings = site.serve(*args)
    form = {"data": ("a", bytes(3_000_000))}
    upload = trainings.server.post(trainings.path, params={"do": "report", "size": "9"}, files=form)
    job = trainings.server.predict("trains", headers={"Prefer": "respond-async"}).json()["uuid"]
    for uuid in (upload.json()["uuid"], trainings.begin(do="large", size=2000)):
        assert trainings.wait(uuid)["status"] == "done"
    Trainings(trainings.server, segment="jobs").wait(job)
    large = trainings.server.post(trainings.path, json={"text": "x" * 3_000_000})
    assert trainings.wait(large.json()["uuid"])["status"] == "done"
    made = {path.relative_to(site.state).parts[-1] for path in site.state.rglob("*")}
    assert made >= {
        *("trainings.db", "trainings.db-wal", "trainings.db-shm", "callback.secret"),
        *("servers", "reserve", "work", "lock", "call", "arguments", "supervisor.log", "log"),
        *("uploads", "artifacts", "reports.jsonl", "result", "output.json"),
    }
    paths = [site.state, *site.state.rglob("*")]
    assert [str(path) for path in paths if path.stat().st_mode & 0o077] == []


def test_one_that_is_open_to_others_is_made_private(site: Site) -> None:
    site.state.mkdir()
    site.state.chmod(0o755)
    site.serve()
    assert site.state.stat().st_mode & 0o777 == 0o700


def test_a_relative_state_directory_is_that_of_the_working_directory(
    site: Site, tmp_path: Path
) -> None:
    site.state = tmp_path / "kept"
    trainings = site.serve(args=["--state-dir", "kept"], cwd=tmp_path)
    trainings.wait(trainings.begin())
    assert os.path.exists(tmp_path / "kept/trainings.db")


# --- users without a home --------------------------------------------------------------------

UNKNOWN_USER = "123456"


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A program that runs deepaas-run as a user id without an account.

    The process keeps root's read access, so that it finds Python.
    """
    powers = "+dac_override,+dac_read_search"
    command = f"setpriv --reuid {UNKNOWN_USER} --clear-groups --inh-caps={powers} "
    command += f"--ambient-caps={powers}"
    tried = subprocess.run([*command.split(), "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this user cannot run programs as another: {tried.stderr.strip()}")
    for name, prefix in (("deepaas-run", command), ("python", "")):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\nexec {prefix} "{program().with_name(name)}" "$@"\n')
        script.chmod(0o755)
    return tmp_path / "deepaas-run"


@pytest.mark.parametrize("home", [None, "", "relative", "~"])
def test_a_user_without_a_home_is_served_and_told_to_give_a_state_directory(
    serve: Serve, stranger: Path, home: str | None, tmp_path: Path
) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    server = serve(MODELS, executable=stranger, env={"HOME": home}, cwd=cwd)
    assert predictions(server.predict("trains"))["warmed"] == 1
    for answer in (
        Trainings(server).post(),
        server.get("/v2/models/trains/train/"),
        server.predict("trains", headers={"Prefer": "respond-async"}),
    ):
        assert answer.status_code == 507
        assert "no home directory" in answer.text
        assert "--state-dir" in answer.text
    assert list(cwd.rglob("deepaas")) == []  # no state directory in a directory called ~
    assert "ERROR" not in server.log()


def test_a_user_without_a_home_can_give_a_state_directory(
    serve: Serve, stranger: Path, tmp_path: Path
) -> None:
    args = ("--state-dir", str(tmp_path / "state"), "--allow-callbacks", "127.0.0.1")
    server = serve(MODELS, *args, executable=stranger, env={"HOME": None})
    answer = server.predict("trains", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    record = Trainings(server, segment="jobs").wait(answer.json()["uuid"])
    assert record["status"] == "done"


def test_weights_without_a_home_are_an_error_that_names_the_options(
    serve: Serve, stranger: Path, tmp_path: Path
) -> None:
    models = {"asks": "zoo.asks_for_weights"}
    server = serve(models, executable=stranger, env={"HOME": None})
    answer = server.predict("asks")
    assert answer.status_code == 500
    assert "no directory for trained weights" in answer.json()["message"]
    assert "--weights-dir or --state-dir" in answer.json()["message"]
    (tmp_path / "weights").mkdir(mode=0o777)
    args = ("--weights-dir", str(tmp_path / "weights"))
    given = serve(models, *args, executable=stranger, env={"HOME": None})
    assert predictions(given.predict("asks")).startswith(str(tmp_path / "weights"))


def test_callbacks_are_no_reason_not_to_serve_a_user_without_a_home(
    serve: Serve, stranger: Path
) -> None:
    args = ("--allow-callbacks", "127.0.0.1")
    server = serve(MODELS, *args, executable=stranger, env={"HOME": None})
    assert predictions(server.predict("trains"))["warmed"] == 1
    headers = {"Callback-URL": "http://127.0.0.1:1/"}
    assert server.post("/v2/models/trains/train/", headers=headers).status_code == 507


@pytest.mark.parametrize(
    ("home", "state"),
    [("/h", ""), ("/h", "relative"), ("/h", "~/state"), ("", "/s"), ("relative", "/s")],
)
def test_what_is_no_absolute_path_is_not_where_the_state_directory_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str, state: str
) -> None:
    """The XDG specification says the same of its variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("XDG_STATE_HOME", state)
    expected = Path("/s/deepaas") if state == "/s" else Path("/h/.local/state/deepaas")
    assert state_dir(settings_of(config.load([])).trainings) == expected


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_home_of_the_list_of_users_is_taken_where_the_environment_has_none(
    monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    mine = pwd.getpwuid(os.getuid()).pw_dir
    assert state_dir(settings_of(config.load([])).trainings) == Path(mine, ".local/state/deepaas")


def test_a_home_that_cannot_be_written_is_no_reason_not_to_predict(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("")
    server = serve(MODELS, env={"HOME": str(tmp_path / "home")})
    assert predictions(server.predict("trains"))["warmed"] == 1
    answer = Trainings(server).post()
    assert answer.status_code == 507
    assert "--state-dir" in answer.text
