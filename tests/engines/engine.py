"""Podman in namespaces of its own, with its own storage, and a base image made by debootstrap."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".engines"
BUILD_SECONDS = 1200.0
COMMAND_SECONDS = 120.0
SUITE = "bookworm"
PYTHON = "3.11"
"""The version of Python in this release of Debian."""

PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
"""The programs that the tests need, and the packages of Debian that have them."""

NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]

# Podman keeps the addresses of containers below /var/lib, and locks and sockets below /run. Both
# are private to the mount namespace, so nothing stays there.
START = """
mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /run && ip link set lo up && echo ready
exec sleep infinity
"""

# Without systemd, with runc. Hard limits below the usual soft ones make runc fail, so both are set.
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
"""

CGROUPS = Path("/sys/fs/cgroup")
CLONE_NEWNET = 0x40000000


def reason_to_skip() -> str:
    """Return why the tests cannot run here, or an empty text."""
    if os.geteuid() != 0:
        return "needs root, and then: apt-get install " + " ".join(sorted({*PROGRAMS.values()}))
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        return f"needs programs: apt-get install {' '.join(sorted(missing))}"
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"needs the right to make namespaces, as a privileged container has: {tried.stderr}"
    return ""


# --- the base image and the wheels -----------------------------------------------------------


def base_archive() -> Path:
    """Return an archive of a small Debian with Python; debootstrap makes it if it is missing."""
    archive = CACHE / f"{SUITE}.tar"
    if archive.exists():
        return archive
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        tree = Path(directory) / "tree"
        made = subprocess.run(
            # What debootstrap mounts is unmounted even if debootstrap is killed.
            ["unshare", "--mount", "debootstrap", "--variant=minbase", "--include=python3-venv"]
            + [SUITE, str(tree), mirror()],
            env={**os.environ, **proxies()},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(tree / folder)
            (tree / folder).mkdir()
        packed = Path(directory) / "packed.tar"
        subprocess.run(["tar", "-C", str(tree), "-cf", str(packed), "."], check=True, timeout=300)
        packed.rename(archive)
    return archive


def mirror() -> str:
    """Return the address of the mirror of Debian that apt is configured to use."""
    listing = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)"]
    made = subprocess.run([*listing, "Created-By: Packages"], capture_output=True, text=True)
    found = {tuple(line.split(" ", 2)) for line in made.stdout.splitlines()}
    mirrors = [
        (codename != SUITE, address)
        for origin, codename, address in found
        if origin == "Debian" and address.startswith(("http", "file:", "copy:"))
        if not codename.endswith(("-security", "-backports"))
    ]
    assert mirrors, "apt has no mirror of Debian; run apt-get update"
    return min(mirrors)[1]


def proxies() -> dict[str, str]:
    """Return the variables that lead debootstrap through the proxy that apt uses."""
    ask = ["apt-config", "dump", "--format", "%v", "Acquire::http::Proxy"]
    proxy = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    return {"http_proxy": proxy} if proxy not in ("", "DIRECT") else {}


def collect_wheels(directory: Path) -> None:
    """Collect wheels of this checkout, of all its dependencies and of setuptools."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as copy:  # the build leaves files behind
        for name in ("pyproject.toml", "setup.cfg", "MANIFEST.in", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        shutil.copytree(ROOT / "deepaas", Path(copy) / "deepaas")
        _pip([*pip, "wheel", "--no-deps", "--wheel-dir", str(directory), copy])
    (made,) = directory.glob("deepaas-*.whl")
    options = ["--only-binary=:all:", "--python-version", PYTHON, "--dest", str(directory)]
    _pip([*pip, "download", *options, str(made), "setuptools>=77"])


def _pip(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


# --- the engine ------------------------------------------------------------------------------


@dataclass
class Podman:
    """Podman in the namespaces of the process `pid`; its files are in `directory`."""

    pid: int
    directory: Path

    def run(
        self,
        *arguments: str,
        cwd: Path = Path("/"),
        timeout: float = COMMAND_SECONDS,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        # `ip netns exec` would hide the control groups, which containers need.
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--pid"]
        storage = [f"--{name}={self.directory / name}" for name in ("root", "runroot", "tmpdir")]
        done = subprocess.run(
            [*enter, "env", "-C", str(cwd), "podman", *storage, *arguments],
            env={**os.environ, "CONTAINERS_CONF": str(self.directory / "containers.conf")},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done

    def says(self, *arguments: str) -> str:
        """Return the output of a command without the final line break."""
        return self.run(*arguments).stdout.strip()

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Move the calling thread to the network of the containers."""
        with open("/proc/thread-self/ns/net") as own, open(f"/proc/{self.pid}/ns/net") as other:
            _set_network(other.fileno())
            try:
                yield
            finally:
                _set_network(own.fileno())


def _set_network(descriptor: int) -> None:
    """Do what os.setns does, which Python has only from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def podman() -> Iterator[Podman]:
    """Yield a Podman that leaves no process, network, mount, control group or file behind."""
    cgroups_before = _cgroups()
    # Not the directory of the test: the paths of sockets must be short.
    directory = Path(tempfile.mkdtemp(prefix="deepaas-engines-"))
    holder = subprocess.Popen(
        [*NAMESPACES, "sh", "-c", START], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text()
        (directory / "containers.conf").write_text(CONFIGURATION)
        engine = Podman(int(children), directory)
        try:
            yield engine
        finally:
            engine.run("rm", "--all", "--force", "--time=1")
            engine.run("volume", "rm", "--all", "--force")
    finally:
        # With the first process of a PID namespace, all others end, too.
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=60)
        if holder.stdout is not None:
            holder.stdout.close()
        shutil.rmtree(directory)
        wait_until(
            lambda: _remove(_cgroups() - cgroups_before),
            within=60,
            what="the end of all processes in the control groups",
        )


def _cgroups() -> set[Path]:
    """Return the control groups that Podman makes: in each hierarchy, or in the only one."""
    return {*CGROUPS.glob("libpod_parent"), *CGROUPS.glob("*/libpod_parent")}


def _remove(cgroups: set[Path]) -> bool:
    """Remove control groups and those in them; tell whether none is left."""
    for cgroup in cgroups:
        for folder, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):  # a process in it is about to end
                Path(folder).rmdir()
    return not any(cgroup.exists() for cgroup in cgroups)
