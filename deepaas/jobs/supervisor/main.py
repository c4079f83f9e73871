"""The keeper of one training: starts it, writes down what it prints and how it ends.

It is a process of its own, in a session of its own, so it outlives a server that is killed, and the
model's code never runs in it. Orphans of the training become its children (it is their subreaper):
none of them is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deepaas.exceptions import StorageError
from deepaas.jobs import identity
from deepaas.jobs.backoff import Backoff
from deepaas.jobs.commands import CANCEL_SIGNAL, command
from deepaas.jobs.logs import LogWriter
from deepaas.jobs.spec import ID, JobDirectory, JobSpec
from deepaas.jobs.store import CANCELLED, Ending, Store
from deepaas.processes import signal_name
from deepaas.training.reports import DIRECTORY, REPORTS, REPORTS_SIZE, last_report

READ_SIZE = 64 * 1024
LOOK_SECONDS = 1.0
"""How often it is looked whether the training is still wanted."""

KILL_SECONDS = 0.1
PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> None:
    """Keep the training of a plan, given as JSON, with its record in a state directory."""
    state, spec = Path(argv[0]), JobSpec.from_json(argv[1])
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    place = JobDirectory.of(state, spec.uuid)
    with identity.locked(place.lock) as alone:
        if alone:
            with contextlib.closing(Store(state)) as store:
                JobSupervisor(state, store, place, spec).run()
            os._exit(0)  # so that the lock is held for as long as the process is there


class JobSupervisor:
    def __init__(self, state: Path, store: Store, place: JobDirectory, spec: JobSpec) -> None:
        self._state = state
        self._store = store
        self._place = place
        self._spec = spec
        self._log = LogWriter(place.log, spec.limits.log_size)
        self._selector = selectors.DefaultSelector()
        self._process: subprocess.Popen[bytes] | None = None
        self._output = -1
        self._report = -1
        self._received = b""
        self._ending: Ending | None = None  # once the work has ended
        self._stopping = ""  # why everything is to end
        self._kill_at = 0.0
        self._exit_by = 0.0
        self._has_leftover_processes = False
        self._look_at = 0.0
        self._unsaved: list[Callable[[], object]] = []  # what the store could not take
        self._backoff = Backoff()  # there is no last attempt: an end must not get lost
        self._began = 0.0
        self._called_at = 0.0  # when the function of the model was called; 0 if it was not
        self._complaint = ""  # the last of the store
        self._told = ""  # by a signal, and not yet done

    def run(self) -> None:
        """Claim the training, and keep it to its end."""
        self._listen_to_signals()
        self._began = time.monotonic()
        record = self._store.claim(self._spec.uuid, identity.identity(os.getpid()))
        if record is None:  # it has been cancelled, or another keeper has it
            return
        try:
            self._start()
        except OSError as error:
            self._end(Ending("error", f"the training could not be started: {error}"))
        while not self._is_over():
            for key, _ in self._selector.select(self._pause()):
                key.data()
            self._reap()
            self._act()
        self._reap()  # nothing is to be left for others, not even the dead
        self._log.close()

    # --- what happens

    def _listen_to_signals(self) -> None:
        """Have SIGCHLD and SIGTERM wake the loop."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._be_told("was told to stop by SIGTERM"))
        signal.signal(CANCEL_SIGNAL, lambda *_: self._be_told(CANCELLED))

        def empty() -> None:
            os.read(reading, READ_SIZE)

        self._selector.register(reading, selectors.EVENT_READ, empty)

    def _start(self) -> None:
        self._output, output = os.pipe()
        self._report, report = os.pipe()
        try:
            self._process = subprocess.Popen(
                command(
                    "child",
                    *(str(report), str(os.getpid()), str(self._place.directory)),
                    self._spec.to_json(),
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[report],
                env=os.environ | self._spec.variables | self._variables(),
                start_new_session=True,
            )
        finally:
            os.close(output)
            os.close(report)
        for fd, read in ((self._output, self._read_output), (self._report, self._read_report)):
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ, read)
        pid = self._process.pid
        self._save(lambda: self._store.working(self._spec.uuid, pid))

    def _variables(self) -> dict[str, str]:
        return {
            ID: self._spec.uuid,
            DIRECTORY: str(self._place.artifacts),
            REPORTS: str(self._place.reports),
            REPORTS_SIZE: str(self._spec.limits.reports_size),
        }

    def _read_output(self) -> None:
        for _ in range(64):  # then the other sources have their turn
            try:
                data = os.read(self._output, READ_SIZE)
            except BlockingIOError:
                return
            if not data:  # everybody has closed it
                self._selector.unregister(self._output)
                os.close(self._output)
                self._output = -1
                return
            self._log.write(data)

    def _read_report(self) -> None:
        """Read what the process says of itself: lines of JSON, the last of them about its end.

        A child that it has forked may keep the pipe open, so its end is not waited for.
        """
        try:
            data = os.read(self._report, READ_SIZE)
        except BlockingIOError:
            return
        *lines, self._received = (self._received + data).split(b"\n")
        reported = [json.loads(line) for line in lines]
        for one in reported:
            if "called_at" in one:
                self._called(one["called_at"])
        ends = [one for one in reported if "ending" in one]
        if data and not ends:
            return
        self._selector.unregister(self._report)
        os.close(self._report)
        self._report = -1
        if ends and self._ending is None:
            self._drain()
            self._exit_by = time.monotonic() + self._spec.limits.exit_timeout
            self._end(Ending(**ends[0]["ending"]), ends[0]["duration"])

    def _called(self, at: float) -> None:
        """The model is loaded and warmed, and its function was called at this time."""
        self._called_at = at
        seconds = max(0.0, at - self._began)
        self._save(lambda: self._store.loaded(self._spec.uuid, seconds))

    def _drain(self) -> None:
        """Write down what has been printed until now, which is no more than a pipe can hold."""
        if self._output >= 0:
            self._read_output()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if self._process is not None and pid == self._process.pid:
                    self._process.returncode = os.waitstatus_to_exitcode(status)
                    self._exited(self._process.returncode)

    def _exited(self, code: int) -> None:
        """The process has ended; say how, if it has not done so itself."""
        while self._report >= 0 and _is_readable(self._report):
            self._read_report()
        self._drain()
        self._exit_by = 0.0
        exit_code, signum = (None, -code) if code < 0 else (code, None)
        self._save(lambda: self._store.exited(self._spec.uuid, exit_code, signum))
        if self._ending is None:
            self._log.write(f"[{_ending(code)}]\n".encode())
            self._end(Ending("error", _ending(code)))
        if self._ending is None or self._ending.status != "done":
            self._stop_all("its process has ended")
        elif self._leftover():
            self._has_leftover_processes = True
            self._save(lambda: self._store.note_leftover_processes(self._spec.uuid, True))

    def _end(self, ending: Ending, duration: float | None = None) -> None:
        """The work has ended; `duration` is how long the process says that it took."""
        if self._stopping:
            ending = Ending.because(self._stopping)
        self._ending = ending
        progress = None
        with contextlib.suppress(OSError):
            progress = last_report(self._place.reports).get("progress")
        if duration is None and self._called_at:
            duration = time.monotonic() - self._called_at
        now = time.time()
        self._backoff.hurry()  # what had to wait for room, and for the work to end
        self._save(lambda: self._store.finish(self._spec.uuid, ending, progress, now, duration))

    # --- what is done

    def _be_told(self, why: str) -> None:
        self._told = self._told or why

    def _stop_all(self, reason: str) -> None:
        if self._stopping:
            return
        self._stopping = reason
        self._kill_at = time.monotonic() + self._spec.limits.cancel_timeout
        for pid in self._leftover():
            _send(pid, signal.SIGTERM)

    def _act(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._told:
            self._backoff.hurry()
        if self._told or now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look()
        if self._exit_by and now >= self._exit_by and self._process is not None:
            self._exit_by = 0.0
            self._log.write(b"[the process did not end after train had returned, and is killed]\n")
            _send(self._process.pid, signal.SIGKILL)
        if self._kill_at and now >= self._kill_at:
            left = self._leftover()
            self._kill_at = now + KILL_SECONDS if left else 0.0
            for pid in left:
                _send(pid, signal.SIGKILL)
        if self._unsaved and self._backoff.is_due:
            self._try_to_save()

    def _look(self) -> None:
        """End everything, if the record says so, or a signal did."""
        told, self._told = self._told, ""
        if self._stopping:
            return
        try:
            record = self._store.get(self._spec.uuid)
        except StorageError:
            record = None
        else:
            if record is None:
                told = told or "its record has vanished"
            elif record.stop:
                told = record.stop
            elif self._has_leftover_processes and not identity.server_lives(
                self._state, record.owner
            ):
                told = told or "its server has gone"
        if told:
            self._stop_all(told)

    def _leftover(self) -> list[int]:
        return identity.descendants(os.getpid())

    def _is_over(self) -> bool:
        if self._ending is None or (self._process and self._process.returncode is None):
            return False
        if self._unsaved:
            return False
        if self._leftover():
            if self._stopping and not self._kill_at:  # it had been overlooked
                self._kill_at = time.monotonic()
            return False
        if self._has_leftover_processes:
            self._has_leftover_processes = False
            self._save(lambda: self._store.note_leftover_processes(self._spec.uuid, False))
            return not self._unsaved
        self._drain()
        return True

    def _pause(self) -> float:
        """How long nothing can be due."""
        due = [at for at in (self._exit_by, self._kill_at) if at]
        if self._unsaved:
            due.append(self._backoff.due)
        if not self._waits_for_the_store():
            due.append(self._look_at)
        return max(0.0, min(due) - time.monotonic())

    def _waits_for_the_store(self) -> bool:
        """Whether nothing runs any more, and only the end has to be written."""
        has_exited = self._process is None or self._process.returncode is not None
        is_quiet = has_exited and not self._has_leftover_processes and not self._kill_at
        return bool(self._unsaved) and self._ending is not None and is_quiet

    # --- the store

    def _save(self, change: Callable[[], object]) -> None:
        """Make a change of the record, as soon as the store can take it."""
        self._unsaved.append(change)
        if len(self._unsaved) == 1:
            self._try_to_save()

    def _try_to_save(self) -> None:
        try:
            while self._unsaved:
                change = self._unsaved[0]
                self._store.insist(change) if self._ending else change()
                del self._unsaved[0]
            self._backoff.reset()
        except StorageError as error:
            self._backoff.fail()
            if str(error) != self._complaint:
                self._complaint = str(error)
                with contextlib.suppress(OSError):  # it goes to the same disk
                    print(error, file=sys.stderr, flush=True)


def _is_readable(fd: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(0))


def _send(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def _ending(code: int) -> str:
    """How a process ended that has not said so itself, for people."""
    if code >= 0:
        return f"the process ended with exit code {code} before train had returned"
    hint = "; the system does that when memory runs out" if -code == signal.SIGKILL else ""
    return f"the process was ended by signal {-code} ({signal_name(-code)}){hint}"
