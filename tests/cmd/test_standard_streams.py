"""A server whose standard streams are closed, full or unread still serves."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve, short_and_long
from tests.serving.processes import lives, pids, wait_gone, wait_ready
from tests.support import Server, environment, predictions, program, wait_until
from tests.training.trainings import Trainings

MODELS = {"standard": "zoo.standard"}
FULL = "/dev/full"

redirects = pytest.mark.parametrize(
    "redirect",
    short_and_long(
        [">&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full", "1</dev/null"],
        ["<&-", "2>&-", ">&- 2>&-", ">/dev/full", "<&- >&- 2>/dev/full"],
    ),
)


def check_that_it_serves(server: Server) -> None:
    """Check that it predicts, streams, returns errors and trains, and that it stops normally."""
    assert predictions(server.predict("standard", params={"megabytes": 1})) == "printed"
    assert server.predict("standard", params={"do": "stream"}).text == '"one"\n"two"\n'
    failed = server.predict("standard", params={"do": "fail"})
    assert (failed.status_code, failed.json()["code"]) == (500, "predict_failed")
    trainings = Trainings(server, "standard")
    uuid = trainings.begin()
    assert trainings.wait(uuid)["status"] == "done"
    assert "printed by train" in trainings.log(uuid)
    assert server.stop() == 0


@redirects
def test_it_serves(serve: Serve, redirect: str) -> None:
    check_that_it_serves(serve(MODELS, redirect=redirect))


CLOSED, NO_ROOM = ">&- 2>&-", ">/dev/full 2>/dev/full"
DEBUG, JSON, LOG_FILE = ("--debug-endpoint",), ("--use-json",), ("--log-file", "log")


@pytest.mark.parametrize(
    ("flags", "redirect"),
    short_and_long(
        [(DEBUG, CLOSED), (JSON, NO_ROOM), (LOG_FILE, CLOSED)],
        [(DEBUG, NO_ROOM), (JSON, CLOSED), (LOG_FILE, NO_ROOM)],
    ),
)
def test_it_serves_with_another_log(serve: Serve, redirect: str, flags: tuple[str, ...]) -> None:
    check_that_it_serves(serve(MODELS, *flags, redirect=redirect))


@pytest.mark.parametrize("redirect", [">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_debug_page_has_what_was_printed_all_the_same(serve: Serve, redirect: str) -> None:
    server = serve(MODELS, "--debug-endpoint", redirect=redirect)
    server.predict("standard", params={"do": "fail"})

    def shown() -> bool:
        page = server.get("/v2/debug/").text
        return "printed by predict" in page and "ValueError: failed on purpose" in page

    wait_until(shown, within=5, what="the output on the debug page")


@pytest.mark.parametrize("redirect", short_and_long([">&-", "<&- >&- 2>&-"], ["<&-", "2>&-"]))
def test_no_process_has_a_socket_for_a_standard_stream(serve: Serve, redirect: str) -> None:
    server = serve(MODELS, "--noreload-after-train", redirect=redirect)
    trainings = Trainings(server, "standard")
    uuid = trainings.begin()
    found = trainings.wait(uuid, "done")["result"]["output"]
    trainings.wait_gone(uuid)
    found += predictions(server.predict("standard", params={"do": "descriptors"}))
    found += [links for one in server.processes() if (links := descriptors(one.pid))]
    assert len(found) >= 7  # training, worker, a child of each; the server, its guard, its worker
    for links in found:
        assert len(links) == 3
        assert not any(link.startswith(("socket:", "anon_inode:")) for link in links)


def descriptors(pid: int) -> list[str]:
    """Return the targets of the standard descriptors of a process; empty if it has just exited."""
    try:
        return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]
    except FileNotFoundError:
        if lives(pid):
            raise
        return []


def test_output_that_nobody_reads_fails_no_request(serve: Serve, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    server = serve(MODELS, redirect=f">{fifo} 2>&1")
    os.close(reader)
    check_that_it_serves(server)


# --- the log file


def test_log_file_on_a_full_device_is_told_on_stderr_and_fails_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    stderr = tmp_path / "stderr"
    server = serve(MODELS, "--log-file", FULL, stderr=stderr)
    check_that_it_serves(server)
    said = "deepaas: the log cannot be written: No space left on device: /dev/full\n"
    assert 1 <= stderr.read_text().count(said) <= 2  # by the server, perhaps by its worker


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system on which no file can be created."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=1", "deepaas-test", str(path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system of its own can be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_log_file_that_finds_no_room_fails_nothing(
    serve: Serve, tmp_path: Path, full_disk: Path
) -> None:
    stderr = tmp_path / "stderr"
    log = full_disk / "log"
    check_that_it_serves(serve(MODELS, "--log-file", str(log), stderr=stderr))
    assert not log.exists()
    said = f"deepaas: the log cannot be written: No space left on device: {log}\n"
    assert 1 <= stderr.read_text().count(said) <= 2


def test_worker_is_replaced_although_the_directory_of_the_log_has_gone(
    serve: Serve, tmp_path: Path
) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    server = serve(MODELS, "--log-file", str(directory / "log"))
    directory.rename(tmp_path / "elsewhere")
    (worker,) = pids(server, "standard")
    os.kill(worker, signal.SIGKILL)
    wait_gone([worker])
    wait_ready(server, "standard")
    check_that_it_serves(server)
    assert "Listening on" in (tmp_path / "elsewhere" / "log").read_text()


# --- programs that exit at once


def end_of(directory: Path, redirect: str, *args: str) -> tuple[int, str]:
    """Return the exit code of `deepaas-run`, and its messages where they could be written."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" "$@" {redirect}', str(program()), *args],
        env=environment(directory, extra={}),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


ENDS = [
    (["--version"], 0),
    (["--help"], 0),
    (["--no-such-option"], 2),
    (["--workers", "0"], 1),
    (["no/such/model.py"], 1),
]
HARMED = ["<&- >&- 2>&-", ">&-", "2>&-", ">/dev/full", "2>/dev/full"]


@pytest.mark.parametrize(
    ("args", "code", "redirect"),
    short_and_long(
        [(*end, how) for end, how in itertools.product(ENDS, HARMED) if HARMED[0] == how]
        + [(*end, how) for end, how in itertools.product(ENDS[1:3], HARMED[1:])],
        [(*end, how) for end, how in itertools.product([ENDS[0], *ENDS[3:]], HARMED[1:])],
    ),
)
def test_exit_code_is_the_usual_one(
    tmp_path: Path, redirect: str, args: list[str], code: int
) -> None:
    ended, said = end_of(tmp_path, redirect, *args)
    assert (ended, "Traceback" in said) == (code, False)
