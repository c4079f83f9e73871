"""Arguments of jobs are validated by a free worker, or else by a validation worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import uvloop

from deepaas.exceptions import (
    NotReadyError,
    PredictTimeoutError,
    QueueFullError,
    StoppingError,
    WorkerDiedError,
)
from deepaas.file_part import FilePart
from deepaas.model.v2.exchange import Call, Reply
from deepaas.protocol import messages
from deepaas.serving import pool as pool_module
from deepaas.serving import validation_worker as validation_module
from deepaas.serving.guard import MARK
from deepaas.serving.options import WorkerOptions
from deepaas.serving.pool import Pool
from tests.serving.inside import House

new_loop = uvloop.new_event_loop
"""The tests and their houses use the same kind of event loop as real servers."""

MANNERS = ["one", "many", "batch"]


class Place:
    """The directory through which a test and the model communicate."""

    def __init__(self, house: House, directory: Path) -> None:
        self._house = house
        self.path = directory

    def open(self) -> None:
        (self.path / "gate").touch()

    async def until(self, event: str, times: int = 1) -> list[int]:
        """Wait until the event has happened `times` times; return the pids of its processes."""
        file = self.path / event
        await self._house.until(lambda: len(_lines(file)) >= times, f"{event} {times} times")
        return [int(line) for line in _lines(file)]


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(params=MANNERS, scope="module")
async def shared(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    async with House(f"zoo.train_args:{request.param}") as house:
        yield house


@pytest.fixture
def each(shared: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """A model of each kind, for tests that do not change it and need no validation worker."""
    monkeypatch.setattr(pool_module, "VALIDATE_SECONDS", 30.0)
    return shared


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A model for one test, which may change it."""
    async with House("zoo.train_args:one") as house:
        yield house
    assert not validation_workers(house), "a validation worker was left running"


