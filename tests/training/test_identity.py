"""Process identities, locks, and the processes that belong to a training."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deepaas import processes as processes_module
from deepaas.jobs import identity
from deepaas.jobs.identity import (
    descendants,
    is_alive,
    is_locked,
    locked,
    pid_of,
    send_signal,
)
from deepaas.processes import is_starting, kill_marked
from tests.support import wait_until

END_SECONDS = 30.0
MARK = "DEEPAAS_TEST_MARK"


class Process:
    """A process that runs Python code, prints a line, and then waits for a byte on stdin."""

    def __init__(self, code: str, env: Mapping[str, str]) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", f"import sys\n{code}\nsys.stdin.read(1)"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **env},
        )
        self.pid = self._popen.pid
        self.said: list[str] = []
        self.identity = ""

    def listen(self) -> None:
        """Read the line that the process prints, and look up its identity."""
        assert self._popen.stdout is not None
        self.said = self._popen.stdout.readline().decode().split()
        self.identity = identity.identity(self.pid)

    def wait(self) -> int:
        """Return the exit code."""
        return self._popen.wait(END_SECONDS)

    def finish(self) -> int:
        """Let the process exit; return its exit code, which is not 0 if it was killed before."""
        with contextlib.suppress(BrokenPipeError):
            self._popen.communicate(b"x", END_SECONDS)
        return self.wait()

    def become_zombie(self) -> None:
        self._popen.kill()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.communicate()


class Processes:
    """Starts processes, which are killed at the end of the test."""

    def __init__(self, ends: contextlib.ExitStack) -> None:
        self._ends = ends

    def start(self, code: str = "print(flush=True)", **env: str) -> Process:
        process = Process(code, env)
        self._ends.callback(process.kill)
        process.listen()
        return process


@pytest.fixture
def processes() -> Iterator[Processes]:
    with contextlib.ExitStack() as ends:
        yield Processes(ends)


# --- identities ------------------------------------------------------------------------------


def test_identity_stays_the_same_and_has_the_pid(processes: Processes) -> None:
    process = processes.start()
    assert process.identity == identity.identity(process.pid)
    assert process.identity.startswith(f"{process.pid}:")
    assert pid_of(process.identity) == process.pid
    assert is_alive(process.identity)


def test_there_is_no_identity_of_a_process_that_has_ended(processes: Processes) -> None:
    process = processes.start()
    assert process.finish() == 0
    assert identity.identity(process.pid) == ""
    assert not is_alive(process.identity)


def test_empty_identity_is_of_nobody() -> None:
    assert pid_of("") == 0
    assert not is_alive("")
    assert not send_signal("", signal.SIGKILL)


def test_zombie_is_not_alive(processes: Processes) -> None:
    process = processes.start()
    process.become_zombie()
    assert not is_alive(process.identity)
    assert not send_signal(process.identity, signal.SIGKILL)


@pytest.mark.parametrize("name", [b"a) b (c", b"\xff\xc3", b"1 2 3 4", b") R 1 1 1"])
def test_name_of_a_process_may_be_anything(processes: Processes, name: bytes) -> None:
    process = processes.start(
        f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0); print(flush=True)"
    )
    with open(f"/proc/{process.pid}/stat", "rb") as file:
        assert name in file.read()
    other = identity.identity(os.getpid())
    assert int(process.identity.partition(":")[2]) >= int(other.partition(":")[2])
    assert is_alive(process.identity)
    assert process.pid in descendants(os.getpid())


# --- signals ---------------------------------------------------------------------------------


def test_signal_is_sent_to_the_process(processes: Processes) -> None:
    process = processes.start()
    assert send_signal(process.identity, signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM


def test_signal_is_not_sent_to_another_process_of_that_pid(processes: Processes) -> None:
    process = processes.start()
    assert not send_signal(f"{process.pid}:1", signal.SIGKILL)
    assert not send_signal(f"{process.pid}:", signal.SIGKILL)
    assert process.finish() == 0


def test_signal_is_not_sent_to_a_process_that_has_ended(processes: Processes) -> None:
    process = processes.start()
    process.finish()
    assert not send_signal(process.identity, signal.SIGKILL)


def test_sending_a_signal_leaves_nothing_open(processes: Processes) -> None:
    process = processes.start()
    before = os.listdir("/proc/self/fd")
    send_signal(f"{process.pid}:1", signal.SIGTERM)
    send_signal(process.identity, signal.SIGTERM)
    assert os.listdir("/proc/self/fd") == before


# --- descendants -----------------------------------------------------------------------------

FAMILY = """
import os, time
def fork():
    pid = os.fork()
    if pid == 0:
        os.setsid()
    return pid
