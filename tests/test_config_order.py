"""Options: mistakes on the command line, and the precedence of flags, variables and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deepaas import config
from deepaas.exceptions import ConfigurationError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a home directory without configuration files."""
    for variable in [name for name in os.environ if name.startswith("DEEPAAS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(*argv: str) -> Any:
    return config.load(argv)


MISSPELT = {
    "--listen-prot": "there is no option --listen-prot; did you mean --listen-port?",
    "--listen-prot=80": "there is no option --listen-prot; did you mean --listen-port?",
    "--listen_port": "there is no option --listen_port; did you mean --listen-port?",
    "--port": "there is no option --port; did you mean --listen-port?",
    "--no-warm": "there is no option --no-warm; did you mean --nowarm?",
    "--shell_completion": "there is no option --shell_completion; "
    "deepaas-run --help lists all options",
    "--nonsense": "there is no option --nonsense; deepaas-run --help lists all options",
    "-x": "there is no option -x; deepaas-run --help lists all options",
    "-debug": "-debug: a long option begins with two dashes: --debug",
    "--warm=yes": "--warm takes no value; write --warm or --nowarm",
    "--nowarm=yes": "--nowarm takes no value; write --warm or --nowarm",
    "--workers": "argument --workers/-p: expected one argument",
    "--client-max-": "ambiguous option: --client-max- could match --client-max-size, "
    "--client-max-decompressed, --client-max-json, --client-max-parts, --client-max-text, "
    "--client-max-line, --client-max-head",
}


@pytest.mark.parametrize(("word", "message"), MISSPELT.items())
def test_mistake_in_a_flag_is_one_line_that_says_what_to_write(
    word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load("demo.py", word)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"deepaas-run: error: {message}\n")


@pytest.mark.parametrize(
    "argv",
    [
        ["a.py", "b.py", "--nowarm"],
        ["a.py", "--nowarm", "b.py"],
        ["--nowarm", "a.py", "b.py"],
        ["--nowarm", "--", "a.py", "b.py"],
    ],
)
def test_models_may_stand_between_flags(argv: list[str]) -> None:
    conf = load(*argv)
    assert (conf.model, conf.warm) == (["a.py", "b.py"], False)


def test_last_of_a_flag_and_its_inverse_counts() -> None:
    assert load("--nowarm", "--warm").warm is True
    assert load("--warm", "--nowarm").warm is False


def test_beginning_of_a_flag_is_enough() -> None:
    assert load("--listen-po", "1").listen_port == 1


# --- precedence ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "variable", "file", "expected"),
    [
        ("1", "2", "3", 1),
        ("1", None, "3", 1),
        ("1", "2", None, 1),
        (None, "2", "3", 2),
        (None, None, "3", 3),
        (None, None, None, 5000),
    ],
)
def test_flag_counts_more_than_environment_more_than_file_more_than_default(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    flag: str | None,
    variable: str | None,
    file: str | None,
    expected: int,
) -> None:
    argv = [] if flag is None else ["--listen-port", flag]
    if variable is not None:
        monkeypatch.setenv("DEEPAAS_LISTEN_PORT", variable)
    if file is not None:
        (home / "deepaas.conf").write_text(f"[DEFAULT]\nlisten_port = {file}\n")
    assert load(*argv).listen_port == expected


def test_flag_counts_more_than_a_file_that_is_named_after_it(home: Path) -> None:
    (home / "given.conf").write_text("[DEFAULT]\nworkers = 2\n")
    assert load("--workers", "3", "--config-file", str(home / "given.conf")).workers == 3


VARIABLES = {
    "DEEPAAS_WORKERS": ("4", "workers", 4),
    "DEEPAAS_WARM": ("no", "warm", False),
    "DEEPAAS_DRAIN_TIMEOUT": ("1.5", "drain_timeout", 1.5),
    "DEEPAAS_LOG_LEVEL": ("debug", "log_level", "debug"),
    "DEEPAAS_ALLOW_HOSTS": ("a.example, b.example:80", "allow_hosts", None),
    "OS_DEFAULT__WORKERS": ("4", "workers", 4),
}


@pytest.mark.parametrize(("variable", "case"), VARIABLES.items())
def test_variable_sets_an_option(
    variable: str, case: tuple[str, str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, option, value = case
    monkeypatch.setenv(variable, text)
    wanted = ["a.example", "b.example:80"] if value is None else value
    assert load()[option] == wanted


def test_variable_of_our_name_counts_more_than_that_of_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OS_DEFAULT__WORKERS", "2")
    monkeypatch.setenv("DEEPAAS_WORKERS", "3")
    assert load().workers == 3


def test_empty_variable_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPAAS_WORKERS", "")
    assert load().workers == 1


def test_wrong_value_of_a_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPAAS_WORKERS", "many")
    message = "^DEEPAAS_WORKERS must be a whole number from 1, and not 'many'$"
    with pytest.raises(ConfigurationError, match=message):
        load()


@pytest.mark.parametrize("name", ["CONFIG_FILE", "CONFIG_DIR"])
def test_variable_names_the_file_of_configuration(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "conf.d").mkdir()
    (home / "conf.d" / "a.conf").write_text("[DEFAULT]\nworkers = 4\n")
    path = home / "conf.d" / ("a.conf" if name == "CONFIG_FILE" else "")
    monkeypatch.setenv(f"DEEPAAS_{name}", str(path))
    conf = load()
    assert (conf.workers, conf.remarks) == (4, [])


def test_misspelt_variable_is_a_warning_and_strange_ones_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEEPAAS_LISTEN_PROT", "1")
    for name in ("DEEPAAS_PORT_5000_TCP", "DEEPAAS_V2_MODEL", "DEEPAAS_WORKER", "DEEPAAS_MINE"):
        monkeypatch.setenv(name, "1")
    assert load().remarks == [
        "the variable DEEPAAS_LISTEN_PROT has no effect; did you mean DEEPAAS_LISTEN_PORT?"
    ]


# --- contradictory options -------------------------------------------------------------------


CONTRADICTIONS = {
    "--debug --log-level=error": "--debug and --log-level ERROR contradict each other; "
    "the level is DEBUG",
    "--nopredict-endpoint --notrain-endpoint": "--nopredict-endpoint and --notrain-endpoint "
    "together leave nothing to call",
    "--train-exclusive --notrain-endpoint": "--train-exclusive has no effect with "
    "--notrain-endpoint",
    "--client-max-size=10 --client-max-json=20": "--client-max-json 20 has no effect, as "
    "--client-max-size 10 is less",
    "--client-max-line=65537": "--client-max-line 65537 has no effect, as --client-max-head "
    "65536 is less",
}


@pytest.mark.parametrize(("argv", "message"), CONTRADICTIONS.items())
def test_options_that_contradict_each_other_are_a_warning(argv: str, message: str) -> None:
    assert load(*argv.split()).remarks == [message]


@pytest.mark.parametrize(
    "argv",
    ["", "--debug", "--debug --log-level=debug", "--client-max-head=0", "--notrain-endpoint"],
)
def test_options_that_agree_are_no_warning(argv: str) -> None:
    assert load(*argv.split()).remarks == []