@pytest.fixture
def place(house: House, tmp_path: Path) -> Place:
    return Place(house, tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a validation worker after a short wait, so that tests are fast."""
    monkeypatch.setattr(pool_module, "VALIDATE_SECONDS", 0.05)


def call(check: str = "train", **arguments: Any) -> Call:
    return Call("", "application/json", body=orjson.dumps(arguments), validate=check)


def shown(reply: Reply) -> dict[str, Any]:
    """Return the readable form of the arguments."""
    assert (reply.status, reply.fd, reply.code) == (200, -1, ""), reply
    line, newline, _ = reply.body.partition(b"\n")
    assert newline == b"\n"
    told: dict[str, Any] = orjson.loads(line)
    assert set(told) == {"args"}
    arguments: dict[str, Any] = told["args"]
    return arguments


def pickled(reply: Reply) -> bytes:
    return reply.body.partition(b"\n")[2]


def checked_in(reply: Reply) -> int:
    """Return the pid of the process that validated the arguments."""
    pid: int = shown(reply)["does"][0]
    return pid


def validation_workers(house: House) -> list[int]:
    """Return the pids of the running validation workers."""
    return [one.pid for one in psutil.Process().children() if _is_validation_worker(one, house)]


def _is_validation_worker(process: psutil.Process, house: House) -> bool:
    with contextlib.suppress(psutil.Error):
        command = process.cmdline()  # empty if it has ended
        if command and command[-1].endswith("[validation]"):
            mark = f"{Path(house.pool.options.spill_dir).name}/"
            return process.environ()[MARK].startswith(mark)
    return False


async def predict(pool: Pool, **arguments: Any) -> Any:
    body = orjson.dumps(arguments)
    with pool.dispatcher.predict(Call("", "application/json", body=body)) as prediction:
        reply = await prediction.reply()
    assert reply.status == 200, reply.reason
    return orjson.loads(reply.body)["predictions"]


@contextlib.asynccontextmanager
async def working(house: House, place: Place) -> AsyncIterator[None]:
    """Keep the model's only worker busy with a call during the block."""
    task = asyncio.create_task(predict(house.pool, place=str(place.path)))
    try:
        await place.until("working")
        yield
    finally:
        place.open()
        await task


# --- by a free worker


async def test_free_worker_validates(each: House) -> None:
    reply = await each.pool.validate(call(epochs="3", text="ä"))
    pid = checked_in(reply)
    assert [pid] == each.pool.pids
    assert shown(reply) == {"does": [pid, 1], "epochs": 3, "text": "ä"}
    assert pickle.loads(pickled(reply)) == {"does": [pid, 1], "epochs": 3, "text": "ä"}
    assert not validation_workers(each)


async def test_arguments_of_predict_are_validated_too(each: House) -> None:
    reply = await each.pool.validate(call("predict", number="7"))
    assert shown(reply) == {"place": "", "number": 7}
    assert pickle.loads(pickled(reply)) == {"place": "", "number": 7}


async def test_nothing_is_called(each: House, tmp_path: Path) -> None:
    """A call would wait at the gate."""
    reply = await each.pool.validate(call("predict", place=str(tmp_path)))
    assert shown(reply)["place"] == str(tmp_path)
    assert not os.listdir(tmp_path)


async def test_secret_is_masked_for_people_and_kept_for_the_function(each: House) -> None:
    reply = await each.pool.validate(call(key="open sesame"))
    assert shown(reply)["key"] == "********"
    assert b"sesame" not in reply.body.partition(b"\n")[0]
    assert pickle.loads(pickled(reply))["key"] == "open sesame"


async def test_file_is_shown_by_its_names(each: House, tmp_path: Path) -> None:
    part = FilePart(str(tmp_path / "upload"), "text/csv", "points.csv")
    form: list[tuple[str, str | FilePart]] = [("data", part), ("epochs", "2")]
    given = Call("", "multipart/form-data", form=form, validate="train")
    reply = await each.pool.validate(given)
    assert shown(reply)["data"] == ["data", "text/csv", "points.csv"]
    assert pickle.loads(pickled(reply))["data"].filename == part.path


@pytest.mark.parametrize(
    ("arguments", "messages_of"),
    [
        ({"epochs": 0}, {"epochs": ["Must be greater than or equal to 1."]}),
        (
            {"epochs": "x", "text": 1},
            {"epochs": ["Not a valid integer."], "text": ["Not a valid string."]},
        ),
    ],
)
async def test_invalid_arguments_are_told(each: House, arguments: Any, messages_of: Any) -> None:
    reply = await each.pool.validate(call(**arguments))
    assert reply.status == 422
    assert orjson.loads(reply.body) == messages_of


async def test_unreadable_body_is_told(each: House) -> None:
    given = Call("", "application/json", body=b"{", validate="train")
    reply = await each.pool.validate(given)
    assert (reply.status, orjson.loads(reply.body)) == (400, {"json": ["Invalid JSON body."]})


@pytest.mark.parametrize(
    ("does", "reason"),
    [("raise", "ValueError: the field is broken"), ("base", "KeyboardInterrupt")],
)
async def test_field_that_raises_is_told(each: House, does: str, reason: str) -> None:
    pids = each.pool.pids
    reply = await each.pool.validate(call(does=does))
    assert (reply.status, reply.reason) == (500, reason)
    assert each.pool.pids == pids
    assert await predict(each.pool) == [pids[0], 1]


@pytest.mark.parametrize("size", [messages.MAX_PACKET, 1_000_000, messages.MAX_INLINE, 10_000_000])
async def test_large_arguments_come_back_whole(each: House, size: int) -> None:
    reply = await each.pool.validate(call(text="x" * size))
    assert shown(reply)["text"] == f"… ({size + 2} bytes)"
    assert pickle.loads(pickled(reply))["text"] == "x" * size
    assert not spilled(each)


async def test_arguments_too_large_to_pickle_are_shown_alone(each: House) -> None:
    reply = await each.pool.validate(call(text="x" * 17_000_000))
    assert shown(reply)["text"] == "… (17000002 bytes)"
    assert pickled(reply) == b""


def content_of_file(reply: Reply) -> bytes:
    with open(reply.fd, "rb") as file:
        file.seek(0)
        return file.read()


async def test_many_messages_are_all_told(each: House) -> None:
    """The messages are too large for a reply, so they are sent in a file."""
    reply = await each.pool.validate(call(numbers=["x"] * 40_000))
    assert (reply.status, reply.body) == (422, b"")
    assert len(orjson.loads(content_of_file(reply))["numbers"]) == 40_000


async def test_check_counts_as_no_call_afterwards(each: House) -> None:
    await asyncio.gather(*(each.pool.validate(call(epochs=n + 1)) for n in range(50)))
    await each.until(lambda: not each.pool.calls, "an end to all checks")


async def test_checks_and_predictions_do_not_mix_up(each: House) -> None:
    checks = [each.pool.validate(call(epochs=n + 1)) for n in range(20)]
    calls = [predict(each.pool, number=n) for n in range(20)]
    found = await asyncio.gather(*checks, *calls)
    assert [shown(reply)["epochs"] for reply in found[:20]] == list(range(1, 21))
    assert found[20:] == [[each.pool.pids[0], 1]] * 20


# --- models of other kinds


async def answer_of(target: str, check: str = "train", **arguments: Any) -> Reply:
    async with House(target) as house:
        reply: Reply = await house.pool.validate(call(check, **arguments))
        assert house.pool.status.is_ready
        return reply


async def test_model_that_does_not_train() -> None:
    reply = await answer_of("zoo.gated")
    assert (reply.status, reply.code) == (501, "not_implemented")
    assert reply.reason == "Not implemented by underlying model"


async def test_model_that_trains_without_arguments() -> None:
    reply = await answer_of("zoo.train_args_none", anything=1)
    assert (shown(reply), pickle.loads(pickled(reply))) == ({}, {})


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        ("zoo.train_args_fail", "RuntimeError: the data set has gone"),
        ("zoo.train_args_exit", "SystemExit: no data"),
    ],
)
async def test_model_that_cannot_say_its_arguments(model: str, cause: str) -> None:
    async with House(model) as house:
        reply = await house.pool.validate(call())
        assert (reply.status, reply.code) == (500, "train_failed")
        assert reply.reason == f"get_train_args failed: {cause}"
        assert await predict(house.pool) == "predicted"
        assert "train" not in house.pool.description
        assert house.pool.description["has"] == ["predict", "train"]


