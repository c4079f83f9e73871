"""A worker whose process does nothing: the test sends messages in its place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence

from deepaas.events import BatchRun, Event
from deepaas.model.v2.exchange import Call
from deepaas.protocol import messages
from deepaas.serving.prediction import Awaited, Prediction
from deepaas.serving.worker_handle import WorkerHandle

SECONDS = 20.0
READY = messages.Ready({"calling": {"kind": "many", "at_once": 5}})
START = messages.Start("hostile", "hostile", "", 0, False, {})


class Puppet(WorkerHandle):
    """A worker whose messages are sent by the test."""

    def __init__(self, batch_run: Event[BatchRun] | None = None) -> None:
        self.has_room = 0
        super().__init__(
            START,
            "test",
            self._note_room,
            lambda _: None,
            spawn=self._spawn_nothing,
            batch_run=batch_run,
        )

    def _note_room(self, _: WorkerHandle) -> None:
        self.has_room += 1

    def _spawn_nothing(
        self, _: str, ends: list[socket.socket], output: int | None, variables: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        self.ends = [end.dup() for end in ends]
        for end in self.ends:  # because socket.send_fds() ignores MSG_DONTWAIT
            end.setblocking(False)
        return subprocess.Popen(
            ["sleep", "100"], env=os.environ | variables, start_new_session=True
        )

    def reply(self, *pieces: bytes, files: int = 0) -> None:
        """Send on the socket of replies, with `files` descriptors of a file."""
        self._say(self.ends[1], pieces, files)

    def control(self, *pieces: bytes) -> None:
        self._say(self.ends[2], pieces, 0)

    def _say(self, end: socket.socket, pieces: Sequence[bytes], files: int) -> None:
        with (
            contextlib.suppress(BlockingIOError, ConnectionError),
            tempfile.TemporaryFile() as file,
        ):
            for number, piece in enumerate(pieces):
                fds = [file.fileno()] * files if not number else []
                socket.send_fds(end, [piece], fds)

    def take_call(self, number: int) -> Awaited:
        """Hand a call over; the process never reads it."""
        prediction = Awaited()
        prediction.id = number
        prediction.packet = messages.encode_call(number, messages.encode_meta(Call()), b"")
        prediction.leave = lambda _: None
        assert self.hand_over(prediction)
        return prediction

    async def heard(self) -> bool:
        """Let the server read what was sent, and return whether it keeps the worker."""
        for _ in range(5):
            await asyncio.sleep(0)
        return not self._channel.is_broken

    async def end(self) -> list[Prediction]:
        """Kill the process, close everything, and return the unanswered calls."""
        self.kill()
        await asyncio.wait_for(asyncio.shield(self.exited), SECONDS)
        left = [*self.reclaim(100), *self.calls.values()]
        self.close()
        return left

    def close(self) -> None:
        super().close()
        for end in self.ends:
            end.close()
