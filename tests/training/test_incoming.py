"""Requests whose bodies are being received: slow ones do not prevent others from training."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deepaas.exceptions import QueueFullError, RequestError, StoppingError
from deepaas.jobs import incoming
from deepaas.jobs.incoming import Incoming, Places
from deepaas.jobs.spec import JobDirectory
from tests import clock
from tests.clock import in_virtual_time, now
from tests.support import HOST, Server, wait_until
from tests.training.trainings import Place, Site, stop_server

LENGTH = 100
KINDS = {"train": "train", "jobs": "predict"}
OPTIONS = {"train": "--max-incoming-trainings", "jobs": "--max-incoming-jobs"}


class Slow:
    """A request for a training or an asynchronous prediction, whose body does not arrive."""

    def __init__(self, server: Server, segment: str, sent: bytes = b"{") -> None:
        path = f"/v2/models/trains/{KINDS[segment]}/"
        prefer = "Prefer: respond-async\r\n" if segment == "jobs" else ""
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{prefer}"
        self.connection = socket.create_connection((HOST, server.port), timeout=20)
        self.connection.sendall(f"{head}Content-Length: {LENGTH}\r\n\r\n".encode() + sent)
        self._left = LENGTH - len(sent)

    def finish(self) -> None:
        self.connection.sendall(b"}" + b" " * (self._left - 1))

    @property
    def has_answer(self) -> bool:
        """Whether a response has begun to arrive."""
        self.connection.setblocking(False)
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self.connection.settimeout(20)

    def answer(self) -> str:
        """Return the beginning of the response, with its status line."""
        return self.connection.recv(65536).decode()


@pytest.fixture
def slow_ones() -> Iterator[list[Slow]]:
    slow: list[Slow] = []
    yield slow
    for one in slow:
        one.connection.close()


def ask(server: Server, segment: str, **kwargs: Any) -> int:
    """Return the status of a complete request."""
    headers = {"Prefer": "respond-async"} if segment == "jobs" else {}
    path = f"/v2/models/trains/{KINDS[segment]}/"
    status = server.post(path, headers=headers, **kwargs).status_code
    return 200 if status == 202 else status


def directories(site: Site) -> int:
    return len(list((site.state / "work").iterdir()))


# --- slow bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize("segment", KINDS)
def test_unfinished_bodies_take_no_place_in_the_queue(
    site: Site, slow_ones: list[Slow], segment: str
) -> None:
    """The unfinished requests outnumber the jobs that may run and wait."""
    queued = OPTIONS[segment].replace("incoming", "queued")
    server = site.serve(queued, "3", OPTIONS[segment], "10").server
    slow_ones += [Slow(server, segment) for _ in range(6)]
    wait_until(lambda: directories(site) == 6, within=20, what="six requests")
    for _ in range(3):
        assert ask(server, segment) == 200


def test_slow_bodies_make_way_for_a_request_that_needs_a_place(
    site: Site, slow_ones: list[Slow]
) -> None:
    """This uses the real clock and both kinds; `Places` is tested below in virtual time."""
    flags = [text for option in OPTIONS.values() for text in (option, "4")]
    server = site.serve(*flags).server
    by_kind = {kind: [Slow(server, kind) for _ in range(4)] for kind in KINDS}
    slow_ones += [one for slow in by_kind.values() for one in slow]
    wait_until(lambda: directories(site) == 8, within=20, what="eight requests")
    upload = {"data": ("a", bytes(3_000_000))}
    with ThreadPoolExecutor() as threads:
        asking = [threads.submit(ask, server, kind, files=upload) for kind in KINDS]
        assert [one.result() for one in asking] == [200, 200]
    for kind, slow in by_kind.items():
        refused = [one for one in slow if one.has_answer]
        (answer,) = [one.answer() for one in refused]
        assert " 503 " in answer.split("\r\n")[0]
        assert "Retry-After: " in answer
        assert "queue_full" in answer
        assert OPTIONS[kind] in answer
        for one in slow:
            if one not in refused:
                one.finish()
                assert " 20" in one.answer().split("\r\n")[0]


def test_slow_bodies_leave_nothing(site: Site, slow_ones: list[Slow]) -> None:
    trainings = site.serve()
    slow_ones += [Slow(trainings.server, "train") for _ in range(10)]
    wait_until(lambda: directories(site) == 10, within=20)
    for one in slow_ones:
        one.connection.close()
    wait_until(lambda: directories(site) == 0, within=20, what="that they have left nothing")
    assert trainings.list() == []


# --- the queue -------------------------------------------------------------------------------


def test_of_two_bodies_the_one_that_comes_first_has_the_last_place_in_the_queue(
    site: Site, place: Place, slow_ones: list[Slow]
) -> None:
    trainings = site.serve("--max-queued-trainings", "1")
    trainings.begin(place=place)
    place.wait_for_attempt()
    slow_ones += [Slow(trainings.server, "train") for _ in range(2)]
    wait_until(lambda: directories(site) == 3, within=20)
    slow_ones[1].finish()
    assert " 200 " in slow_ones[1].answer()
    slow_ones[0].finish()
    answer = slow_ones[0].answer()
    assert " 503 " in answer.split("\r\n")[0]
    assert "(1 waiting)" in answer
    place.open_gate()


def test_a_full_queue_refuses_a_body_before_it_comes(
    site: Site, place: Place, slow_ones: list[Slow]
) -> None:
    trainings = site.serve("--max-queued-trainings", "0")
    trainings.begin(place=place)
    slow_ones.append(Slow(trainings.server, "train"))
    assert " 503 " in slow_ones[0].answer()
    place.open_gate()


def test_invalid_requests_take_no_place_in_the_queue(site: Site, place: Place) -> None:
    trainings = site.serve("--max-queued-trainings", "1", "--max-incoming-trainings", "2")
    trainings.begin(place=place)
    place.wait_for_attempt()
    for _ in range(5):
        assert trainings.post(size="no number").status_code == 422
    assert trainings.post().status_code == 200
    place.open_gate()


def test_requests_that_wait_for_a_place_are_told_of_the_end(
    site: Site, slow_ones: list[Slow]
) -> None:
    trainings = site.serve("--max-incoming-trainings", "1", "--drain-timeout", "0.2")
    slow_ones += [Slow(trainings.server, "train") for _ in range(2)]
    wait_until(lambda: directories(site) == 1, within=20)
    stop_server(trainings.server)
    for one in slow_ones:
        assert "server_stopping" in one.answer()


# --- places, in virtual time -----------------------------------------------------------------


@pytest.fixture(autouse=True)
def _time_of_the_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "site" not in request.fixturenames:
        clock.follow(monkeypatch, incoming)


@dataclass
class Bytes:
    """A body whose state is set by the test."""

    is_complete: bool = False
    received: int = 0
    errors: list[RequestError] = field(default_factory=list)

    def refuse(self, error: RequestError) -> None:
        self.errors.append(error)


class Stuck(Bytes):
    """A body that does not arrive. `refused` gets the time at which its request is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def refuse(self, error: RequestError) -> None:
        super().refuse(error)
        self.refused.set_result(now())


