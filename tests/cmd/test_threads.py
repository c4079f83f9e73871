"""Several workers share the cores: variables limit the threads of the numerical libraries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepaas.cmd import threads
from deepaas.cmd.threads import FOLLOWERS, OMP, OTHERS, check_workers, quota, usable_cores
from deepaas.exceptions import ConfigurationError
from tests.conftest import Serve
from tests.support import Server, predictions
from tests.training.trainings import Trainings

ALL = (OMP, *FOLLOWERS, *OTHERS)
MODELS = {"threads": "zoo.threads"}
NOT_SET = dict.fromkeys((*ALL, "NUMBA_NUM_THREADS"))
"""The environment of a server in which no variable is set."""


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    """A server with two workers, for which an operator has decided about MKL."""
    return serve_all(MODELS, "--workers", "2", env={**NOT_SET, "MKL_NUM_THREADS": "7"})


def seen(server: Server) -> dict[str, str]:
    """Return the variables that a worker has."""
    found: dict[str, str] = predictions(server.predict("threads"))
    return found


def test_workers_share_the_cores_unless_a_variable_is_set(server: Server) -> None:
    share = str(max(1, int(usable_cores() / 2)))
    assert seen(server) == {**dict.fromkeys(ALL, share), "MKL_NUM_THREADS": "7"}


def test_server_says_so_in_one_line(server: Server) -> None:
    (line,) = [line for line in server.log().splitlines() if "--worker-threads" in line]
    assert "2 workers per model" in line
    assert "set before: MKL_NUM_THREADS" in line


def test_trainings_and_asynchronous_predictions_have_all_cores(server: Server) -> None:
    trainings = Trainings(server, "threads")
    uuid = trainings.post().json()["uuid"]
    assert trainings.wait(uuid)["result"]["output"] == {"MKL_NUM_THREADS": "7"}
    began = server.predict("threads", headers={"Prefer": "respond-async"})
    Trainings(server, "threads", "jobs").wait(began.json()["uuid"])
    result = server.get(f"{began.headers['Location']}/result")
    assert predictions(result) == {"MKL_NUM_THREADS": "7"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {}),
        (["--worker-threads", "3"], dict.fromkeys(ALL, "3")),
        (["--workers", "2", "--worker-threads", "0"], {}),
    ],
)
def test_one_worker_has_all_cores_and_an_option_decides(
    serve: Serve, flags: list[str], expected: dict[str, str]
) -> None:
    server = serve(MODELS, *flags, env=NOT_SET)
    assert seen(server) == expected
    assert ("--worker-threads" in server.log()) is bool(expected)


def test_libraries_that_follow_omp_num_threads_go_on_to_do_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(OMP, "4")
    assert threads.worker_variables(-1, 2).keys() == set(OTHERS)


@pytest.mark.parametrize(("workers", "expected"), [(2, "2"), (3, "1"), (8, "1")])
def test_share_is_a_whole_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, workers: int, expected: str
) -> None:
    monkeypatch.delenv(OMP, raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 5.5)
    assert threads.worker_variables(-1, workers)[OMP] == expected


def test_cores_are_those_that_the_process_may_run_on() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(before)])
    try:
        assert usable_cores() <= 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "250000 100000\n"}, 2.5),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000\n"}, 0.5),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/a\n1:name=systemd:/\n0::/\n",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        ("0::/a\udcff\n", {"a\udcff/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {}, None),
        ("what is this\n", {"cpu.max": "many few\n"}, None),
    ],
)
def test_quota_is_that_of_the_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], expected: float | None
) -> None:
    (tmp_path / "cgroup").write_bytes(os.fsencode(groups))
    for name, text in files.items():
        file = tmp_path / "mounted" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert quota(tmp_path / "cgroup", tmp_path / "mounted") == expected


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path / "none", tmp_path) is None


def test_port_that_is_given_as_the_number_of_workers_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """-p is --workers, as in 2.6. Thousands of processes would use up the memory."""
    monkeypatch.setattr(threads, "usable_cores", lambda: 2.0)
    check_workers(64)
    with pytest.raises(ConfigurationError, match=r"8131: at most 64 .* --listen-port"):
        check_workers(8131)
    monkeypatch.setattr(threads, "usable_cores", lambda: 16.0)
    check_workers(256)
