"""The time before a zombie is reaped: real zombies, in virtual time."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator

import pytest

from deepaas import processes
from deepaas.cmd.reaper import _Reaper
from tests.clock import in_virtual_time


@pytest.fixture(params=[False, True], ids=["orphan", "leader of a session"])
def zombie(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A child of this process that has exited. To the reaper it looks like an orphan."""
    with subprocess.Popen(["true"], start_new_session=request.param) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        yield child


def is_there(child: subprocess.Popen[bytes]) -> bool:
    return os.path.exists(f"/proc/{child.pid}")


async def looks_until_it_is_reaped(child: subprocess.Popen[bytes], most: int) -> int | None:
    """Return the seconds until the child is reaped, or None. The reaper looks once a second."""
    reaping = asyncio.create_task(_Reaper().run())
    try:
        await asyncio.sleep(0.5)
        for second in range(1, most + 1):
            await asyncio.sleep(1)
            if not is_there(child):
                return second
        return None
    finally:
        reaping.cancel()


@in_virtual_time
async def test_orphan_is_reaped_at_the_second_look_and_a_leader_at_the_tenth(
    zombie: subprocess.Popen[bytes],
) -> None:
    is_leader = zombie.pid in processes.zombies().values()
    assert await looks_until_it_is_reaped(zombie, 60) == (10 if is_leader else 2)


@in_virtual_time
async def test_child_of_the_server_is_left_to_those_who_have_started_it(
    zombie: subprocess.Popen[bytes],
) -> None:
    processes.own_children.add(zombie.pid)
    try:
        assert await looks_until_it_is_reaped(zombie, 60) is None
    finally:
        processes.own_children.discard(zombie.pid)
