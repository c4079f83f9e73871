"""Settings as an operator gives them: their sources, and the messages about mistakes."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import HOST, leased_port, run_program

MODELS = {"demo": "zoo.echo"}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


@dataclass(frozen=True)
class Planted:
    """The arguments, the text of ./deepaas.conf and the variables that contain a mistake."""

    args: str = ""
    file: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    code: int = 1


FATAL = {
    "`--listen-prot 8080`": Planted("--listen-prot 8080", code=2),
    "`--no-warm`": Planted("--no-warm", code=2),
    "`--warm=no`": Planted("--warm=no", code=2),
    "`--workers many`": Planted("--workers many"),
    "`--drain-timeout 5m`": Planted("--drain-timeout 5m"),
    "`--log-level LOUD`": Planted("--log-level LOUD"),
    "`--listen-port` of a port that is taken": Planted("--listen-port PORT"),
    "`--model-name demmo`": Planted("--model-name demmo"),
    "`--state-dir` that is a file": Planted("--state-dir file"),
    "`--upload-dir nowhere`": Planted("--upload-dir nowhere"),
    "`--log-file nowhere/log`": Planted("--log-file nowhere/log"),
    "`--config-file nowhere.conf`": Planted("--config-file nowhere.conf"),
    "`DEEPAAS_WORKERS=many`": Planted(env={"DEEPAAS_WORKERS": "many"}),
    "`workers = many` in deepaas.conf": Planted(file="[DEFAULT]\nworkers = many\n"),
    "`state_dir = file` in deepaas.conf, and it is a file": Planted(
        file="[DEFAULT]\nstate_dir = file\n"
    ),
    "`DEEPAAS_ALLOW_HOSTS=http://a.example`": Planted(
        env={"DEEPAAS_ALLOW_HOSTS": "http://a.example"}
    ),
    "`--trusted-proxies 10.1.2.3/8`": Planted("--trusted-proxies 10.1.2.3/8"),
    "`workers` alone in deepaas.conf": Planted(file="[DEFAULT]\nworkers\n"),
}
"""Mistakes that stop the server; the keys are the first column in docs/configuration.md."""

HARMLESS = {
    "`listen_prot = 8080` in deepaas.conf": Planted(file="[DEFAULT]\nlisten_prot = 8080\n"),
    "`listen-port = 8080` in deepaas.conf": Planted(file="[DEFAULT]\nlisten-port = 8080\n"),
    "`[deepaas]` above the keys in deepaas.conf": Planted(file="[deepaas]\nworkers = 2\n"),
    "`DEEPAAS_LISTEN_PROT=8080`": Planted(env={"DEEPAAS_LISTEN_PROT": "8080"}),
    "`--debug --log-level ERROR`": Planted("--debug --log-level ERROR"),
}
"""Mistakes that only cause a warning."""


def lines() -> dict[str, str]:
    """Return the log lines in docs/configuration.md, by mistake."""
    rows = re.findall(r"^\| (.+?) \| `(.+)` \|$", PAGE.read_text(), re.MULTILINE)
    return dict(rows)


def test_page_of_configuration_has_each_mistake() -> None:
    assert list(lines()) == [*FATAL, *HARMLESS]


@pytest.mark.parametrize(("mistake", "planted"), FATAL.items())
def test_mistake_ends_the_server_with_the_line_of_the_page(
    mistake: str, planted: Planted, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    if planted.file:
        (tmp_path / "deepaas.conf").write_text(planted.file)
    with leased_port() as port, socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, port))
        taken.listen()
        args = ["--listen-port=0", *planted.args.replace("PORT", str(port)).split()]
        finished = run_program(tmp_path, args, models=MODELS, env=planted.env)
    line = lines()[mistake].replace("DIR", str(tmp_path)).replace("PORT", str(port))
    assert (finished.code, finished.stderr) == (planted.code, f"{line}\n")


@pytest.mark.parametrize(("mistake", "planted"), HARMLESS.items())
def test_harmless_mistake_is_the_warning_of_the_page(
    mistake: str, planted: Planted, tmp_path: Path, serve: Serve
) -> None:
    if planted.file:
        (tmp_path / "deepaas.conf").write_text(planted.file)
    server = serve(MODELS, *planted.args.split(), cwd=tmp_path, env=planted.env)
    warnings = [line for line in server.log().splitlines() if " WARNING " in line]
    assert [line[line.index("WARNING") :] for line in warnings] == [lines()[mistake]]


# --- sources of settings


@pytest.mark.parametrize("places", [("flag", "env", "file"), ("env", "file"), ("file",)])
def test_server_takes_an_option_from_the_place_that_counts_most(
    places: tuple[str, ...], tmp_path: Path, serve: Serve
) -> None:
    args = ["--base-path", "/flag"] if "flag" in places else []
    env = {"DEEPAAS_BASE_PATH": "/env"} if "env" in places else {}
    (tmp_path / "deepaas.conf").write_text("[DEFAULT]\nbase_path = /file\n")
    server = serve(MODELS, *args, env=env, cwd=tmp_path)
    answering = [path for path in ("/flag", "/env", "/file") if server.get(path).is_success]
    assert answering == [f"/{places[0]}"]


def test_server_says_which_file_it_has_read(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "deepaas.conf").write_text("[DEFAULT]\nbase_path = /x\n")
    server = serve(MODELS, cwd=tmp_path)
    assert "INFO deepaas Options are read from ./deepaas.conf\n" in server.log()


def test_help_does_not_depend_on_a_file_with_mistakes(tmp_path: Path) -> None:
    (tmp_path / "deepaas.conf").write_text("nonsense\n")
    finished = run_program(tmp_path, ["--help"])
    assert (finished.code, finished.stderr) == (0, "")
    assert finished.stdout.startswith("usage: deepaas-run [OPTION ...] [MODEL ...]\n")