def coming(body: Bytes, age: float = 0.0) -> Incoming:
    place = JobDirectory(Path("nowhere"))
    return Incoming("u", "train", place, body, began=now() - age)


async def hold(places: Places, one: Incoming, until: asyncio.Event) -> None:
    async with places.take(one):
        await until.wait()


async def receive(places: Places, body: Stuck) -> None:
    """Hold a place until the body is refused."""
    async with places.take(coming(body)):
        await body.refused


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@in_virtual_time
async def test_the_slowest_of_the_slow_bodies_is_refused() -> None:
    places, end = Places(3, "--option"), asyncio.Event()
    bodies = [Bytes(received=10_000), Bytes(received=1_000), Bytes(received=10_000_000)]
    holding = [asyncio.create_task(hold(places, coming(one, 60), end)) for one in bodies]
    await settle()
    waiting = asyncio.create_task(hold(places, coming(Bytes()), end))
    await settle()
    assert [len(body.errors) for body in bodies] == [0, 1, 0]
    assert isinstance(bodies[1].errors[0], QueueFullError)
    assert "--option" in str(bodies[1].errors[0])
    assert not waiting.done()
    end.set()
    await asyncio.gather(*holding, waiting)


@in_virtual_time
async def test_a_body_that_does_not_come_is_refused_when_its_head_start_is_over() -> None:
    places = Places(1, "--option")
    first, second = Stuck(), Stuck()
    began = now()
    tasks = [asyncio.create_task(receive(places, body)) for body in (first, second)]
    took = await first.refused - began
    over = incoming.HEAD_START / incoming.SLOW - 1
    assert over < took <= over + incoming.LOOK_SECONDS
    await tasks[0]
    await asyncio.sleep(3600)  # no request needs the place of the second body
    assert second.errors == []
    tasks[1].cancel()