async def test_what_cannot_be_pickled_is_shown_alone() -> None:
    reply = await answer_of("zoo.train_args_objects", function=1, rate=0.5)
    assert set(shown(reply)) == {"function", "rate"}
    assert shown(reply)["rate"] == 0.5
    assert pickled(reply) == b""


async def test_schema_that_makes_no_arguments_is_told() -> None:
    reply = await answer_of("zoo.train_args_objects", whole=True, rate=0.5)
    assert reply.status == 500
    assert "Options" in reply.reason


# --- by a validation worker


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("manner", MANNERS)
async def test_validation_worker_validates_while_the_worker_works(
    manner: str, tmp_path: Path
) -> None:
    async with House(f"zoo.train_args:{manner}") as house:
        place = Place(house, tmp_path)
        async with working(house, place):
            reply = await house.pool.validate(call(epochs=3))
            assert [checked_in(reply)] == validation_workers(house)
            assert shown(reply)["does"][1] == 0, "it has been warmed"
            assert shown(reply)["epochs"] == 3
            assert pickle.loads(pickled(reply))["epochs"] == 3
        assert len(house.pool.pids) == 1
    assert not validation_workers(house)


async def test_worker_that_is_free_in_time_validates(house: House, place: Place) -> None:
    async with working(house, place):
        validating = asyncio.create_task(house.pool.validate(call()))
        await house.until(lambda: house.pool.calls == 2, "the check in the queue")
        place.open()
        assert [checked_in(await validating)] == house.pool.pids
    assert not validation_workers(house)