child = fork()
if not child:
    grandchild = fork()
    print(os.getppid(), os.getpid(), grandchild or os.getpid(), flush=True) if grandchild else None
    time.sleep(60)
"""


def test_descendants_are_found_in_sessions_of_their_own_too(processes: Processes) -> None:
    process = processes.start(FAMILY)
    parent, *others = map(int, process.said)
    try:
        assert parent == process.pid
        assert sorted(descendants(process.pid)) == sorted(others)
        assert descendants(others[0]) == [others[1]]
        assert descendants(others[1]) == []
        assert {process.pid, *others} <= set(descendants(os.getpid()))
    finally:
        for pid in others[::-1]:
            os.kill(pid, signal.SIGKILL)


def test_zombie_is_no_descendant(processes: Processes) -> None:
    process = processes.start()
    assert process.pid in descendants(os.getpid())
    process.become_zombie()
    assert process.pid not in descendants(os.getpid())


# --- locks -----------------------------------------------------------------------------------

HOLD = """
import fcntl, os
fd = os.open({path!r}, os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
print(flush=True)
"""


def test_lock_is_held_while_the_block_runs(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    mask = os.umask(0)
    try:
        with locked(path) as is_held:
            assert is_held
            assert is_locked(path)
    finally:
        os.umask(mask)
    assert not is_locked(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_lock_is_given_up_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    assert not is_locked(tmp_path / "lock")


def test_lock_of_another_process_is_not_had(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "LOCK_SECONDS", 0.05)
    path = tmp_path / "lock"
    processes.start(HOLD.format(path=str(path)))
    with locked(path) as is_held:
        assert not is_held
    assert is_locked(path)


def test_lock_of_a_process_that_was_killed_is_free(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = processes.start(HOLD.format(path=str(path)))
    assert is_locked(path)
    process.kill()
    assert not is_locked(path)
    with locked(path) as is_held:
        assert is_held


def test_lock_is_waited_for_while_somebody_looks_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    with path.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda _: other.close())
        with locked(path) as is_held:
            assert is_held
    assert other.closed


def test_looking_at_a_lock_does_not_take_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    before = os.listdir("/proc/self/fd")
    assert not is_locked(path)
    assert not is_locked(path)
    with locked(path) as is_held:
        assert is_held
    assert os.listdir("/proc/self/fd") == before


def test_lock_that_is_not_there_is_held_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not is_locked(tmp_path / "absent")
    assert not is_locked(tmp_path / "absent" / "lock")
    assert not is_locked(tmp_path / "file" / "lock")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_lock_counts_as_held_when_nothing_can_be_opened(tmp_path: Path) -> None:
    """A failed open must not make a live process look dead, since dead ones are reaped."""
    path = tmp_path / "lock"
    path.touch()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        is_held = is_locked(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert is_held


def test_two_processes_never_hold_a_lock_at_once(processes: Processes, tmp_path: Path) -> None:
    """Each process increments a number a hundred times by reading and writing a file."""
    number = tmp_path / "number"
    number.write_text("0")
    package = str(Path(identity.__file__).parents[2])
    code = f"""
sys.path.insert(0, {package!r})
from pathlib import Path
from deepaas.jobs.identity import locked
number = Path({str(number)!r})
print(flush=True)
count = 0
while count < 100:
    with locked(Path({str(tmp_path / "lock")!r})) as is_held:
        if is_held:
            number.write_text(str(int(number.read_text()) + 1))
            count += 1
"""
    both = [processes.start(code), processes.start(code)]
    assert [process.finish() for process in both] == [0, 0]
    assert number.read_text() == "200"


# --- marks -----------------------------------------------------------------------------------


def test_all_that_are_marked_are_killed(processes: Processes) -> None:
    value = f"{os.getpid()}-a"
    marked = [processes.start(**{MARK: value}) for _ in range(3)]
    kill_marked(f"{MARK}={value}\0")
    assert [process.wait() for process in marked] == [-signal.SIGKILL] * 3


def test_child_in_a_session_of_its_own_is_killed_with_its_parent(processes: Processes) -> None:
    value = f"{os.getpid()}-b"
    process = processes.start(FAMILY, **{MARK: value})
    _, child, grandchild = map(int, process.said)
    handles = [os.pidfd_open(pid) for pid in (child, grandchild)]
    kill_marked(f"{MARK}={value}\0")
    assert process.wait() == -signal.SIGKILL
    for handle in handles:
        with open(handle, "rb"):
            assert is_readable(handle)  # readable as soon as the process has exited


def is_readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], END_SECONDS)[0])


@pytest.mark.parametrize(
    ("name", "end"), [(MARK, "-c2"), (MARK, ""), (f"X{MARK}", "-c"), (f"{MARK}X", "-c")]
)
def test_who_has_another_mark_lives_on(processes: Processes, name: str, end: str) -> None:
    value = str(os.getpid())
    process = processes.start(**{name: f"{value}{end}"})
    kill_marked(f"{MARK}={value}-c\0")
    assert process.finish() == 0


def test_process_whose_environment_is_not_set_up_yet_is_killed(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel sets the environment up after the parent knows that the program runs."""
    value = f"{os.getpid()}-d"
    process = processes.start(**{MARK: value})
    environment = processes_module._environment
    reads: list[int] = []

    def not_yet(pid: int) -> bytes:
        found = environment(pid)
        if value.encode() in found and len(reads) < 3:
            reads.append(pid)
            return b"\0"
        return found

    monkeypatch.setattr(processes_module, "_environment", not_yet)
    monkeypatch.setattr(processes_module, "is_starting", lambda pid: pid in reads)
    kill_marked(f"{MARK}={value}\0")
    assert process.wait() == -signal.SIGKILL


def test_process_with_an_empty_environment_is_not_waited_for() -> None:
    with subprocess.Popen(
        ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
    ) as cat:
        assert cat.stdin is not None
        assert cat.stdout is not None
        cat.stdin.write(b"it runs\n")
        cat.stdin.flush()
        assert cat.stdout.readline() == b"it runs\n"
        assert Path(f"/proc/{cat.pid}/environ").read_bytes() == b""
        assert not is_starting(cat.pid)
    assert not any(map(is_starting, (2, os.getpid())))  # the first is a thread of the kernel


def test_killing_nobody_is_no_harm() -> None:
    assert kill_marked(f"{MARK}={os.getpid()}-nobody\0") == set()


def test_lock_of_a_file_that_was_removed_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server must not hold the lock of a file that other servers cannot find."""
    monkeypatch.setattr(identity, "LOCK_SECONDS", END_SECONDS)
    path = tmp_path / "lock"
    begun, released = threading.Event(), threading.Event()

    def take() -> bool:
        begun.set()
        with locked(path) as is_held:
            released.wait(10)
            return is_held and is_locked(path)

    with ThreadPoolExecutor(1) as threads:
        with locked(path):
            taking = threads.submit(take)
            begun.wait(10)
            wait_until(lambda: opened(path) == 2, within=10, what="a thread that waits")
            path.unlink()
        wait_until(path.exists, within=10, what="the lock of the thread")
        released.set()
        assert taking.result(10)


def opened(path: Path) -> int:
    """Return the number of descriptors of a file in this process."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing is closed already
            count += os.readlink(f"/proc/self/fd/{fd}") == str(path)
    return count
