"""Thousands of concurrent requests of every bad kind: each one ends, and none leaves anything."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import Chaos, Serve
from tests.serving.processes import MEGABYTE, wait_ready
from tests.serving.traces import memory, seconds_of_work, traces, wait_for_traces
from tests.serving.wire import Answer, Connection, request
from tests.support import Server

LEAST_REQUESTS = 3_000
LEAST_RESTLESS = 1_500
PARTS = (0.1, 0.4, 0.5)
"""The shares of requests made in each part. The server's memory is compared after each part."""

RESTLESS = ("--cancel-running", "--worker-max-requests", "100", "--predict-timeout", "15")
"""Options with which workers are replaced all the time."""

CONNECTIONS = 200
SEED = 1_234
HANGS = 120.0
"""Seconds after which a request counts as hanging."""

ITEMS = 6
SMALL = 300
LARGE = 200_000
MODELS = ("plain", "plain", "many", "batch")

KINDS = {
    # The number of requests of each kind in a thousand.
    "quick": 358,
    "pair": 50,
    "impatient": 20,
    "invalid": 10,
    "slow model": 180,
    "slow body": 160,
    "large body": 15,
    "stream": 97,
    "cut body": 35,
    "cut large body": 5,
    "cut while waiting": 30,
    "cut stream": 30,
    "kill": 10,
}