@pytest.mark.usefixtures("impatient")
async def test_one_validation_worker_validates_all(house: House, place: Place) -> None:
    async with working(house, place):
        checks = [house.pool.validate(call(epochs=number)) for number in range(1, 21)]
        replies = await asyncio.gather(*checks)
        assert {checked_in(reply) for reply in replies} == set(validation_workers(house))
        assert [shown(reply)["epochs"] for reply in replies] == list(range(1, 21))
        assert len(validation_workers(house)) == 1


@pytest.mark.usefixtures("impatient")
async def test_validation_worker_tells_what_is_invalid(house: House, place: Place) -> None:
    async with working(house, place):
        reply = await house.pool.validate(call(epochs=0))
        assert reply.status == 422
        assert list(orjson.loads(reply.body)) == ["epochs"]


@pytest.mark.usefixtures("impatient")
async def test_validation_worker_takes_large_arguments_and_keeps_no_file(
    house: House, place: Place
) -> None:
    async with working(house, place):
        reply = await house.pool.validate(call(text="x" * 3_000_000))
        assert [checked_in(reply)] == validation_workers(house)
        assert pickle.loads(pickled(reply))["text"] == "x" * 3_000_000
        await house.until(lambda: not spilled(house), "no file left")


def spilled(house: House) -> list[str]:
    """Return the names of the spill files of large calls."""
    return os.listdir(house.pool.options.spill_dir)


@pytest.mark.usefixtures("impatient")
async def test_worker_that_dies_of_a_check_does_not_answer_for_it(house: House) -> None:
    """The validation worker tries the check and dies too. The worker is replaced."""
    [pid] = house.pool.pids
    with pytest.raises(WorkerDiedError, match=r"exited with code 3 while it validated"):
        await house.pool.validate(call(does="die"))
    await house.until(lambda: house.pool.pids not in ([], [pid]), "a new worker")
    assert not validation_workers(house)
    assert [checked_in(await house.pool.validate(call()))] == house.pool.pids


async def test_validation_worker_that_dies_is_replaced(house: House) -> None:
    async with suspended(house):
        first = checked_in(await house.pool.validate(call()))
        dying = asyncio.create_task(house.pool.validate(call(does="die")))
        following = asyncio.create_task(house.pool.validate(call(epochs=2)))
        with pytest.raises(WorkerDiedError, match=r"exited with code 3 while it validated"):
            await dying
        reply = await following
        assert shown(reply)["epochs"] == 2
        assert validation_workers(house) == [checked_in(reply)] != [first]


async def test_validation_worker_that_is_killed_while_it_checks(house: House, place: Place) -> None:
    async with suspended(house):
        validating = asyncio.create_task(house.pool.validate(begin(place)))
        [pid] = await place.until("begun")
        assert validation_workers(house) == [pid]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match=r"was ended by signal 9"):
            await validating


def signalled(pid: int, signum: int) -> None:
    """Stop or kill a process, and return when this is done and its parent has not yet reaped it."""
    os.kill(pid, signum)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


async def test_check_that_a_validation_worker_had_not_begun_goes_to_the_next(house: House) -> None:
    async with suspended(house):
        first = checked_in(await house.pool.validate(call()))
        signalled(first, signal.SIGSTOP)
        given = call(epochs=2, text="x" * messages.MAX_PACKET)
        validating = asyncio.create_task(house.pool.validate(given))
        await house.until(lambda: spilled(house), "the check")
        os.kill(first, signal.SIGKILL)
        reply = await validating
        assert shown(reply)["epochs"] == 2
        assert validation_workers(house) == [checked_in(reply)] != [first]
        assert not spilled(house)


