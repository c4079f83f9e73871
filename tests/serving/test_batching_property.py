"""Calls arrive, leave, fail and kill workers in any order: each caller gets its own response."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deepaas.exceptions import NotReadyError, RequestError
from deepaas.model.loading import ModelSource
from deepaas.model.v2.exchange import Call, Reply
from deepaas.serving.guard import Guard
from deepaas.serving.options import PoolOptions, WorkerOptions
from deepaas.serving.pool import Pool
from tests.conftest import Serve, short_and_long
from tests.serving.conversation import together
from tests.support import HOST, ZOO, Server

SECONDS = 120.0
"""Seconds within which each step of an example must be over."""

PREDICT_TIMEOUT = 1.5


@dataclass(frozen=True)
class Visit:
    """One call: when it is sent, what it does, and when its caller leaves."""

    do: str
    comes_after: float = 0.0  # seconds since the previous call
    stays: float | None = None  # seconds; None: until it is answered
    deadline_seconds: float = 0.0  # the value of X-Request-Timeout
    large: bool = False

    @property
    def is_innocent(self) -> bool:
        return self.do in ("echo", "slow")


@dataclass
class Outcome:
    """The outcome of a call: a reply, an error, or neither if the caller left."""

    reply: Reply | None = None
    error: RequestError | None = None

    @property
    def code(self) -> str:
        if self.error is not None:
            return self.error.code
        return "" if self.reply is None else self.reply.code

    @property
    def is_to_be_repeated(self) -> bool:
        """Whether the call was refused because no worker was ready or free."""
        return isinstance(self.error, NotReadyError) or self.text.startswith("No worker was free")

    @property
    def text(self) -> str:
        return str(self.error) if self.error else (self.reply.reason if self.reply else "")


class Office:
    """A pool with real workers on a separate event loop; a context manager."""

    def __init__(
        self, kind: str, workers: int, *, cancel_running: bool = False, predict_timeout: float = 0
    ) -> None:
        self.kind = kind
        self._loop = asyncio.new_event_loop()
        self._directory = Path(tempfile.mkdtemp(prefix="deepaas-"))
        self._notes = Path(tempfile.mkdtemp(prefix="notes-"))
        self._numbers = itertools.count(1)
        self._guard = Guard(str(self._directory))
        worker_options = WorkerOptions(
            workers=workers, restart_delay_max=0.2, log={"level": "CRITICAL"}
        )
        options = PoolOptions(
            cancel_running=cancel_running,
            predict_timeout=predict_timeout,
            spill_dir=str(self._directory),
            worker_options=worker_options,
        )
        source = ModelSource("chaotic", f"zoo.chaotic:{kind}", str(ZOO.parent))
        self._pool = self._run(self._open(source, options))

    async def _open(self, source: ModelSource, options: PoolOptions) -> Pool:
        pool = Pool(source, options, self._guard)
        await pool.start()
        assert pool.status.is_ready, pool.status.problem
        return pool

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(work, SECONDS))

    def __enter__(self) -> Office:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._run(self._pool.stop())
        finally:
            self._guard.close()
            self._loop.close()
            shutil.rmtree(self._notes)
        assert not self._directory.exists()

    # --- callers

    def play(self, visits: list[Visit]) -> None:
        """Send all calls, and check that each has a correct outcome and that nothing is left."""
        self._run(self._play(visits))

    async def _play(self, visits: list[Visit]) -> None:
        started = []
        for visit in visits:
            if visit.comes_after:
                await asyncio.sleep(visit.comes_after)
            number = next(self._numbers)
            started.append((number, visit, asyncio.create_task(self._visit(number, visit))))
        deaths = any(visit.do in ("exit", "kill") for visit in visits)
        for number, visit, task in started:
            self._check(number, visit, await task, deaths)
        await self._wait_for_nothing()
        number = next(self._numbers)
        self._check(number, Visit("echo"), await self._visit(number, Visit("echo")), False)

    async def _visit(self, number: int, visit: Visit) -> Outcome:
        """Send the call, and send it again while the pool has no worker for it."""
        call = self._call(number, visit)
        while (outcome := await self._ask(call, visit)).is_to_be_repeated:
            await asyncio.sleep(0.02)
        return outcome

    async def _ask(self, call: Call, visit: Visit) -> Outcome:
        try:
            with self._pool.dispatcher.predict(call, visit.deadline_seconds) as prediction:
                return Outcome(await asyncio.wait_for(prediction.reply(), visit.stays))
        except asyncio.TimeoutError:
            return Outcome()
        except RequestError as error:
            return Outcome(error=error)

    def _call(self, number: int, visit: Visit) -> Call:
        content = json.dumps({"text": "x" * 200_000}).encode() if visit.large else b""
        query = {
            "id": -number if visit.do == "invalid" else number,
            "token": f"token {number}",
            "do": visit.do,
            "notes": str(self._notes),
        }
        return Call(urlencode(query), "application/json" if content else "", body=content)

    async def _wait_for_nothing(self) -> None:
        """Wait until no call is running, including calls whose callers have left."""
        while self._pool.calls:
            await asyncio.sleep(0.005)
        assert list(self._directory.iterdir()) == []

    # --- expected outcomes

    def _check(self, number: int, visit: Visit, outcome: Outcome, deaths: bool) -> None:
        self._check_tries(number, visit)
        if outcome == Outcome():
            assert visit.stays is not None
            return
        if (
            visit.deadline_seconds
            and outcome.code == "timeout"
            and "time limit of the request" in outcome.text
        ):
            return
        if self.kind == "Many" and deaths and outcome.code == "worker_died":
            return  # it shared a worker that died
        if visit.is_innocent:
            assert outcome.reply is not None, outcome
            assert outcome.reply.status == 200, outcome
            predicted = json.loads(outcome.reply.body)["predictions"]
            assert predicted == [number, f"token {number}", 200_000 * visit.large]
        else:
            self._check_guilty(number, visit, outcome)

    def _check_guilty(self, number: int, visit: Visit, outcome: Outcome) -> None:
        match visit.do:
            case "invalid":
                assert outcome.reply is not None, outcome
                assert outcome.reply.status == 422
                body = json.loads(outcome.reply.body)
                assert body == {"id": [f"call -{number} is invalid"]}
            case "short" if self.kind == "Batch":
                assert outcome.code == "predict_failed"
                assert outcome.text.endswith("predict_batch returned 0 results for 1 calls")
            case "raise" | "item" | "short":
                assert outcome.code == "predict_failed"
                assert outcome.text == f"ValueError: call {number} is bad"
            case "exit":
                assert outcome.code == "worker_died"
                assert f"exited with code {10 + number % 200} " in outcome.text
            case "kill":
                assert outcome.code == "worker_died"
                assert "SIGKILL" in outcome.text
            case "hang":
                assert outcome.code == "timeout"
                assert outcome.text == f"The prediction took longer than {PREDICT_TIMEOUT:g} s"
            case _:
                raise AssertionError(visit)

    def _check_tries(self, number: int, visit: Visit) -> None:
        """Check that no call was begun too often.

        A call to a batching model may begin three times: with others, and then twice alone, if the
        batch first raised and then died. Any other call begins at most once.
        """
        path = self._notes / str(number)
        tries = len(path.read_text()) if path.exists() else 0
        assert tries <= (3 if self.kind == "Batch" else 1), f"call {number} was begun {tries} times"


_short = st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.005, 0.02])
_doings = ["echo"] * 6 + ["slow"] * 2 + ["invalid", "raise", "item", "short"]


def visits(*more: str) -> st.SearchStrategy[list[Visit]]:
    one = st.builds(
        Visit,
        do=st.sampled_from([*_doings, *more]),
        comes_after=_short,
        stays=st.none() | st.none() | st.sampled_from([0.0, 0.0, 0.001, 0.004, 0.01, 0.03]),
        deadline_seconds=st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.01, 0.1, 30.0]),
        large=st.sampled_from([False, False, False, True]),
    )
    return st.lists(one, min_size=1, max_size=25)


def examples(count: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    phases = [Phase.explicit, Phase.reuse, Phase.generate]  # no shrinking: slow when calls hang
    return settings(max_examples=count, deadline=None, suppress_health_check=checks, phases=phases)


kinds = pytest.mark.parametrize("kind", ["One", "Many", "Batch"])
workers = pytest.mark.parametrize("workers", short_and_long([2], [1]))


@kinds
@pytest.mark.parametrize(
    ("workers", "cancel_running"), short_and_long([(2, False)], [(1, False), (1, True), (2, True)])
)
def test_everyone_gets_what_is_its_own(kind: str, workers: int, cancel_running: bool) -> None:
    with Office(kind, workers, cancel_running=cancel_running) as office:
        examples(30)(given(visits())(office.play))()


@kinds
@workers
def test_everyone_gets_what_is_its_own_while_workers_die(kind: str, workers: int) -> None:
    with Office(kind, workers) as office:
        examples(8)(given(visits("exit", "kill"))(office.play))()


@kinds
@pytest.mark.parametrize("cancel_running", [False, True])
def test_everyone_gets_what_is_its_own_while_some_hang(kind: str, cancel_running: bool) -> None:
    office = Office(kind, 2, cancel_running=cancel_running, predict_timeout=PREDICT_TIMEOUT)
    with office:

        @examples(2)
        @given(visits(), visits("exit"), st.booleans())
        def check(before: list[Visit], after: list[Visit], leaves: bool) -> None:
            hanging = Visit("hang", stays=0.1 if leaves else None)
            office.play([*before[:8], hanging, *after[:8]])

        check()


# --- the same over HTTP

LONGEST = 20.0


class Client:
    """A client that sends calls on one connection, always with the same head."""

    def __init__(self, server: Server, notes: Path, seed: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, server.port, timeout=LONGEST)
        self._notes = str(notes)
        self._random = random.Random(seed)
        self._first = 1_000_000 + 10_000 * seed

    def run(self, count: int, doings: Sequence[str]) -> list[str]:
        """Send `count` calls, and return the outcome of each. Each must be the call's own."""
        try:
            return [self._ask(self._first + n, self._random.choice(doings)) for n in range(count)]
        finally:
            self._connection.close()

    def _ask(self, number: int, do: str) -> str:
        while True:
            status, body = self._send(number, do)
            if status != 503:
                return self._judge(number, do, status, body)

    def _send(self, number: int, do: str) -> tuple[int, Any]:
        sent = {"id": number, "token": f"token {number}", "do": do, "notes": self._notes}
        body = json.dumps(sent)
        headers = {"Content-Type": "application/json"}
        path = "/v2/models/chaotic/predict/"
        self._connection.request("POST", path, body=body, headers=headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def _judge(self, number: int, do: str, status: int, body: Any) -> str:
        if status == 200:
            assert do == "echo"
            assert body["predictions"] == [number, f"token {number}", 0]
            return "answered"
        if body["code"] == "worker_died":
            if do == "exit" and f"exited with code {10 + number % 200} " in body["message"]:
                return "died"
            return "died with another"
        assert do in ("raise", "item")
        assert body["message"] == f"ValueError: call {number} is bad"
        assert body["code"] == "predict_failed"
        return "failed"


@kinds
def test_everyone_gets_what_is_its_own_over_kept_connections(
    serve: Serve, tmp_path: Path, kind: str
) -> None:
    models = {"chaotic": f"zoo.chaotic:{kind}"}
    server = serve(models, "--workers", "2", "--restart-delay-max", "1")
    doings = ["echo"] * 60 + ["raise", "item"] * 4 + ["exit"]
    clients = [Client(server, tmp_path, seed) for seed in range(8)]
    outcomes = together([partial(client.run, 60, doings) for client in clients])
    counts = Counter(itertools.chain.from_iterable(outcomes))
    assert counts["answered"] > 300
    if kind != "Many":
        assert "died with another" not in counts