@dataclass(frozen=True)
class Plan:
    """The plan of one request."""

    id: int
    kind: str
    model: str
    milliseconds: float

    @property
    def is_alike(self) -> bool:
        """Whether its head equals that of many others, so that the server may use its fast path."""
        return self.id % 3 > 0

    @property
    def arguments(self) -> dict[str, Any]:
        found: dict[str, Any] = {"id": self.id, "ms": round(self.milliseconds, 1)}
        if self.kind == "kill":
            found["how"] = "_exit" if self.id % 2 else "sigkill"
        if self.model == "stream":
            found["items"] = 1000 if self.kind == "cut stream" else ITEMS
        return found

    @property
    def path(self) -> str:
        path = f"/v2/models/{self.model}/predict/"
        if self.kind == "invalid" or self.is_alike:
            return path
        return f"{path}?{urlencode(self.arguments)}"

    @property
    def text(self) -> str:
        size = LARGE if "large" in self.kind else SMALL
        return f"{self.id:x}-" * (size // 10)

    @property
    def body(self) -> bytes:
        content = {"text": self.text}
        if self.is_alike and self.kind != "invalid":
            content |= self.arguments
        size = LARGE if "large" in self.kind else SMALL
        return json.dumps(content).encode().ljust(size)

    @property
    def next(self) -> Plan:
        """A request like this one with an id that no other request has."""
        return dataclasses.replace(self, id=self.id + 3_000_000)


def plans(number: int) -> Iterator[Plan]:
    chance = random.Random(SEED)
    kinds = chance.choices([*KINDS], weights=[*KINDS.values()], k=number)
    for id, kind in enumerate(kinds):
        model = "stream" if kind in ("stream", "cut stream") else chance.choice(MODELS)
        slow = kind in ("slow model", "impatient", "cut while waiting")
        yield Plan(id, kind, model, chance.uniform(2, 8) if slow else 0.0)


# --- the callers


async def play(connection: Connection, plan: Plan) -> str:
    """Make a request, and return its outcome as one word. Fails on any wrong response."""
    match plan.kind:
        case "slow body":
            return await send_slowly(connection, plan)
        case "cut body" | "cut large body":
            whole = plan.body
            await connection.send(request(plan.path, whole[: len(whole) // 2], length=len(whole)))
            await asyncio.sleep(0.002 * (plan.id % 3))
            await connection.close()
        case "cut while waiting":
            await connection.send(request(plan.path, plan.body))
            await asyncio.sleep(0.002 * (plan.id % 5))
            await connection.close()
        case "cut stream":
            return await leave_stream(connection, plan)
        case "impatient":
            patience = {"X-Request-Timeout": "0.004"}
            await connection.send(request(plan.path, plan.body, headers=patience))
            return ending(plan, await connection.read_answer())
        case "pair":
            return await send_two(connection, plan)
        case _:
            await connection.send(request(plan.path, plan.body))
            return ending(plan, await connection.read_answer())
    return "cut"


async def send_slowly(connection: Connection, plan: Plan) -> str:
    data = request(plan.path, plan.body)
    for part in (data[:-40], data[-40:-20], data[-20:]):
        await connection.send(part)
        await asyncio.sleep(0.005)
    return ending(plan, await connection.read_answer())


async def send_two(connection: Connection, plan: Plan) -> str:
    """Send the second request before the first response."""
    both = plan, plan.next
    await connection.send(b"".join(request(one.path, one.body) for one in both))
    words = [ending(one, await connection.read_answer()) for one in both]
    return words[0] if words[0] == words[1] else "half"


async def leave_stream(connection: Connection, plan: Plan) -> str:
    """Read the start of a long stream, and leave."""
    await connection.send(request(plan.path, plan.body))
    status, headers = await connection.read_head()
    if status != 200:
        await connection.close()
        assert (status, "retry-after" in headers) == (503, True)
        return "model_not_ready"
    first = json.loads((await connection.read_chunk()).split(b"\n")[0])
    assert first == {"item": 0, "id": plan.id, "text": plan.text}
    await connection.close()
    return "cut"


def ending(plan: Plan, answer: Answer) -> str:
    """Return the outcome of an answered request. Fails if this response is not possible."""
    if answer.status == 200:
        assert plan.kind not in ("kill", "invalid"), answer
        check_echo(plan, answer)
        return "answered"
    if answer.status == 422:
        assert plan.kind == "invalid", answer
        assert "id" in str(answer.content)
        return "refused"
    assert set(answer.content) == {"message", "code", "request_id"}
    if answer.code == "model_not_ready":
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        return answer.code
    if answer.code == "timeout":
        assert (answer.status, plan.kind) == (504, "impatient"), (plan, answer)
        return answer.code
    assert (answer.status, answer.code) == (500, "worker_died"), (plan, answer)
    # Only calls that share a process with the one that ends it are harmed.
    assert plan.kind == "kill" or plan.model == "many", (plan, answer)
    assert (
        "exited with code 3" in answer.content["message"] or "SIGKILL" in answer.content["message"]
    )
    return answer.code


def check_echo(plan: Plan, answer: Answer) -> None:
    """Check that the response is complete and belongs to this request."""
    own = {"id": plan.id, "text": plan.text}
    if plan.model == "stream":
        lines = [json.loads(line) for line in answer.body.splitlines()]
        assert lines == [{"item": number, **own} for number in range(ITEMS)]
    else:
        assert answer.content == {"status": "OK", "predictions": own}


class Crowd:
    """Two hundred callers, each with one connection, that share the requests to make."""

    def __init__(self, port: int) -> None:
        self._connections = [Connection(port) for _ in range(CONNECTIONS)]
        self.endings: Counter[str] = Counter()
        self.by_kind: Counter[tuple[str, str]] = Counter()

    async def play(self, todo: Iterator[Plan], number: int) -> None:
        some = [plan for _, plan in zip(range(number), todo, strict=False)]
        left = iter(some)
        await asyncio.gather(*(self._play(one, left) for one in self._connections))
        await asyncio.gather(*(one.close() for one in self._connections))

    async def _play(self, connection: Connection, todo: Iterator[Plan]) -> None:
        for plan in todo:
            try:
                word = await asyncio.wait_for(play(connection, plan), HANGS)
            except Exception as error:
                raise AssertionError(f"{plan}: {error!r}") from error
            self.endings[word] += 1
            self.by_kind[plan.kind, word] += 1


async def work_of_requests(server: Server) -> float:
    """Return the CPU seconds that the server uses for a fixed number of successive requests."""
    connection = Connection(server.port)
    before = seconds_of_work(server)
    for number in range(600):
        await connection.send(request(f"/v2/models/plain/predict/?id={number}"))
        answer = await connection.read_answer()
        assert answer.content["predictions"]["id"] == number
    await connection.close()
    return seconds_of_work(server) - before


# --- the test


async def play_all(server: Server, number: int) -> None:
    before = traces(server)
    work = await work_of_requests(server)
    todo = plans(number)
    crowd = Crowd(server.port)
    began = time.monotonic()
    sizes = []
    for part in PARTS:
        await crowd.play(todo, round(part * number))
        sizes.append(memory(server))
    took = time.monotonic() - began
    for model in {*MODELS, "stream"}:
        wait_ready(server, model, workers=2)
    wait_for_traces(server, before)
    check_endings(crowd, number)
    after = await work_of_requests(server)
    print(f"{took:.1f} s, {sizes}, {work:.2f} s, {after:.2f} s of work, {crowd.by_kind}")
    assert sizes[2] - sizes[0] < 20 * MEGABYTE
    assert sizes[2] - sizes[1] < 8 * MEGABYTE
    assert after < 3 * work + 0.2
    wait_for_traces(server, before)


def check_endings(crowd: Crowd, number: int) -> None:
    """Check that every request has ended, and that nearly all of each kind ended as planned."""
    assert crowd.endings.total() == number
    words = {"answered", "half", "cut", "refused", "timeout", "worker_died", "model_not_ready"}
    assert set(crowd.endings) <= words
    kinds = Counter(plan.kind for plan in plans(number))
    assert crowd.by_kind["invalid", "refused"] > 0.8 * kinds["invalid"]
    cut = sum(number for kind, number in kinds.items() if kind.startswith("cut"))
    assert crowd.endings["cut"] > 0.9 * cut
    assert crowd.by_kind["kill", "worker_died"] > 0.5 * kinds["kill"]
    assert crowd.endings["answered"] > 0.8 * (number - cut - kinds["kill"])


def check(serve: Serve, number: int, *args: str) -> None:
    models = {name: f"zoo.turmoil:{name}" for name in (*MODELS, "stream")}
    server = serve(models, "--workers", "2", "--restart-delay-max", "1", *args)
    pid = server.pid
    asyncio.run(play_all(server, number))
    assert server.exit_code() is None
    assert server.pid == pid
    assert server.get("/v2/health/ready").status_code == 200
    records = [line for line in server.log().splitlines() if f" {pid} " in line[:60]]
    assert not [line for line in records if "deepaas.api" in line or "asyncio" in line]


@pytest.mark.long
def test_requests_of_every_kind(serve: Serve, chaos: Chaos) -> None:
    check(serve, max(LEAST_REQUESTS, 100 * chaos.rounds))


def test_requests_of_every_kind_while_workers_are_replaced(serve: Serve, chaos: Chaos) -> None:
    """The same checks hold while workers are replaced."""
    check(serve, max(LEAST_RESTLESS, 30 * chaos.rounds), *RESTLESS)