async def test_validation_worker_that_dies_with_nothing_to_do_harms_nobody(house: House) -> None:
    async with suspended(house):
        first = checked_in(await house.pool.validate(call()))
        signalled(first, signal.SIGKILL)
        second = checked_in(await house.pool.validate(call()))
        assert validation_workers(house) == [second] != [first]


async def test_validation_worker_whose_model_closes_its_sockets_is_replaced(house: House) -> None:
    async with suspended(house):
        with pytest.raises(WorkerDiedError):
            await house.pool.validate(call(does="close"))
        assert shown(await house.pool.validate(call(epochs=2)))["epochs"] == 2


@contextlib.asynccontextmanager
async def suspended(house: House) -> AsyncIterator[None]:
    """Suspend the model during the block, so that only a validation worker can validate."""
    await house.pool.suspend("is being trained", 5)
    yield
    await house.pool.resume()


def begin(place: Place) -> Call:
    """Return a check that waits until the gate is open."""
    return call(does=f"begin {place.path}")


async def test_suspended_model_validates(house: House) -> None:
    async with suspended(house):
        reply = await house.pool.validate(call(epochs=3))
        assert [checked_in(reply)] == validation_workers(house)
        assert shown(reply)["epochs"] == 3
        assert house.pool.status.is_suspended
    assert [checked_in(await house.pool.validate(call()))] == house.pool.pids


async def test_check_that_a_suspension_cuts_short_is_made_by_the_validation_worker(
    house: House, place: Place
) -> None:
    [worker] = house.pool.pids
    validating = asyncio.create_task(house.pool.validate(begin(place)))
    await place.until("begun")
    await house.pool.suspend("is being trained", 0.1)
    pids = await place.until("begun", times=2)
    place.open()
    assert pids == [worker, checked_in(await validating)]
    assert validation_workers(house) == pids[1:]


async def test_check_that_waits_for_a_worker_that_is_suspended_is_made_by_the_validation_worker(
    house: House, place: Place
) -> None:
    async with working(house, place):
        validating = asyncio.create_task(house.pool.validate(call()))
        await house.until(lambda: house.pool.calls == 2, "the check in the queue")
        suspending = asyncio.create_task(house.pool.suspend("is being trained", 30))
        assert [checked_in(await validating)] == validation_workers(house)
    await suspending


async def test_validation_worker_ends_when_it_has_nothing_to_do(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_module, "IDLE_SECONDS", 0.05)
    async with suspended(house):
        first = checked_in(await house.pool.validate(call()))
        await house.until(lambda: not validation_workers(house), "no validation worker")
        second = checked_in(await house.pool.validate(call()))
        assert second != first


async def test_check_that_comes_as_the_validation_worker_ends_is_answered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_module, "IDLE_SECONDS", 0.001)
    async with suspended(house):
        for number in range(1, 11):
            reply = await house.pool.validate(call(epochs=number))
            assert shown(reply)["epochs"] == number
            await asyncio.sleep(0.0005 * number)


async def test_validation_worker_ends_with_the_pool_while_it_checks(
    house: House, place: Place
) -> None:
    await house.pool.suspend("is being trained", 5)
    first = asyncio.create_task(house.pool.validate(begin(place)))
    await place.until("begun")
    second = asyncio.create_task(house.pool.validate(call()))
    await asyncio.sleep(0)
    await house.pool.stop()
    assert not validation_workers(house)
    for task in (first, second):
        with pytest.raises(StoppingError):
            await task


async def test_validation_worker_ends_with_the_pool_while_it_starts(house: House) -> None:
    await house.pool.suspend("is being trained", 5)
    validating = asyncio.create_task(house.pool.validate(call()))
    await house.until(lambda: validation_workers(house), "a validation worker")
    await house.pool.stop()
    assert not validation_workers(house)
    with pytest.raises(StoppingError):
        await validating


