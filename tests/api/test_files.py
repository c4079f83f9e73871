"""The files of a request: their contents, and how many descriptors they need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import psutil
import pytest

from deepaas.http.body import Body, BodyLimits, _read_form
from deepaas.http.files import INLINE, RequestFiles, SpoolFile
from tests.api.form_bodies import CONTENT_TYPE, END, part


def contents(directory: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in directory.iterdir())


@pytest.mark.parametrize("size", [1, 2 * INLINE // 300])
@pytest.mark.parametrize("together", [1, 50])
async def test_many_files_take_few_descriptors(tmp_path: Path, size: int, together: int) -> None:
    """This holds even if one chunk of the body contains many of them."""

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
        await asyncio.sleep(0)  # the last descriptor is closed after the response is sent
        assert process.num_fds() <= before
        return most

    async def warmed() -> int:
        await asyncio.to_thread(int)  # create the thread pool and its descriptors first
        return await receive()

    assert await warmed() <= 3


class CountedFiles(RequestFiles):
    """Records the most descriptors that the process has when a file is created."""

    most = 0

    def new(self, extension: str = "") -> tuple[str, SpoolFile]:
        self.most = max(self.most, psutil.Process().num_fds())
        return super().new(extension)


async def test_many_small_parts_take_few_descriptors(tmp_path: Path) -> None:
    """They come in one chunk, after a file so large that a thread writes it."""
    small = part("name=a", b"x", "Content-Type: image/png") * 900
    large = part("name=b; filename=f", b"y" * (2 * INLINE))

    async def data() -> AsyncGenerator[bytes]:
        yield large
        yield small + END

    async def receive() -> int:
        await asyncio.to_thread(int)  # create the thread pool and its descriptors first
        before = psutil.Process().num_fds()
        body = Body(CONTENT_TYPE)
        counted = CountedFiles(str(tmp_path))
        with counted as files:
            await _read_form(data(), BodyLimits(), files, body)
            await files.finish()
            assert body.form is not None
            assert len(body.form) == 901
            assert contents(tmp_path) == [b"x"] * 900 + [b"y" * (2 * INLINE)]
        return counted.most - before

    assert await receive() < 350


async def test_other_work_runs_while_many_parts_are_read(tmp_path: Path) -> None:
    runs = 0

    async def others() -> None:
        nonlocal runs
        while True:
            runs += 1
            await asyncio.sleep(0)

    async def data() -> AsyncGenerator[bytes]:
        yield part("name=a", b"x", "Content-Type: image/png") * 640 + END

    async def receive() -> None:
        other = asyncio.create_task(others())
        with RequestFiles(str(tmp_path)) as files:
            await _read_form(data(), BodyLimits(), files, Body(CONTENT_TYPE))
        other.cancel()

    await receive()
    assert runs >= 640 // 16
