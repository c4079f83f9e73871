"""Files of a server that was killed together with its guard: the next server removes them."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from deepaas.cmd import orphans
from tests.conftest import Disk, Serve
from tests.serving.processes import answers, killed_at_the_end, wait_gone
from tests.serving.test_guard import guard_of, hanging
from tests.support import UPLOAD_LOCK, Part, Server, multipart, predictions, wait_until
from tests.training.trainings import Trainings


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """An upload directory that several servers share."""
    path = tmp_path / "uploads"
    path.mkdir()
    return path


def serve_beside(serve: Serve, shared: Path, *models: str) -> Server:
    return serve({}, *(models or ("zoo.sized",)), "--upload-dir", str(shared))


def kill_with_guard(server: Server) -> None:
    os.kill(server.pid, signal.SIGSTOP)  # so that the server does not replace its guard
    os.kill(guard_of(server), signal.SIGKILL)
    os.kill(server.pid, signal.SIGKILL)
    server.wait_end()


def leave_behind(serve: Serve, shared: Path) -> Path:
    """Kill a server, and return its upload directory, which contains a file."""
    before = set(shared.iterdir())
    server = serve_beside(serve, shared)
    (directory,) = set(shared.iterdir()) - before
    (directory / "upload").write_bytes(b"x")
    kill_with_guard(server)
    assert directory.exists()
    return directory


def can_take_upload(server: Server) -> bool:
    form = multipart(Part("data", b"x" * 3_000_000, "a.bin"))
    (file,) = predictions(server.predict("sized", **form))["files"]
    return bool(file["size"] == 3_000_000)


def wait_removed(*directories: Path) -> None:
    wait_until(
        lambda: not any(map(Path.exists, directories)), within=10, what=f"removal of {directories}"
    )


def test_uploads_and_processes_of_a_killed_server_are_removed(
    serve: Serve, shared: Path, tmp_path: Path
) -> None:
    server = serve_beside(serve, shared, "zoo.dies", "zoo.hangs")
    note = tmp_path / "child"
    answers(server, "dies", params={"how": "session", "note": str(note)})
    child = int(note.read_text())
    with killed_at_the_end(child), hanging(server, tmp_path / "note"):
        (directory,) = shared.iterdir()
        (directory / "upload").mkdir()
        (directory / "upload" / "file").write_bytes(b"x")
        kill_with_guard(server)
        assert psutil.pid_exists(child)
        successor = serve_beside(serve, shared)
        wait_removed(directory)
        wait_gone([child])
    assert can_take_upload(successor)
    assert f"Removing {directory.name}" in successor.log()


def test_directory_of_a_living_server_stays(serve: Serve, shared: Path) -> None:
    first = serve_beside(serve, shared)
    (alive,) = shared.iterdir()
    gone = leave_behind(serve, shared)
    assert alive.exists()
    second = serve_beside(serve, shared)
    wait_removed(gone)
    assert len(list(shared.iterdir())) == 2
    assert can_take_upload(first)
    assert can_take_upload(second)


def test_servers_that_start_at_once_do_no_harm_to_each_other(serve: Serve, shared: Path) -> None:
    remains = [leave_behind(serve, shared) for _ in range(3)]
    with ThreadPoolExecutor(3) as executor:
        servers = list(executor.map(lambda _: serve_beside(serve, shared), range(3)))
    wait_removed(*remains)
    assert len(list(shared.iterdir())) == 3
    assert all(map(can_take_upload, servers))


# --- directories that no server has made


def with_lock(directory: Path, text: bytes = orphans.SIGN) -> Path:
    directory.mkdir()
    (directory / UPLOAD_LOCK).write_bytes(text)
    (directory / "file").write_bytes(b"x")
    return directory


def test_directory_that_no_server_has_made_stays(shared: Path) -> None:
    with_lock(shared / "deepaas-by-others")
    with_lock(shared / "others-abcd1234")
    with_lock(shared / "deepaas-lockless").joinpath(UPLOAD_LOCK).unlink()
    with_lock(shared / "deepaas-lockdiff", b"something else")
    with_lock(shared / "deepaas-lockmore", orphans.SIGN + b"and more")
    with_lock(shared / "deepaas-lockpipe").joinpath(UPLOAD_LOCK).unlink()
    os.mkfifo(shared / "deepaas-lockpipe" / UPLOAD_LOCK)
    (shared / "deepaas-no_folder").write_bytes(orphans.SIGN)
    linked = with_lock(shared.parent / "linked")
    (shared / "deepaas-linklink").symlink_to(linked)
    before = set(shared.rglob("*"))
    gone = with_lock(shared / "deepaas-gonegone")
    orphans.sweep_uploads(str(shared))
    assert not gone.exists()
    assert set(shared.rglob("*")) == before
    assert (linked / "file").exists()


def test_directory_of_another_user_stays(shared: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory to another user")
    theirs = with_lock(shared / "deepaas-theirs00")
    os.chown(theirs, 12345, 12345)
    with_their_lock = with_lock(shared / "deepaas-theirs01")
    os.chown(with_their_lock / UPLOAD_LOCK, 12345, 12345)
    orphans.sweep_uploads(str(shared))
    assert (theirs / "file").exists()
    assert (with_their_lock / "file").exists()


def test_directory_is_found_again_if_it_could_not_be_removed(shared: Path, disk: Disk) -> None:
    """The lock file is removed last."""
    gone = with_lock(shared / "deepaas-gonegone")
    busy = gone / "mounted"
    busy.mkdir()
    subprocess.run(["mount", "--bind", str(disk.path), str(busy)], check=True)
    try:
        orphans.sweep_uploads(str(shared))
        assert not (gone / "file").exists()
        assert (gone / UPLOAD_LOCK).exists()
    finally:
        subprocess.run(["umount", str(busy)], check=True)
    orphans.sweep_uploads(str(shared))
    assert not gone.exists()


def test_server_serves_where_there_is_no_room_for_a_lock(serve: Serve, disk: Disk) -> None:
    disk.fill()
    server = serve_beside(serve, disk.path)
    assert predictions(server.predict("sized"))["files"] == []


# --- locks of servers in a state directory


def locks(state: Path) -> set[str]:
    return {path.name for path in (state / "servers").iterdir()}


def serve_with(serve: Serve, state: Path) -> Server:
    return serve({}, "zoo.trains", "--state-dir", str(state))


def test_locks_of_servers_that_are_gone_are_removed(serve: Serve, tmp_path: Path) -> None:
    """Locks of running servers stay: otherwise their trainings would be taken over."""
    state = tmp_path / "state"
    living = serve_with(serve, state)
    (of_living,) = locks(state)
    for _ in range(2):
        serve_with(serve, state).kill()
    (state / "servers" / "notes").touch()
    assert len(locks(state)) >= 3
    third = serve_with(serve, state)
    wait_until(lambda: len(locks(state)) == 3, within=10, what="the removal")
    assert {of_living, "notes"} < locks(state)
    for server in (living, third):
        assert Trainings(server).list() == []


def test_servers_that_start_at_once_keep_their_locks(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with ThreadPoolExecutor(4) as executor:
        servers = list(executor.map(lambda _: serve_with(serve, state), range(4)))
    pids = {int(name.partition("-")[0]) for name in locks(state)}
    assert pids == {server.pid for server in servers}