async def test_pool_that_is_killed_ends_its_validation_worker_at_once(
    house: House, place: Place
) -> None:
    await house.pool.suspend("is being trained", 5)
    validating = asyncio.create_task(house.pool.validate(begin(place)))
    [pid] = await place.until("begun")
    house.pool.kill()
    with pytest.raises(StoppingError):
        await validating
    await house.until(
        lambda: pid not in validation_workers(house), "an end to the validation worker"
    )
    with pytest.raises(StoppingError):
        await house.pool.validate(call())
    assert not validation_workers(house)


async def test_pool_that_drains_validates_no_more(house: House) -> None:
    house.pool.drain()
    with pytest.raises(StoppingError, match="about to stop"):
        await house.pool.validate(call())


async def test_check_that_nobody_waits_for_is_not_made(house: House, place: Place) -> None:
    async with suspended(house):
        first = asyncio.create_task(house.pool.validate(begin(place)))
        await place.until("begun")
        left = call(does=f"begin {place.path}", text="x" * messages.MAX_PACKET)
        second = asyncio.create_task(house.pool.validate(left))
        await house.until(lambda: spilled(house), "the file of the check")
        second.cancel()
        await asyncio.wait([second])
        assert not spilled(house)
        place.open()
        await first
        assert shown(await house.pool.validate(call(epochs=2)))["epochs"] == 2
        assert len(await place.until("begun")) == 1


async def test_check_that_goes_on_though_nobody_waits_is_ended(
    house: House, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_module, "LEAVE_SECONDS", 0.05)
    async with suspended(house):
        first = asyncio.create_task(house.pool.validate(begin(place)))
        [pid] = await place.until("begun")
        following = asyncio.create_task(house.pool.validate(call()))
        first.cancel()
        assert checked_in(await following) != pid
        assert pid not in validation_workers(house)


async def test_check_that_ends_soon_is_let_finish(house: House, place: Place) -> None:
    async with suspended(house):
        first = asyncio.create_task(house.pool.validate(begin(place)))
        [pid] = await place.until("begun")
        first.cancel()
        await asyncio.wait([first])
        place.open()
        assert checked_in(await house.pool.validate(call())) == pid


async def test_caller_that_leaves_does_not_end_the_worker(house: House, place: Place) -> None:
    validating = asyncio.create_task(house.pool.validate(begin(place)))
    [pid] = await place.until("begun")
    validating.cancel()
    await asyncio.wait([validating])
    place.open()
    assert await predict(house.pool) == [pid, 1]


@pytest.mark.usefixtures("impatient")
async def test_check_that_takes_a_worker_long_is_made_by_the_validation_worker(
    house: House, place: Place
) -> None:
    [worker] = house.pool.pids
    validating = asyncio.create_task(house.pool.validate(begin(place)))
    pids = await place.until("begun", times=2)
    place.open()
    assert pids == [worker, checked_in(await validating)]
    assert house.pool.pids == [worker]
    assert await predict(house.pool) == [worker, 1]


async def test_check_has_as_long_as_a_start(
    house: House, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_module, "IDLE_SECONDS", 60.0)
    await house.pool.suspend("is being trained", 5)
    await house.pool.validate(call())  # starts the validation worker, untimed
    house.pool._validation._options = WorkerOptions(start_timeout=0.5, log={"level": "CRITICAL"})
    with pytest.raises(PredictTimeoutError, match=r"were not validated in 0\.5 s"):
        await house.pool.validate(begin(place))
    await house.until(lambda: not validation_workers(house), "an end to the validation worker")


async def test_no_more_than_a_thousand_checks_wait(house: House, place: Place) -> None:
    async with suspended(house):
        first = asyncio.create_task(house.pool.validate(begin(place)))
        await place.until("begun")
        validate = house.pool.validate
        waiting = [asyncio.create_task(validate(call(epochs=n + 1))) for n in range(1000)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="1000 requests wait"):
            await validate(call(text="x" * messages.MAX_PACKET))
        assert not spilled(house)
        place.open()
        await first
        replies = await asyncio.gather(*waiting)
        assert [shown(reply)["epochs"] for reply in replies] == list(range(1, 1001))


