"""Options: flags, files, defaults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg, types

import deepaas
from deepaas import config
from tests.support import environment


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without configuration files, where the tests run."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(*argv: str) -> Any:
    return config.load(argv)


def from_file(home: Path, text: str, *argv: str) -> Any:
    path = home / "given.conf"
    path.write_text(text)
    return load("--config-file", str(path), *argv)


DEFAULTS = {
    "listen_ip": "127.0.0.1",
    "listen_port": 5000,
    "base_path": "",
    "train_endpoint": True,
    "predict_endpoint": True,
    "debug_endpoint": False,
    "doc_endpoint": True,
    "workers": 1,
    "client_max_size": 0,
    "warm": True,
    "debug": False,
    "log_file": "",
    "log_level": "INFO",
    "use_json": False,
    "model": [],
}


@pytest.mark.parametrize(("option", "default"), DEFAULTS.items())
def test_default(option: str, default: object) -> None:
    assert load()[option] == default


@pytest.mark.parametrize(
    ("argv", "option", "value"),
    [
        (["--listen-ip", "0.0.0.0"], "listen_ip", "0.0.0.0"),
        (["--listen-ip=::1"], "listen_ip", "::1"),
        (["--listen-ip", "localhost"], "listen_ip", "localhost"),
        (["--listen-port", "0"], "listen_port", 0),
        (["--base-path", "/x"], "base_path", "/x"),
        (["--notrain-endpoint"], "train_endpoint", False),
        (["--nopredict-endpoint"], "predict_endpoint", False),
        (["--debug-endpoint"], "debug_endpoint", True),
        (["--nodoc-endpoint"], "doc_endpoint", False),
        (["--workers", "3"], "workers", 3),
        (["-p", "3"], "workers", 3),
        (["--client-max-size", "10"], "client_max_size", 10),
        (["--nowarm"], "warm", False),
        (["--model-name", "demo"], "model_name", "demo"),
        (["--debug"], "debug", True),
        (["-d"], "debug", True),
        (["--log-file", "log"], "log_file", "log"),
        (["--log-level", "debug"], "log_level", "debug"),
        (["--use-json"], "use_json", True),
        (["demo.py", "pkg.api:model"], "model", ["demo.py", "pkg.api:model"]),
        (["--warm", "demo.py"], "model", ["demo.py"]),
    ],
)
def test_flag(argv: list[str], option: str, value: object) -> None:
    assert load(*argv)[option] == value


@pytest.mark.parametrize("argv", [["--nonsense"], ["--workers"], ["--warm=yes"]])
def test_bad_flag_ends_the_program(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(*argv)
    assert ended.value.code == 2
    assert argv[0].partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--listen-port", "70000"),
        ("--listen-port", "x"),
        ("--listen-ip", "not an address"),
        ("--workers", "0"),
        ("--client-max-size", "-1"),
        ("--log-level", "LOUD"),
    ],
)
def test_bad_value_ends_the_program(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(f"{flag}={value}")
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert (flag.replace("-", "_").strip("_") in out + err, value in out + err) == (True, True)


SECONDS = [option for option in config.ALL if isinstance(option.type, config.Seconds)]


def test_every_option_with_a_fraction_is_one_in_seconds() -> None:
    fractions = [option for option in config.ALL if isinstance(option.type, types.Float)]
    assert len(SECONDS) == 15
    assert fractions == SECONDS
    assert [option.name for option in SECONDS if "econds" not in str(option.help)] == []


def give(home: Path, option: Any, value: str, where: str) -> None:
    """Give an option its value as a flag, or in a file."""
    if where == "flag":
        load(f"--{option.name}={value}")
    else:
        from_file(home, f"[DEFAULT]\n{option.dest} = {value}\n")


@pytest.mark.parametrize("value", ["nan", "NaN", "-nan", "inf", "Infinity", "1e300", "1000000001"])
@pytest.mark.parametrize("option", SECONDS, ids=lambda option: option.name)
@pytest.mark.parametrize("where", ["flag", "file"])
def test_time_that_would_never_be_over_is_refused(
    home: Path, option: Any, value: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        give(home, option, value, where)
    assert ended.value.code == 1
    least = f"{option.type.min:g}"
    wanted = f"number of seconds (from {least} to 1000000000) value: {value}"
    assert f"--{option.dest}: Invalid {wanted}" in capsys.readouterr().err


@pytest.mark.parametrize("option", SECONDS, ids=lambda option: option.name)
@pytest.mark.parametrize("value", ["1", "1.5", "1e3", "1000000000"])
def test_number_of_seconds_is_taken(option: Any, value: str) -> None:
    assert load(f"--{option.name}={value}")[option.dest] == float(value)


NUMBERS = [option for option in config.ALL if isinstance(option.type, types.Number)]


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
@pytest.mark.parametrize("where", ["flag", "file"])
def test_empty_number_is_refused(home: Path, option: Any, where: str) -> None:
    with pytest.raises(cfg.Error, match=f"--{option.name} is empty, but needs a value: "):
        give(home, option, "", where)


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
@pytest.mark.parametrize("value", [2**63, 10**400])
def test_number_that_is_too_large_is_refused(option: Any, value: int) -> None:
    with pytest.raises((cfg.Error, SystemExit)):
        load(f"--{option.name}={value}")


def test_version_is_printed_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out.split()[-1] == deepaas.__version__


def test_help_tells_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load("--help")
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert [option.name for option in config.ALL if f"--{option.name}" not in out] == []


# --- files -----------------------------------------------------------------------------------


def test_file_sets_options(home: Path) -> None:
    conf = from_file(home, "[DEFAULT]\nlisten_port = 1234\nwarm = false\nbase_path = /x\n")
    assert (conf.listen_port, conf.warm, conf.base_path) == (1234, False, "/x")


def test_flag_comes_before_the_file(home: Path) -> None:
    assert from_file(home, "[DEFAULT]\nworkers = 2\n", "--workers", "3").workers == 3


def test_unknown_keys_and_groups_are_ignored(home: Path) -> None:
    conf = from_file(home, "[DEFAULT]\nold_option = 1\nworkers = 2\n[other]\na = b\n")
    assert conf.workers == 2


def test_percent_signs_are_no_interpolation(home: Path) -> None:
    text = "[DEFAULT]\n# %(asctime)s\nlogging_format = %(asctime)s %(nope)s\nbase_path = /%(x)s\n"
    assert from_file(home, text).base_path == "/%(x)s"


def test_file_in_the_home_is_found(home: Path) -> None:
    (home / ".deepaas").mkdir()
    (home / ".deepaas" / "deepaas.conf").write_text("[DEFAULT]\nworkers = 4\n")
    assert load().workers == 4


def test_files_of_a_directory_are_read(home: Path) -> None:
    (home / "conf.d").mkdir()
    (home / "conf.d" / "a.conf").write_text("[DEFAULT]\nworkers = 4\n")
    assert load("--config-dir", str(home / "conf.d")).workers == 4


@pytest.mark.parametrize("text", ["nonsense", "[DEFAULT\n", "workers = 1\n"])
def test_file_that_cannot_be_read(home: Path, text: str) -> None:
    with pytest.raises(cfg.Error):
        from_file(home, text)


def test_file_that_is_missing(home: Path) -> None:
    with pytest.raises(cfg.Error):
        load("--config-file", str(home / "missing.conf"))


def test_bad_value_in_a_file(home: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        from_file(home, "[DEFAULT]\nworkers = many\n")
    assert ended.value.code == 1


# --- the rest --------------------------------------------------------------------------------


def test_options_of_one_load_are_not_those_of_the_next() -> None:
    load("--workers", "3", "demo.py")
    assert (load().workers, load().model) == (1, [])


def test_every_option_is_declared_once_and_explained() -> None:
    names = [option.name for option in config.ALL]
    assert sorted(names) == sorted(set(names))
    assert [option.name for option in config.ALL if not (option.help or "").endswith(".")] == []


def test_options_are_offered_to_the_sample_generator() -> None:
    assert config.list_opts() == [("DEFAULT", config.ALL)]


@pytest.mark.parametrize(
    ("variable", "argv", "name"),
    [("demo", "", "demo"), (None, "", ""), ("demo", "--model-name=other", "other")],
)
def test_environment_names_the_model(
    home: Path, variable: str | None, argv: str, name: str
) -> None:
    program = f"from deepaas import config; print(config.load({argv.split()!r}).model_name)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(home, extra={"DEEPAAS_V2_MODEL": variable}),
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == (f"{name}\n", "")
