"""Which `deepaas-run` is tested, and how tests are given servers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import subprocess
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from tests import support

REFERENCE = "2.6.0"

# No test of a property fails because other processes keep the cores busy.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--deepaas-run",
        metavar="PATH",
        help="the deepaas-run to test (default: the one beside the running Python)",
    )
    chaos = parser.getgroup("tests/chaos")
    chaos.addoption(
        "--chaos-rounds",
        type=int,
        default=2,
        help="rounds in which processes are killed; the numbers of other tests follow from it",
    )
    chaos.addoption("--chaos-seed", type=int, default=1, help="the seed of all random numbers")
    chaos.addoption("--soak-seconds", type=float, default=4.0, help="how long the soak takes")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--deepaas-run")
    if path:
        if not Path(path).is_file():
            raise pytest.UsageError(f"--deepaas-run: there is no file {path}")
        support.use_program(path)


@dataclass(frozen=True)
class Chaos:
    """How long the tests in `tests/chaos` take, and what their random numbers start from."""

    rounds: int
    seed: int
    soak_seconds: float

    @property
    def fewer_rounds(self) -> int:
        """The rounds of those tests that do not kill."""
        return max(1, self.rounds // 4)


@pytest.fixture(scope="session")
def chaos(request: pytest.FixtureRequest) -> Chaos:
    option = request.config.getoption
    return Chaos(option("--chaos-rounds"), option("--chaos-seed"), option("--soak-seconds"))


@functools.cache
def version_under_test() -> str:
    """The last word that `deepaas-run --version` prints."""
    return support.version()


COROUTINE_SECONDS = 120.0
"""A test that is a coroutine and takes longer hangs. This says nothing about speed."""


def _bounded(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        await asyncio.wait_for(test(*args, **kwargs), COROUTINE_SECONDS)

    return bounded


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let no coroutine hang."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = _bounded(item.obj)


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A module whose coroutines need a loop of another kind sets `new_loop`."""
    return {"loop": getattr(item.module, "new_loop", asyncio.new_event_loop)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Turn mended cases round for the reference release: there they must fail."""
    mended = [(item, mark) for item in items for mark in item.iter_markers("mended")]
    if not mended or version_under_test() != REFERENCE:
        return
    for item, mark in mended:
        item.add_marker(pytest.mark.xfail(reason=f"mended: {mark.args[0]}", strict=True))


@pytest.fixture(scope="session")
def is_reference() -> bool:
    """Whether the reference release is tested."""
    return version_under_test() == REFERENCE


@pytest.fixture(scope="session")
def patience(is_reference: bool) -> float:
    """Seconds to wait for an answer that the reference release never gives."""
    return 1.0 if is_reference else support.ANSWER_SECONDS


class Serve(Protocol):
    """Starts a server with these models and flags, and sees to its end."""

    def __call__(self, models: Mapping[str, str], *args: str, **kwargs: Any) -> support.Server: ...


def _server_factory(end: Callable[[support.Server], object]) -> Iterator[Serve]:
    servers: list[support.Server] = []

    def serve(models: Mapping[str, str], *args: str, **kwargs: Any) -> support.Server:
        server = support.Server(models, args=args, **kwargs)
        server.start()
        servers.append(server)
        return server

    with contextlib.ExitStack() as ends:
        yield serve
        for server in servers:
            ends.callback(end, server)


@pytest.fixture
def serve(request: pytest.FixtureRequest, is_reference: bool) -> Iterator[Serve]:
    """Start servers for this test alone; they must end well when it is over.

    The reference release may hang after a mended case: then it is killed.
    """
    doomed = is_reference and request.node.get_closest_marker("mended") is not None
    yield from _server_factory(support.Server.kill if doomed else support.Server.stop)


@pytest.fixture(scope="module")
def serve_all() -> Iterator[Serve]:
    """Start servers for all tests of a module; they must end well when it is over."""
    yield from _server_factory(support.Server.stop)


@pytest.fixture(scope="module")
def serve_doomed(is_reference: bool) -> Iterator[Serve]:
    """Like `serve_all`, for servers that only mended cases use."""
    yield from _server_factory(support.Server.kill if is_reference else support.Server.stop)


DISK_BYTES = 8 * 1024 * 1024


class Disk:
    """A small file system of its own, which can be filled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.path / "ballast").open("ab", 0) as file:
            while True:
                file.write(bytes(4096))

    def make_room(self) -> None:
        (self.path / "ballast").unlink()


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[Disk]:
    """A file system of its own in memory, at this path, with these options of tmpfs."""
    path.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "deepaas-test", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounting.returncode:
        pytest.skip(f"no file system of its own can be mounted here: {mounting.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", f"size={DISK_BYTES}") as disk:
        yield disk
