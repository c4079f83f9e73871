"""What another user of the machine can do and read. The tests that switch the user need root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Part, Server, multipart, wait_until

NOBODY = 65534
SECRET = "hidden-from-others"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory that everybody may read."""
    with tempfile.TemporaryDirectory(prefix="deepaas-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    uploads, state = directory / "uploads", directory / "state"
    uploads.mkdir(mode=0o755)
    args = ["--upload-dir", str(uploads), "--state-dir", str(state), "zoo.trains", "zoo.echo"]
    with Server(args=args) as server:
        yield server


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, cwd="/"
    )


def begin(server: Server, place: Path) -> str:
    """Start a training with a secret and an upload; it waits for its gate."""
    form = multipart(
        Part("place", str(place).encode()),
        Part("do", b"write"),
        Part("text", b"artifact"),
        Part("password", SECRET.encode()),
        Part("data", SECRET.encode(), filename="a"),
    )
    uuid: str = server.post("/v2/models/trains/train/", **form).json()["uuid"]
    wait_until((place / "attempts").exists, within=30, what="a training that begins")
    return uuid


def end(server: Server, place: Path, uuid: str) -> None:
    (place / "gate").touch()
    url = f"/v2/models/trains/train/{uuid}"
    wait_until(lambda: server.get(url).json()["status"] == "done", within=30, what="its end")


@needs_root
def test_other_user_may_use_the_server(server: Server) -> None:
    """The server has no sign-in: each process of the machine can connect to a loopback address."""
    url = f"{server.url}/v2/models/echo/predict/"
    status = ["-o", "/dev/null", "-w", "%{http_code}"]
    assert as_nobody("curl", "-s", "--noproxy", "*", "-X", "POST", *status, url).stdout == "200"


@needs_root
def test_other_user_cannot_read_uploads_and_records(
    server: Server, directory: Path, tmp_path: Path
) -> None:
    uuid = begin(server, tmp_path)
    end(server, tmp_path, uuid)
    state = directory / "state"
    (uploads,) = (directory / "uploads").iterdir()
    artifact = state / "work" / uuid / "artifacts" / "artifact"
    assert artifact.read_text() == "artefact"
    assert as_nobody("ls", str(directory)).returncode == 0
    for path in (state, uploads):
        assert "Permission denied" in as_nobody("ls", str(path)).stderr
    for path in (artifact, state / "trainings.db"):
        assert "Permission denied" in as_nobody("cat", str(path)).stderr


def test_no_command_line_shows_a_secret(server: Server, tmp_path: Path) -> None:
    """Every user can read the command lines of all processes."""
    uuid = begin(server, tmp_path)
    lines = [" ".join(process.cmdline()) for process in server.processes()]
    end(server, tmp_path, uuid)
    assert [line for line in lines if uuid in line]
    assert not [line for line in lines if SECRET in line]