@in_virtual_time
async def test_a_body_that_comes_quickly_enough_is_not_refused_however_long_it_takes() -> None:
    places, end = Places(1, "--option"), asyncio.Event()
    body = Bytes()
    uploading = asyncio.create_task(hold(places, coming(body), end))
    await settle()
    waiting = asyncio.create_task(hold(places, coming(Bytes()), end))
    for _ in range(3600):
        await asyncio.sleep(1)
        body.received += incoming.SLOW
    assert body.errors == []
    await asyncio.sleep(60)
    assert len(body.errors) == 1  # it has stopped arriving
    end.set()
    await asyncio.gather(uploading, waiting)


@in_virtual_time
async def test_one_slow_body_makes_way_for_one_request() -> None:
    places, end = Places(4, "--option"), asyncio.Event()
    bodies = [Stuck() for _ in range(4)]
    tasks = [asyncio.create_task(receive(places, body)) for body in bodies]
    await settle()
    tasks.append(asyncio.create_task(hold(places, coming(Bytes(is_complete=True)), end)))
    await asyncio.sleep(3600)
    assert sum(body.refused.done() for body in bodies) == 1
    assert repr(places) == "<Places: 4 of 4, 0 wait>"
    for task in tasks:
        task.cancel()


@in_virtual_time
async def test_no_more_requests_are_received_at_once_than_may() -> None:
    places = Places(3, "--option")
    bodies = [Stuck() for _ in range(20)]
    inside = most = 0

    async def count(body: Stuck) -> None:
        nonlocal inside, most
        async with places.take(coming(body)):
            inside += 1
            most = max(most, inside)
            await body.refused
            inside -= 1

    tasks = [asyncio.create_task(count(body)) for body in bodies]
    await asyncio.sleep(3600)
    assert sum(body.refused.done() for body in bodies) == 17
    assert (inside, most) == (3, 3)
    for task in tasks:
        task.cancel()


@in_virtual_time
async def test_a_place_goes_to_a_request_that_has_all_come_first() -> None:
    places, end = Places(1, "--option"), asyncio.Event()
    ends = [asyncio.Event() for _ in range(3)]
    first = asyncio.create_task(hold(places, coming(Bytes(True)), end))
    await settle()
    bodies = [Bytes(), Bytes(), Bytes(True)]
    order: list[int] = []

    async def note(number: int) -> None:
        async with places.take(coming(bodies[number])):
            order.append(number)
            await ends[number].wait()

    others = [asyncio.create_task(note(number)) for number in range(3)]
    await settle()
    end.set()
    for one in (ends[2], ends[0], ends[1]):
        await settle()
        one.set()
    await asyncio.gather(first, *others)
    assert order == [2, 0, 1]


@pytest.mark.parametrize("moment", ["waiting", "given"])
@in_virtual_time
async def test_a_request_that_leaves_gives_its_place_to_the_next(moment: str) -> None:
    places, end, last = Places(1, "--option"), asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(hold(places, coming(Bytes(True)), end))
    await settle()
    leaves = asyncio.create_task(hold(places, coming(Bytes(True)), last))
    await settle()
    follows = asyncio.create_task(hold(places, coming(Bytes(True)), last))
    await settle()
    if moment == "given":
        end.set()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    leaves.cancel()
    end.set()
    last.set()
    await asyncio.gather(first, leaves, return_exceptions=True)
    await follows
    assert repr(places) == "<Places: 0 of 1, 0 wait>"


@in_virtual_time
async def test_requests_that_wait_are_refused_when_the_places_are_closed() -> None:
    places, end = Places(1, "--option"), asyncio.Event()
    first = asyncio.create_task(hold(places, coming(Bytes(True)), end))
    await settle()
    waiting = asyncio.create_task(hold(places, coming(Bytes(True)), end))
    await settle()
    places.close()
    with pytest.raises(StoppingError):
        await waiting
    end.set()
    await first
