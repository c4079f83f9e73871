"""Command-line options, fixtures that start servers, and the choice of the tested `deepaas-run`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import subprocess
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from tests import support

REFERENCE = "2.6.0"

# Tests of properties must not fail because other processes keep the cores busy.
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
    """The length of the tests in `tests/chaos`, and the seed of their random numbers."""

    rounds: int
    seed: int
    soak_seconds: float

    @property
    def fewer_rounds(self) -> int:
        """The number of rounds for tests that kill no process."""
        return max(1, self.rounds // 4)


@pytest.fixture(scope="session")
def chaos(request: pytest.FixtureRequest) -> Chaos:
    option = request.config.getoption
    return Chaos(option("--chaos-rounds"), option("--chaos-seed"), option("--soak-seconds"))


@functools.cache
def version_under_test() -> str:
    """Return the last word that `deepaas-run --version` prints."""
    return support.version()


COROUTINE_SECONDS = 120.0
"""A coroutine test that takes longer is considered to hang. This is not a limit on speed."""


def _bounded(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        await asyncio.wait_for(test(*args, **kwargs), COROUTINE_SECONDS)

    return bounded


gc.disable()  # the collection of ten thousand tests makes little garbage


def pytest_collection_finish() -> None:
    """Collect garbage again; what belongs to the tests themselves stays until the end."""
    gc.freeze()
    gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Limit the time of every coroutine test."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = _bounded(item.obj)


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let a module choose the event loop of its coroutine tests by defining `new_loop`."""
    return {"loop": getattr(item.module, "new_loop", asyncio.new_event_loop)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect tests marked as mended to fail for the reference release."""
    mended = [(item, mark) for item in items for mark in item.iter_markers("mended")]
    if not mended or version_under_test() != REFERENCE:
        return
    for item, mark in mended:
        item.add_marker(pytest.mark.xfail(reason=f"mended: {mark.args[0]}", strict=True))


@pytest.fixture(scope="session")
def is_reference() -> bool:
    """Tell whether the tests run against the reference release."""
    return version_under_test() == REFERENCE


@pytest.fixture(scope="session")
def patience(is_reference: bool) -> float:
    """Return the seconds to wait for a response that the reference release never sends."""
    return 1.0 if is_reference else support.ANSWER_SECONDS


def short_and_long(short: Iterable[Any], long: Iterable[Any]) -> list[Any]:
    """Return parameters of a test; `make test` skips the long ones, `make test-variants` has them.

    A parameter of several values is a tuple.
    """
    params = [(value, ()) for value in short] + [(value, pytest.mark.long) for value in long]
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=marks)
        for value, marks in params
    ]


class Serve(Protocol):
    """Starts a server with these models and flags. The fixture stops it."""

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
    """Start servers for one test; each must exit cleanly at its end.

    The reference release may hang after a mended case, so its server is killed then.
    """
    doomed = is_reference and request.node.get_closest_marker("mended") is not None
    yield from _server_factory(support.Server.kill if doomed else support.Server.stop)


@pytest.fixture(scope="module")
def serve_all() -> Iterator[Serve]:
    """Start servers for all tests of a module; each must exit cleanly at the end."""
    yield from _server_factory(support.Server.stop)


@pytest.fixture(scope="module")
def serve_doomed(is_reference: bool) -> Iterator[Serve]:
    """Like `serve_all`, for servers that only mended cases use."""
    yield from _server_factory(support.Server.kill if is_reference else support.Server.stop)


DISK_BYTES = 8 * 1024 * 1024


class Disk:
    """A small separate file system that a test can fill."""

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
    """Mount a separate tmpfs with these options; skip the test if that is impossible."""
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
