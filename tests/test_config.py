"""Options: flags, files and defaults."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from oslo_config import types

import deepaas
from deepaas import config
from deepaas.config import describing, settings
from deepaas.exceptions import ConfigurationError
from tests.support import environment


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


WRONG = {
    "--listen-port=70000": "--listen-port must be a whole number from 0 to 65535, and not '70000'",
    "--listen-port=x": "--listen-port must be a whole number from 0 to 65535, and not 'x'",
    "--listen-ip=no address": "--listen-ip must be an IP address or a host name, and not "
    "'no address'",
    "--workers=0": "--workers must be a whole number from 1, and not '0'",
    "--workers=1.5": "--workers must be a whole number from 1, and not '1.5'",
    "--client-max-size=-1": "--client-max-size must be a whole number from 0, and not '-1'",
    "--log-level=LOUD": "--log-level must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, "
    "and not 'LOUD'",
    **{
        f"--metrics-buckets={value}": "--metrics-buckets must be 1 to 50 numbers of seconds "
        f"above 0, such as 0.1,0.5,2, and not '{value[:80]}{'...' if len(value) > 80 else ''}'"
        for value in ("x", "0", "1,nan", "1,-2", "1;2", ",".join(map(str, range(1, 52))))
    },
    "--base-path=/$HOME": "--base-path: $ begins the name of another option; "
    "write $$ for a dollar sign",
    f"--workers={'9' * 200}": f"--workers must be at most 9223372036854775807, "
    f"and not '{'9' * 80}...'",
}


@pytest.mark.parametrize(("flag", "message"), WRONG.items())
def test_wrong_value_of_a_flag_is_refused_with_what_is_expected(flag: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(flag)
    assert str(refused.value) == message


SECONDS = [option for option in config.ALL if isinstance(option.type, config.Seconds)]


def test_every_option_with_a_fraction_is_one_in_seconds() -> None:
    fractions = [option for option in config.ALL if isinstance(option.type, types.Float)]
    assert len(SECONDS) == 16
    assert fractions == SECONDS
    assert [option.name for option in SECONDS if "econds" not in str(option.help)] == []


def give(home: Path, option: Any, value: str, where: str) -> None:
    """Set an option by a flag or in a file."""
    if where == "flag":
        load(f"--{option.name}={value}")
    else:
        from_file(home, f"[DEFAULT]\n{option.dest} = {value}\n")


@pytest.mark.parametrize("value", ["nan", "NaN", "-nan", "inf", "Infinity", "1e300", "1000000001"])
@pytest.mark.parametrize("option", SECONDS, ids=lambda option: option.name)
@pytest.mark.parametrize("where", ["flag", "file"])
def test_time_that_would_never_be_over_is_refused(
    home: Path, option: Any, value: str, where: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        give(home, option, value, where)
    start = f"--{option.name}" if where == "flag" else f"{home}/given.conf:2: {option.dest}"
    wanted = f"a number of seconds from {option.type.min:g}"
    if "nan" not in value.lower():
        wanted = "at most 1000000000"
    assert str(refused.value) == f"{start} must be {wanted}, and not {value!r}"


@pytest.mark.parametrize("option", SECONDS, ids=lambda option: option.name)
@pytest.mark.parametrize("value", ["1", "1.5", "1e3", "1000000000"])
def test_number_of_seconds_is_taken(option: Any, value: str) -> None:
    assert load(f"--{option.name}={value}")[option.dest] == float(value)


NUMBERS = [option for option in config.ALL if isinstance(option.type, types.Number)]


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
@pytest.mark.parametrize("where", ["flag", "file"])
def test_empty_number_is_refused(home: Path, option: Any, where: str) -> None:
    start = f"--{option.name}" if where == "flag" else f"{home}/given.conf:2: {option.dest}"
    with pytest.raises(ConfigurationError, match=f"^{start} is empty, but must be "):
        give(home, option, "", where)


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
@pytest.mark.parametrize("value", [2**63, 10**400])
def test_number_that_is_too_large_is_refused(option: Any, value: int) -> None:
    with pytest.raises(ConfigurationError, match="must be"):
        load(f"--{option.name}={value}")


def test_version_is_printed_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out.split()[-1] == deepaas.__version__


def help_text(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        load("--help")
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_tells_every_option_once_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys)
    positions = []
    for title, options in config.GROUPS.items():
        positions.append(text.index(f"\n{title}:\n"))
        for option in options:
            entry = f"\n  {describing.flags(option)}\n"
            assert text.count(entry) == 1, option.name
            positions.append(text.index(entry))
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    "entry",
    [
        "  --[no]warm\n        Call the model's warm() before it predicts. [default: on]\n",
        "  --workers N, -p\n",
        "  --drain-timeout SECONDS\n",
        "[default: 30 s]",
        "  --worker-max-memory MB\n",
        "  --client-max-text BYTES\n",
        "[default: 4194304 = 4 MiB]",
        "  --config-file FILE\n",
        "  -h, --help\n",
    ],
)
def test_help_shows_defaults_and_units(entry: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry in help_text(capsys)


def test_help_has_no_flag_for_shell_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert "completion" not in help_text(capsys)


@pytest.mark.parametrize("width", ["20", "60", "300"])
def test_help_fits_the_terminal(
    width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    longest = max(len(line) for line in help_text(capsys).splitlines())
    assert longest <= max(60, min(int(width), 100))


# --- files -----------------------------------------------------------------------------------


def test_file_sets_options(home: Path) -> None:
    conf = from_file(home, "[DEFAULT]\nlisten_port = 1234\nwarm = false\nbase_path = /x\n")
    assert (conf.listen_port, conf.warm, conf.base_path) == (1234, False, "/x")


def test_flag_comes_before_the_file(home: Path) -> None:
    assert from_file(home, "[DEFAULT]\nworkers = 2\n", "--workers", "3").workers == 3


def test_unknown_keys_and_groups_are_ignored(home: Path) -> None:
    conf = from_file(home, "[DEFAULT]\nold_option = 1\nworkers = 2\n[other]\na = b\n")
    assert conf.workers == 2


KEYS = {
    "listen-port": "listen-port is not an option and has no effect; did you mean listen_port?",
    "listen_prot": "listen_prot is not an option and has no effect; did you mean listen_port?",
    "Workers": "Workers is not an option and has no effect; did you mean workers?",
    "port": "port is not an option and has no effect; did you mean listen_port?",
    "log_date_format": "log_date_format is not an option and has no effect",
}


@pytest.mark.parametrize(("key", "message"), KEYS.items())
def test_unknown_key_is_a_warning_with_its_line_and_the_nearest_key(
    home: Path, key: str, message: str
) -> None:
    conf = from_file(home, f"# a comment\n[DEFAULT]\n\n{key} = 3\n  4\nworkers = 2\n")
    assert conf.remarks == [f"{home}/given.conf:4: {message}"]


@pytest.mark.parametrize("section", ["other", "default", "deepaas"])
def test_section_that_is_not_read_is_one_warning(home: Path, section: str) -> None:
    conf = from_file(home, f"[{section}]\nworkers = 2\nbase_path = /x\n")
    assert conf.remarks == [
        f"{home}/given.conf:2: section [{section}] is not read; options belong in [DEFAULT]"
    ]


def test_every_key_of_an_option_is_known(home: Path) -> None:
    lines = [f"{option.dest} = {option.default}\n" for option in config.ALL if option.default]
    assert from_file(home, "[DEFAULT]\n" + "".join(lines)).remarks == []


def test_percent_signs_are_no_interpolation(home: Path) -> None:
    text = "[DEFAULT]\n# %(asctime)s\nlogging_format = %(asctime)s %(nope)s\nbase_path = /%(x)s\n"
    assert from_file(home, text).base_path == "/%(x)s"


def test_file_in_the_working_directory_counts_more_than_that_in_the_home(home: Path) -> None:
    (home / "elsewhere").mkdir()
    os.chdir(home / "elsewhere")
    (home / "deepaas.conf").write_text("[DEFAULT]\nworkers = 4\nbase_path = /x\n")
    assert (load().workers, load().files) == (4, [f"{home}/deepaas.conf"])
    Path("deepaas.conf").write_text("[DEFAULT]\nworkers = 5\n")
    assert (load().workers, load().base_path, load().files) == (5, "", ["./deepaas.conf"])


def test_named_file_replaces_those_that_are_found(home: Path) -> None:
    (home / "deepaas.conf").write_text("[DEFAULT]\nworkers = 4\n")
    assert from_file(home, "[DEFAULT]\nbase_path = /x\n").workers == 1


def test_file_in_the_home_is_found(home: Path) -> None:
    (home / ".deepaas").mkdir()
    (home / ".deepaas" / "deepaas.conf").write_text("[DEFAULT]\nworkers = 4\n")
    assert load().workers == 4


def test_files_of_a_directory_are_read(home: Path) -> None:
    (home / "conf.d").mkdir()
    (home / "conf.d" / "a.conf").write_text("[DEFAULT]\nworkers = 4\n")
    assert load("--config-dir", str(home / "conf.d")).workers == 4


FAULTS = {
    "nonsense": "1: expected [section], or key = value, or # comment",
    "[DEFAULT]\n\nnonsense\n": "3: expected [section], or key = value, or # comment",
    "[DEFAULT\n": "1: Invalid section (must end with ])",
    "# top\nworkers = 1\n": "2: write [DEFAULT] in a line above the first key",
    "[DEFAULT]\nworkers = many\n": "2: workers must be a whole number from 1, and not 'many'",
    "[DEFAULT]\nworkers = 1\nworkers = two": "3: workers must be a whole number from 1, "
    "and not 'two'",
    "[DEFAULT]\nwarm = perhaps\n": "2: warm must be true or false, and not 'perhaps'",
    "[DEFAULT]\nstate_dir = $HOME/x\n": "2: state_dir: $ begins the name of another option; "
    "write $$ for a dollar sign",
}


@pytest.mark.parametrize(("text", "message"), FAULTS.items())
def test_fault_in_a_file_is_told_with_its_line(home: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        from_file(home, text)
    assert str(refused.value) == f"{home}/given.conf:{message}"


def test_file_that_cannot_be_read_is_named(home: Path) -> None:
    (home / "binary.conf").write_bytes(b"\xff\xfe")
    (home / "directory.conf").mkdir()
    reasons = {
        "missing.conf": "No such file or directory",
        "binary.conf": "it is not a text file",
        "directory.conf": "Is a directory",
    }
    for name, reason in reasons.items():
        message = f"the configuration file {home / name} cannot be read: {reason}"
        with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
            load("--config-file", str(home / name))


def test_directory_of_files_that_is_missing_is_named(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="--config-dir nowhere is not a directory"):
        load("--config-dir", "nowhere")


def test_value_that_a_flag_replaces_may_be_wrong_in_the_file(home: Path) -> None:
    assert from_file(home, "[DEFAULT]\nworkers = many\n", "--workers", "3").workers == 3


# --- other options ---------------------------------------------------------------------------


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


# --- the typed settings


def test_settings_have_each_option_once() -> None:
    groups = [
        field.type for field in dataclasses.fields(settings.Settings) if field.name != "model"
    ]
    names = [
        field.name
        for group in groups
        for field in dataclasses.fields(getattr(settings, str(group)))
    ]
    assert names == [option.dest for option in config.ALL]


def test_settings_have_the_values_and_types_of_the_options() -> None:
    made = settings.settings_of(load("--listen-port", "5001", "--allow-origins", "a", "model.py"))
    assert (made.server.listen_port, made.server.allow_origins) == (5001, ["a"])
    assert made.model == ["model.py"]
    for group in dataclasses.fields(made):
        if group.name == "model":
            continue
        values = getattr(made, group.name)
        for field in dataclasses.fields(values):
            value = getattr(values, field.name)
            expected = {
                "float": "float int",
                "list[str]": "list",
                "list[float]": "list",
                "bool | None": "bool NoneType",
            }.get(str(field.type))
            assert type(value).__name__ in (expected or str(field.type)), field.name
