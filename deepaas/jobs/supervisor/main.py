"""The supervisor process of one training: it starts the training, writes its output and its end.

It runs in a separate session, so it outlives a server that is killed, and it never runs the model's
code. As the subreaper of the training it becomes the parent of orphaned processes, so it finds all
of them.
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

from deepaas.exceptions import StorageError, StorageLockedError
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
"""How often to check whether the training must stop."""

LOCK_SECONDS = 1.0
"""How long one attempt waits for the lock of the records; the training's output waits meanwhile."""

KILL_SECONDS = 0.1
PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> None:
    """Supervise the job of a JobSpec, given as JSON, whose record is in a state directory."""
    state, spec = Path(argv[0]), JobSpec.from_json(argv[1])
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    place = JobDirectory.of(state, spec.uuid)
    with identity.locked(place.lock) as alone:
        if alone:
            with contextlib.closing(_open_store(state)) as store:
                JobSupervisor(state, store, place, spec).run()
            os._exit(0)  # holds the lock until the process has exited


def _open_store(state: Path) -> Store:
    """Open the records; wait as long as another process holds their lock."""
    printed = ""
    while True:
        try:
            return Store(state, LOCK_SECONDS)
        except StorageLockedError as error:  # noqa: PERF203
            if str(error) != printed:
                printed = str(error)
                print(error, file=sys.stderr, flush=True)
            time.sleep(LOCK_SECONDS)


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
        self._stopping = ""  # why everything must end
        self._kill_at = 0.0
        self._exit_by = 0.0
        self._has_leftover_processes = False
        self._look_at = 0.0
        self._unsaved: list[Callable[[], object]] = []  # changes not yet in the store
        self._backoff = Backoff()  # retries never stop, so the end is not lost
        self._began = 0.0
        self._called_at = 0.0  # when the function of the model was called; 0 if it was not
        self._store_error = ""  # the last one that was printed
        self._stop_signal = ""  # the reason that a signal gave, not yet handled

    def run(self) -> None:
        """Claim the training and supervise it to its end."""
        self._listen_to_signals()
        self._began = time.monotonic()
        if not self._claim():
            return
        try:
            self._start()
        except OSError as error:
            self._end(Ending("error", f"the training could not be started: {error}"))
        while not self._is_over():
            for key, _ in self._selector.select(self._pause()):
                key.data()
            self._reap()
            self._do_due_work()
        self._reap()  # leave no zombies
        self._log.close()

    def _claim(self) -> bool:
        """Claim the record; wait as long as another process holds the lock of the records.

        Return False if the job was cancelled, if another process has claimed it, or if a signal
        asks this one to stop.
        """
        supervisor = identity.identity(os.getpid())
        while not self._stop_signal:
            try:
                return self._store.claim(self._spec.uuid, supervisor) is not None
            except StorageLockedError as error:  # noqa: PERF203
                self._print(error)
                for key, _ in self._selector.select(LOCK_SECONDS):  # a signal ends the wait
                    key.data()
        return False

    # --- events

    def _listen_to_signals(self) -> None:
        """Let SIGCHLD and SIGTERM wake the loop."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._request_stop("was told to stop by SIGTERM"))
        signal.signal(CANCEL_SIGNAL, lambda *_: self._request_stop(CANCELLED))

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
        if self._output < 0:  # the report was read first, and with it the rest of the output
            return
        for _ in range(64):  # limited, so that the other sources are read too
            try:
                data = os.read(self._output, READ_SIZE)
            except BlockingIOError:
                return
            if not data:  # all writers have closed it
                self._selector.unregister(self._output)
                os.close(self._output)
                self._output = -1
                return
            self._log.write(data)

    def _read_report(self) -> None:
        """Read the reports of the process: lines of JSON, the last of them about its end.

        A child that it has forked may keep the pipe open, so do not wait until it is closed.
        """
        try:
            data = os.read(self._report, READ_SIZE)
        except BlockingIOError:
            return
        *lines, self._received = (self._received + data).split(b"\n")
        reported = [json.loads(line) for line in lines]
        for one in reported:
            if "called_at" in one:
                self._on_call(one["called_at"])
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

    def _on_call(self, at: float) -> None:
        """Note that the model is loaded and warmed and that its function was called at this
        time."""
        self._called_at = at
        seconds = max(0.0, at - self._began)
        self._save(lambda: self._store.loaded(self._spec.uuid, seconds))

    def _drain(self) -> None:
        """Write the output printed until now to the log; a pipe holds no more than one call
        reads."""
        self._read_output()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if self._process is not None and pid == self._process.pid:
                    self._process.returncode = os.waitstatus_to_exitcode(status)
                    self._on_exit(self._process.returncode)

    def _on_exit(self, code: int) -> None:
        """Handle the exit of the process; note an end for it if it has not reported one."""
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
        """Note the end of the work. `duration` is how long the process says that it took."""
        if self._stopping:
            ending = Ending.because(self._stopping)
        self._ending = ending
        progress = None
        with contextlib.suppress(OSError):
            progress = last_report(self._place.reports).get("progress")
        if duration is None and self._called_at:
            duration = time.monotonic() - self._called_at
        now = time.time()
        self._backoff.hurry()  # changes that waited for room may use the reserve now
        self._save(lambda: self._store.finish(self._spec.uuid, ending, progress, now, duration))

    # --- actions

    def _request_stop(self, why: str) -> None:
        self._stop_signal = self._stop_signal or why

    def _stop_all(self, reason: str) -> None:
        if self._stopping:
            return
        self._stopping = reason
        self._kill_at = time.monotonic() + self._spec.limits.cancel_timeout
        for pid in self._leftover():
            _send(pid, signal.SIGTERM)

    def _do_due_work(self) -> None:
        """Do the work that is due."""
        now = time.monotonic()
        if self._stop_signal:
            self._backoff.hurry()
        if self._stop_signal or now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._check_for_stop()
        if self._exit_by and now >= self._exit_by and self._process is not None:
            self._exit_by = 0.0
            self._log.write(b"[the process did not end after train had returned and is killed]\n")
            _send(self._process.pid, signal.SIGKILL)
        if self._kill_at and now >= self._kill_at:
            left = self._leftover()
            self._kill_at = now + KILL_SECONDS if left else 0.0
            for pid in left:
                _send(pid, signal.SIGKILL)
        if self._unsaved and self._backoff.is_due:
            self._try_to_save()

    def _check_for_stop(self) -> None:
        """Stop everything if a signal or the record says so."""
        reason, self._stop_signal = self._stop_signal, ""
        if self._stopping:
            return
        try:
            record = self._store.get(self._spec.uuid)
        except StorageError:
            record = None
        else:
            if record is None:
                reason = reason or "its record has vanished"
            elif record.stop:
                reason = record.stop
            elif self._has_leftover_processes and not identity.server_lives(
                self._state, record.owner
            ):
                reason = reason or "its server has exited"
        if reason:
            self._stop_all(reason)

    def _leftover(self) -> list[int]:
        return identity.descendants(os.getpid())

    def _is_over(self) -> bool:
        if self._ending is None or (self._process and self._process.returncode is None):
            return False
        if self._unsaved:
            return False
        if self._leftover():
            if self._stopping and not self._kill_at:  # missed before
                self._kill_at = time.monotonic()
            return False
        if self._has_leftover_processes:
            self._has_leftover_processes = False
            self._save(lambda: self._store.note_leftover_processes(self._spec.uuid, False))
            return not self._unsaved
        self._drain()
        return True

    def _pause(self) -> float:
        """Return how many seconds the loop may sleep."""
        due = [at for at in (self._exit_by, self._kill_at) if at]
        if self._unsaved:
            due.append(self._backoff.due)
        if not self._waits_for_the_store():
            due.append(self._look_at)
        return max(0.0, min(due) - time.monotonic())

    def _waits_for_the_store(self) -> bool:
        """Return whether nothing runs any more and only the end has to be written."""
        has_exited = self._process is None or self._process.returncode is not None
        is_quiet = has_exited and not self._has_leftover_processes and not self._kill_at
        return bool(self._unsaved) and self._ending is not None and is_quiet

    # --- the store

    def _save(self, change: Callable[[], object]) -> None:
        """Change the record now, or as soon as the store can be written."""
        self._unsaved.append(change)
        if len(self._unsaved) == 1:
            self._try_to_save()

    def _try_to_save(self) -> None:
        try:
            while self._unsaved:
                change = self._unsaved[0]
                if self._ending:  # the training cannot take the reserve any more
                    self._store.write_with_reserve(change)
                else:
                    change()
                del self._unsaved[0]
            self._backoff.reset()
        except StorageError as error:
            self._backoff.fail()
            self._print(error)

    def _print(self, error: StorageError) -> None:
        """Print an error of the store unless it was the last one printed."""
        if str(error) != self._store_error:
            self._store_error = str(error)
            with contextlib.suppress(OSError):  # stderr is a file on the same disk
                print(error, file=sys.stderr, flush=True)


def _is_readable(fd: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(0))


def _send(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def _ending(code: int) -> str:
    """Describe the end of a process that has not reported one."""
    if code >= 0:
        return f"the process ended with exit code {code} before train had returned"
    hint = "; the system does that when memory runs out" if -code == signal.SIGKILL else ""
    return f"the process was ended by signal {-code} ({signal_name(-code)}){hint}"
