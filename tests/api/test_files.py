"""The files of a request: what they hold, and how many descriptors they take."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from deepaas.api.files import INLINE, RequestFiles


def contents(directory: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in directory.iterdir())


@pytest.mark.parametrize("size", [1, 2 * INLINE // 300])
@pytest.mark.parametrize("together", [1, 50])
def test_many_files_take_few_descriptors(tmp_path: Path, size: int, together: int) -> None:
    """Also if many of them come in one piece of the body."""

    async def receive() -> int:
        process = psutil.Process()
        most, before = 0, process.num_fds()
        with RequestFiles(str(tmp_path)) as files:
            for number in range(300):
                _, file = files.new()
                file.write(bytes([number % 256]) * size)
                file.close()
                if number % together == 0:
                    await files.flush()
                most = max(most, process.num_fds() - before)
            await files.finish()
            received = contents(tmp_path)
        assert received == sorted(bytes([number % 256]) * size for number in range(300))
        assert not contents(tmp_path)
        await asyncio.sleep(0)  # the last descriptor goes when the answer is out
        assert process.num_fds() <= before
        return most

    async def warmed() -> int:
        await asyncio.to_thread(int)  # the threads and their descriptors are there already
        return await receive()

    assert asyncio.run(warmed()) <= 3