async def test_queue_of_predictions_that_is_full_does_not_hinder(tmp_path: Path) -> None:
    async with House("zoo.train_args:one", options={"queue_size": 0}) as house:
        place = Place(house, tmp_path)
        async with working(house, place):
            assert [checked_in(await house.pool.validate(call()))] == validation_workers(house)


CHANGING = """\
from webargs import fields

def predict(**kwargs):
    return "predicted"

def get_train_args():
    return {"old": fields.Str(load_default="version")}

def train(**kwargs):
    pass
"""


@pytest.fixture
async def changing(tmp_path: Path) -> AsyncIterator[House]:
    """A model whose file can be changed."""
    (tmp_path / "changing.py").write_text(CHANGING)
    async with House(str(tmp_path / "changing.py"), tmp_path) as house:
        yield house
    assert not validation_workers(house)


async def test_model_that_has_become_unloadable_is_told(changing: House) -> None:
    await changing.pool.suspend("is being trained", 5)
    (changing.folder / "changing.py").write_text("raise RuntimeError('no weights')")
    with pytest.raises(NotReadyError, match="cannot be imported: RuntimeError: no weights"):
        await changing.pool.validate(call())
    assert not validation_workers(changing)
    (changing.folder / "changing.py").write_text(CHANGING)
    assert shown(await changing.pool.validate(call())) == {"old": "version"}


@pytest.mark.usefixtures("impatient")
async def test_validation_worker_uses_what_was_loaded_last(changing: House) -> None:
    """This is also true after a suspension, which may have changed the weights."""
    await changing.pool.suspend("is being trained", 5)
    assert shown(await changing.pool.validate(call())) == {"old": "version"}
    (changing.folder / "changing.py").write_text(CHANGING.replace("old", "newer"))
    await changing.pool.resume()
    assert shown(await changing.pool._validation.validate(call())) == {"newer": "version"}
    (changing.folder / "changing.py").write_text(CHANGING.replace("old", "newest"))
    await changing.pool.reload()
    assert shown(await changing.pool._validation.validate(call())) == {"newest": "version"}


# --- a pool that starts without workers


class Suspended(House):
    """A house whose model is suspended before it starts and resumed afterwards."""

    described: dict[str, Any]  # the description before the first worker
    validation_workers: list[int]

    async def __aenter__(self) -> Suspended:
        await super().__aenter__()
        return self

    async def _open(self) -> None:
        start = Pool.start

        async def suspend_first(pool: Pool) -> None:
            await pool.suspend("is being trained", 5)
            await start(pool)
            self.described = dict(pool.description)
            self.validation_workers = validation_workers(self)
            await self.before_resuming()
            await pool.resume()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pool, "start", suspend_first)
            await super()._open()

    async def before_resuming(self) -> None: ...


async def test_validation_worker_describes_what_starts_suspended() -> None:
    async with Suspended("zoo.train_args:one") as house:
        assert house.described["has"] == ["predict", "train"]
        assert house.described == house.pool.description
        assert len(house.validation_workers) == 1
        assert await predict(house.pool) == [house.pool.pids[0], 1]


class Mended(Suspended):
    """A suspended house whose model can be loaded only just before it resumes."""

    async def before_resuming(self) -> None:
        (self.folder / "changing.py").write_text(CHANGING)


async def test_unloadable_model_that_starts_suspended_has_no_description_yet(
    tmp_path: Path,
) -> None:
    path = tmp_path / "changing.py"
    path.write_text("raise RuntimeError('no weights')")
    async with Mended(str(path), tmp_path) as house:
        assert (house.described, house.validation_workers) == ({}, [])
        assert house.pool.description["has"] == ["predict", "train"]
