"""Models with `predict_batch`: which calls share a batch, and which of them fail together."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.serving.conversation import Caller, lines, settle, together
from tests.serving.processes import health, lives, pids, wait_ready
from tests.support import Part, Server, multipart, predictions, run_program, wait_until

MODEL = "batched"
MODELS = {"batched": "zoo.batched:Batched", "both": "zoo.batched:WithPredict"}
SIZE = 8


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    """A batching server: batches of up to 8, which wait up to 50 ms for more calls."""
    env = {"ZOO_BATCH_SIZE": str(SIZE), "ZOO_BATCH_WAIT_MS": "50"}
    return serve_all(MODELS | {"slowly": "zoo.batched:AsyncBatched"}, env=env)


class Queue:
    """Calls queued behind one that keeps the worker busy, so that it finds them all at once."""

    def __init__(self, server: Server, directory: Path, model: str = MODEL) -> None:
        self.server = server
        self.note = directory / "note"
        self._gate = directory / "gate"
        self._model = model
        self._callers = contextlib.ExitStack()

    def call(self, number: int, **parameters: Any) -> Caller:
        """Send a call with these arguments, and with `headers` and `content` if given."""
        sent = {"id": number, "note": str(self.note), **parameters}
        return self._callers.enter_context(Caller(self.server, self._model, **sent))

    def hold(self) -> Caller:
        """Send the call that keeps the worker busy until `let_go`."""
        before = len(self.batches())
        first = self.call(0, gate=str(self._gate))
        wait_until(lambda: self.batches()[before:] == [[0]], within=5, what="the first call")
        return first

    def let_go(self) -> None:
        settle(self.server)
        self._gate.touch()

    def run(self, *calls: dict[str, Any]) -> list[Caller]:
        """Send calls 1, 2, ... with these arguments, and then let the worker go on."""
        first = self.hold()
        made = [self.call(number, **one) for number, one in enumerate(calls, 1)]
        self.let_go()
        assert first.predicted()["size"] == 1
        return made

    def noted(self) -> list[dict[str, Any]]:
        return lines(self.note)

    def batches(self) -> list[list[int]]:
        """The ids of the calls in each batch, in the order of the batches."""
        return [line["ids"] for line in self.noted()]

    def close(self) -> None:
        self._gate.touch()
        self._callers.close()


@pytest.fixture
def queue(server: Server, tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(server, tmp_path)
    yield queue
    queue.close()


ECHO: dict[str, Any] = {}


def do(what: str, **parameters: Any) -> dict[str, Any]:
    return {"do": what, **parameters}


# --- which calls share a batch


def test_calls_that_wait_come_together(queue: Queue) -> None:
    made = queue.run(*[ECHO] * 5)
    answers = [one.predicted() for one in made]
    assert [one["id"] for one in answers] == [1, 2, 3, 4, 5]
    assert [one["size"] for one in answers] == [5] * 5
    assert queue.batches() == [[0], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize("count", [SIZE - 1, SIZE, SIZE + 1, 3 * SIZE + 1])
def test_batch_is_never_larger_than_it_may_be(queue: Queue, count: int) -> None:
    made = queue.run(*[ECHO] * count)
    assert [one.predicted()["id"] for one in made] == list(range(1, count + 1))
    sizes = [len(ids) for ids in queue.batches()[1:]]
    full, rest = divmod(count, SIZE)
    assert sizes == [SIZE] * full + [rest] * bool(rest)


def test_many_callers_at_once_share_batches(server: Server, tmp_path: Path) -> None:
    note = tmp_path / "note"

    def call(number: int) -> dict[str, Any]:
        sent = {"id": number, "note": str(note), "do": "slow"}
        answer: dict[str, Any] = predictions(server.predict(MODEL, params=sent))
        assert answer["id"] == number
        return answer

    together([partial(call, number) for number in range(4 * SIZE)])
    batches = [line["ids"] for line in lines(note)]
    assert sorted(itertools.chain(*batches)) == list(range(4 * SIZE))
    assert max(map(len, batches)) <= SIZE
    assert len(batches) <= 2 * SIZE  # otherwise they came one by one


def test_two_models_of_one_server_do_not_mix(server: Server, tmp_path: Path) -> None:
    queues = [Queue(server, tmp_path / name, name) for name in MODELS]
    for one in queues:
        one.note.parent.mkdir()
    for one in queues:
        made = one.run(ECHO, ECHO)
        assert [caller.predicted()["size"] for caller in made] == [2, 2]
        one.close()


# --- waiting for more


LONG = {"ZOO_BATCH_SIZE": str(SIZE), "ZOO_BATCH_WAIT_MS": "1000"}


@pytest.fixture(scope="module")
def patient(serve_all: Serve) -> Server:
    """A server whose batches may wait one second."""
    return serve_all(MODELS, env=LONG)


def test_lone_caller_does_not_wait(serve: Serve) -> None:
    """A batch may wait for longer than a test may take."""
    server = serve(MODELS, env={**LONG, "ZOO_BATCH_WAIT_MS": "3600000"})
    for number in range(20):
        assert predictions(server.predict(MODEL, params={"id": number}))["size"] == 1


def test_batch_waits_while_more_can_be_expected(patient: Server, tmp_path: Path) -> None:
    """Two calls have just run together, so the first one waits until the second has arrived."""
    queue = Queue(patient, tmp_path)
    for caller in queue.run(ECHO, ECHO):
        caller.predicted()
    one = queue.call(3)
    settle(patient)
    other = queue.call(4)
    assert [one.predicted()["size"], other.predicted()["size"]] == [2, 2]
    queue.close()


def test_batch_that_nobody_joins_leaves_when_the_wait_is_over(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, env=LONG | {"ZOO_BATCH_WAIT_MS": "200"})
    queue = Queue(server, tmp_path)
    for caller in queue.run(ECHO, ECHO):
        caller.predicted()
    assert queue.call(3).predicted()["size"] == 1
    assert queue.batches() == [[0], [1, 2], [3]]
    queue.close()


def test_wait_of_zero_takes_what_is_there(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, env=LONG | {"ZOO_BATCH_WAIT_MS": "0"})
    queue = Queue(server, tmp_path)
    assert [one.predicted()["size"] for one in queue.run(ECHO, ECHO, ECHO)] == [3] * 3
    queue.close()


# --- options


def sizes(server: Server, directory: Path, model: str, count: int) -> list[int]:
    """Return the sizes of the batches into which this many waiting calls are grouped."""
    queue = Queue(server, directory, model)
    for caller in queue.run(*[ECHO] * count):
        caller.predicted()
    queue.close()
    return [len(ids) for ids in queue.batches()[1:]]


def test_options_overrule_the_attributes(serve: Serve, tmp_path: Path) -> None:
    options = ["--max-batch-size", "3", "--max-batch-wait-ms", "300"]
    env = {"ZOO_BATCH_SIZE": "8", "ZOO_BATCH_WAIT_MS": "60000"}
    server = serve(MODELS, *options, env=env)
    assert sizes(server, tmp_path, MODEL, 7) == [3, 3, 1]


def test_size_of_one_calls_predict_if_there_is_one(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, "--max-batch-size", "1", env=LONG)
    for model, how in (("both", "one"), (MODEL, "batch")):
        (tmp_path / model).mkdir()
        assert sizes(server, tmp_path / model, model, 4) == [1] * 4
        assert {line["how"] for line in lines(tmp_path / model / "note")} == {how}


def test_batches_are_used_though_there_is_a_predict(server: Server, tmp_path: Path) -> None:
    assert sizes(server, tmp_path, "both", 3) == [3]
    assert {line["how"] for line in lines(tmp_path / "note")} == {"batch"}


def test_defaults(serve: Serve, tmp_path: Path) -> None:
    assert sizes(serve(MODELS), tmp_path, MODEL, 33) == [32, 1]


@pytest.mark.parametrize(
    ("variable", "name", "value", "least"),
    [
        ("ZOO_BATCH_SIZE", "max_batch_size", "0", 1),
        ("ZOO_BATCH_SIZE", "max_batch_size", "-1", 1),
        ("ZOO_BATCH_SIZE", "max_batch_size", '"many"', 1),
        ("ZOO_BATCH_SIZE", "max_batch_size", "2.5", 1),
        ("ZOO_BATCH_SIZE", "max_batch_size", "true", 1),
        ("ZOO_BATCH_WAIT_MS", "max_batch_wait_ms", "-1", 0),
        ("ZOO_BATCH_WAIT_MS", "max_batch_wait_ms", '"long"', 0),
    ],
)
def test_bad_attribute_fails_the_start_and_is_named(
    tmp_path: Path, variable: str, name: str, value: str, least: int
) -> None:
    args = ["--listen-port", "0"]
    finished = run_program(tmp_path, args, models={"m": MODELS[MODEL]}, env={variable: value})
    assert finished.code == 1
    said = f"{name} is {json.loads(value)!r}, but must be a whole number from {least} to "
    assert said in finished.output
    assert "none of the models can be served" in finished.stderr


@pytest.mark.parametrize(
    "options",
    [["--max-batch-size", "-1"], ["--max-batch-wait-ms", "-2"], ["--max-batch-size", "a"]],
)
def test_bad_option_ends_the_program(tmp_path: Path, options: list[str]) -> None:
    finished = run_program(tmp_path, options, models={"m": MODELS[MODEL]})
    assert finished.code == 1
    assert f"{options[0]} must be a whole number" in finished.stderr


def test_option_saves_a_model_from_its_bad_attribute(serve: Serve) -> None:
    server = serve(MODELS, "--max-batch-size", "2", env={"ZOO_BATCH_SIZE": "0"})
    assert predictions(server.predict(MODEL, params={"id": 1}))["id"] == 1


# --- one that fails, and its mates


def echoed(caller: Caller) -> tuple[int, int]:
    """Return the id of a call that succeeded, and the size of its batch."""
    answer = caller.predicted()
    return answer["id"], answer["size"]


def test_invalid_call_fails_alone(queue: Queue) -> None:
    made = queue.run(ECHO, {"id": -1}, ECHO, {"id": "x"}, ECHO)
    assert [echoed(made[n]) for n in (0, 2, 4)] == [(1, 3), (3, 3), (5, 3)]
    for one in (made[1], made[3]):
        assert list(one.json()) == ["id"]
        assert one.status == 422
    assert queue.batches() == [[0], [1, 3, 5]]


def test_calls_that_are_all_invalid_harm_nobody(queue: Queue) -> None:
    for one in queue.run({"id": -1}, {"id": -2}):
        assert list(one.json()) == ["id"]
    assert queue.batches() == [[0]]
    assert echoed(queue.call(3))[0] == 3


def test_item_that_is_an_exception_fails_alone(queue: Queue) -> None:
    made = queue.run(ECHO, do("exception"), do("http"), do("exit-item"), do("object"), ECHO)
    assert [echoed(made[n]) for n in (0, 5)] == [(1, 6), (6, 6)]
    assert made[1].failure() == (500, "predict_failed", "ValueError: item 2 is bad")
    assert made[2].failure() == (409, "refused_by_model", "item 3 is refused")
    assert made[2].reason == "item 3 is refused"
    assert made[3].failure()[:2] == (500, "predict_failed")
    assert made[4].failure()[:2] == (500, "result_not_encodable")
    assert queue.batches() == [[0], [1, 2, 3, 4, 5, 6]]


A_LIST = "it must return a list with one result for each call of the batch"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raise", "ValueError: member 2 is bad"),
        ("system-exit", "The model called sys.exit('member 2 leaves')"),
        ("none", f"TypeError: predict_batch returned a NoneType; {A_LIST}"),
        ("columns", f"TypeError: predict_batch returned a dict; {A_LIST}"),
        ("named-tuple", f"TypeError: predict_batch returned a Columns; {A_LIST}"),
        ("set", f"TypeError: predict_batch returned a set; {A_LIST}"),
        ("text", f"TypeError: predict_batch returned a str; {A_LIST}"),
        ("bytes", f"TypeError: predict_batch returned a bytes; {A_LIST}"),
        ("map", f"TypeError: predict_batch returned a map; {A_LIST}"),
        ("table", f"TypeError: predict_batch returned a DataFrame; {A_LIST}"),
        ("scalar-array", f"TypeError: predict_batch returned a ndarray; {A_LIST}"),
        ("endless", "ValueError: predict_batch yielded more than 1 results for 1 calls"),
        ("pop", "ValueError: predict_batch returned 0 results for 1 calls"),
        ("short", "ValueError: predict_batch returned 0 results for 1 calls"),
        ("long", "ValueError: predict_batch returned 2 results for 1 calls"),
    ],
)
def test_batch_that_fails_is_tried_member_by_member(queue: Queue, what: str, message: str) -> None:
    workers = pids(queue.server, MODEL)
    made = queue.run(ECHO, do(what), ECHO)
    assert [echoed(made[n]) for n in (0, 2)] == [(1, 1), (3, 1)]
    assert made[1].failure() == (500, "predict_failed", message)
    assert queue.batches() == [[0], [1, 2, 3], [1], [2], [3]]
    assert pids(queue.server, MODEL) == workers


def test_change_of_the_arguments_does_not_reach_the_second_try(queue: Queue) -> None:
    made = queue.run(ECHO, do("mutate"), do("echo", text="abc"))
    assert echoed(made[0]) == (1, 1)
    assert made[1].failure()[2] == "ValueError: raised after a change"
    assert made[2].predicted()["text"] == 3
    assert queue.batches() == [[0], [1, 2, 3], [1], [2], [3]]


@pytest.mark.parametrize("shape", ["tuple", "generator"])
def test_results_need_not_be_a_list(queue: Queue, shape: str) -> None:
    made = queue.run(ECHO, do(shape), ECHO)
    assert [echoed(one) for one in made] == [(1, 3), (2, 3), (3, 3)]


def test_rows_of_an_array_are_the_results(queue: Queue) -> None:
    made = queue.run(ECHO, do("array"), ECHO)
    assert [one.predicted() for one in made] == [[1, 3], [2, 3], [3, 3]]


def test_members_have_media_types_of_their_own(queue: Queue) -> None:
    made = queue.run(do("echo", accept="image/png"), ECHO, do("echo", accept="text/plain"))
    assert (made[0].read_rest(), made[0].headers["content-type"]) == (b"\x89PNG 1", "image/png")
    assert echoed(made[1]) == (2, 3)
    assert made[2].read_rest() == b"text 3"
    assert made[2].headers["content-type"] == "text/plain"
    assert made[2].headers["content-disposition"] == 'attachment; filename="result-3.txt"'
    assert queue.batches() == [[0], [1, 2, 3]]


def test_predict_batch_may_be_asynchronous(server: Server, tmp_path: Path) -> None:
    queue = Queue(server, tmp_path, "slowly")
    made = queue.run(ECHO, do("exception"), ECHO)
    assert [echoed(made[n]) for n in (0, 2)] == [(1, 3), (3, 3)]
    assert made[1].failure()[2] == "ValueError: item 2 is bad"
    assert {line["how"] for line in queue.noted()} == {"async"}
    queue.close()


def test_asynchronous_batch_that_raises_is_tried_member_by_member(
    server: Server, tmp_path: Path
) -> None:
    queue = Queue(server, tmp_path, "slowly")
    made = queue.run(ECHO, do("raise"), ECHO)
    assert [echoed(made[n]) for n in (0, 2)] == [(1, 1), (3, 1)]
    assert made[1].failure()[2] == "ValueError: member 2 is bad"
    queue.close()


# --- large calls

JSON = {"Content-Type": "application/json"}


def large(number: int, size: int) -> dict[str, Any]:
    return {"headers": JSON, "content": json.dumps({"text": "x" * size}).encode()}


@pytest.mark.parametrize("size", [100 * 1024, 126 * 1024, 300 * 1024])
def test_large_calls_come_together(queue: Queue, size: int) -> None:
    """Calls of 126 KiB with their metadata exceed a packet; larger ones are stored in files."""
    made = queue.run(*(large(number, size + number) for number in range(6)))
    answers = [one.predicted() for one in made]
    assert [one["id"] for one in answers] == [1, 2, 3, 4, 5, 6]
    assert [one["text"] for one in answers] == [size + number for number in range(6)]
    assert max(one["size"] for one in answers) > 1
    wait_until(lambda: not uploads(queue.server), within=3, what="the removal of the files")


def test_more_large_calls_than_the_socket_holds(queue: Queue) -> None:
    made = queue.run(*(large(number, 100 * 1024) for number in range(40)))
    assert [one.predicted()["id"] for one in made] == list(range(1, 41))
    assert max(map(len, queue.batches())) <= SIZE


def form(size: int) -> dict[str, Any]:
    return multipart(Part("data", b"x" * size, "data.bin"))


def uploads(server: Server) -> list[Path]:
    return server.uploads()


def test_uploads_come_together_and_are_removed(queue: Queue) -> None:
    made = queue.run(*(form(1000 + number) for number in range(5)))
    answers = [one.predicted() for one in made]
    assert [one["data"] for one in answers] == [1000, 1001, 1002, 1003, 1004]
    assert {one["size"] for one in answers} == {5}
    wait_until(lambda: not uploads(queue.server), within=3, what="the removal of the uploads")


def test_uploads_are_there_for_the_second_try(queue: Queue) -> None:
    made = queue.run(form(10), form(20) | do("raise"), form(30))
    assert [made[n].predicted()["data"] for n in (0, 2)] == [10, 30]
    assert made[1].failure()[2] == "ValueError: member 2 is bad"
    wait_until(lambda: not uploads(queue.server), within=3, what="the removal of the uploads")


# --- callers that leave


def test_caller_that_leaves_the_queue_is_in_no_batch(queue: Queue) -> None:
    queue.hold()
    made = [queue.call(number) for number in range(1, 6)]
    settle(queue.server)
    made[1].abort()
    made[3].close()
    queue.let_go()
    assert [echoed(made[n]) for n in (0, 2, 4)] == [(1, 3), (3, 3), (5, 3)]
    assert queue.batches() == [[0], [1, 3, 5]]


def test_caller_that_leaves_a_running_batch_harms_no_mate(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, "--cancel-running", env=LONG | {"ZOO_BATCH_WAIT_MS": "20"})
    worker = pids(server, MODEL)
    queue = Queue(server, tmp_path)
    gate = tmp_path / "second"
    made = queue.run(do("echo", gate=str(gate)), ECHO, ECHO)
    wait_until(lambda: [1, 2, 3] in queue.batches(), within=5, what="the batch")
    made[0].abort()
    made[2].abort()
    settle(server)
    assert pids(server, MODEL) == worker
    gate.touch()
    assert echoed(made[1]) == (2, 3)
    assert pids(server, MODEL) == worker
    queue.close()


def test_batch_that_all_leave_is_ended_with_its_worker(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, "--cancel-running", env=LONG | {"ZOO_BATCH_WAIT_MS": "20"})
    worker = pids(server, MODEL)[0]
    queue = Queue(server, tmp_path)
    made = queue.run(do("hang"), ECHO)
    wait_until(lambda: [1, 2] in queue.batches(), within=5, what="the batch")
    waiting = queue.call(3)
    settle(server)
    for one in made:
        one.abort()
    assert echoed(waiting)[0] == 3
    assert not lives(worker)
    assert health(server, MODEL)["problem"] is None
    queue.close()


# --- deaths and hangs


def deadly(queue: Queue) -> list[tuple[int, ...]]:
    """Return the batches after the call that keeps the worker busy, with the worker's number."""
    noted = queue.noted()[1:]
    workers = list(dict.fromkeys(line["pid"] for line in noted))
    return [(workers.index(line["pid"]), *line["ids"]) for line in noted]


@pytest.mark.parametrize(
    ("what", "ending"), [("exit", "exited with code 3"), ("kill", "signal 9 (SIGKILL)")]
)
def test_death_in_a_batch_is_told_to_the_guilty_one_alone(
    queue: Queue, what: str, ending: str
) -> None:
    before = pids(queue.server, MODEL)[0]
    made = queue.run(ECHO, do(what), ECHO, ECHO)
    assert [echoed(made[n]) for n in (0, 2, 3)] == [(1, 1), (3, 1), (4, 1)]
    status, code, message = made[1].failure()
    assert (status, code) == (500, "worker_died")
    assert ending in message
    assert not lives(before)
    assert deadly(queue) == [(0, 1, 2, 3, 4), (1, 1), (1, 2), (2, 3), (2, 4)]


def test_call_alone_that_kills_its_worker_is_not_tried_again(queue: Queue) -> None:
    assert queue.call(1, do="exit").failure()[1] == "worker_died"
    assert queue.batches() == [[1]]
    assert echoed(queue.call(2))[0] == 2


def test_two_guilty_ones_are_told_each(queue: Queue) -> None:
    made = queue.run(do("exit"), ECHO, do("kill"), ECHO)
    assert "exited with code 3" in made[0].failure()[2]
    assert "signal 9 (SIGKILL)" in made[2].failure()[2]
    assert [echoed(made[n]) for n in (1, 3)] == [(2, 1), (4, 1)]
    assert [ids for ids in queue.batches()[1:] if len(ids) == 1] == [[1], [2], [3], [4]]


def test_deaths_in_a_row_do_not_keep_the_mates_from_their_answers(queue: Queue) -> None:
    """They have begun, so they wait for the next worker. New calls would get a 503."""
    first = pids(queue.server, MODEL)[0]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in pids(queue.server, MODEL), within=5, what="its death")
    (worker,) = wait_ready(queue.server, MODEL)
    os.kill(worker, signal.SIGSTOP)
    made = [queue.call(1, do="exit"), queue.call(2, do="kill"), queue.call(3)]
    settle(queue.server)
    os.kill(worker, signal.SIGCONT)
    assert "exited with code 3" in made[0].failure()[2]
    assert "signal 9 (SIGKILL)" in made[1].failure()[2]
    assert echoed(made[2]) == (3, 1)
    assert queue.batches() == [[1, 2, 3], [1], [2], [3]]


def test_calls_behind_a_deadly_batch_are_not_harmed(queue: Queue) -> None:
    made = queue.run(do("exit"), *[ECHO] * (3 * SIZE))
    assert made[0].failure()[1] == "worker_died"
    assert [echoed(one)[0] for one in made[1:]] == list(range(2, 3 * SIZE + 2))
    tries = list(itertools.chain(*queue.batches()[1:]))
    assert {number: tries.count(number) for number in set(tries)} == {
        number: 2 if number <= SIZE else 1 for number in range(1, 3 * SIZE + 2)
    }


def test_mates_of_a_death_that_have_left_are_not_tried_again(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "second"
    made = queue.run(do("exit", gate=str(gate)), ECHO, ECHO)
    wait_until(lambda: [1, 2, 3] in queue.batches(), within=5, what="the batch")
    made[1].abort()
    settle(queue.server)
    gate.touch()
    assert made[0].failure()[1] == "worker_died"
    assert echoed(made[2]) == (3, 1)
    assert queue.batches()[1:] == [[1, 2, 3], [1], [3]]


def test_large_calls_and_uploads_outlive_the_death_of_their_worker(queue: Queue) -> None:
    made = queue.run(form(10), do("kill"), large(3, 300 * 1024), form(20))
    assert made[1].failure()[1] == "worker_died"
    assert [made[n].predicted()["data"] for n in (0, 3)] == [10, 20]
    assert made[2].predicted()["text"] == 300 * 1024
    wait_until(lambda: not uploads(queue.server), within=3, what="the removal of the files")


def test_hang_in_a_batch_is_told_to_the_guilty_one_alone(serve: Serve, tmp_path: Path) -> None:
    env = LONG | {"ZOO_BATCH_WAIT_MS": "20"}
    server = serve(MODELS, "--predict-timeout", "6", env=env)
    worker = pids(server, MODEL)[0]
    queue = Queue(server, tmp_path)
    made = queue.run(ECHO, do("hang"), ECHO)
    assert [echoed(made[n]) for n in (0, 2)] == [(1, 1), (3, 1)]
    assert made[1].failure() == (504, "timeout", "The prediction took longer than 6 s")
    assert not lives(worker)
    assert deadly(queue) == [(0, 1, 2, 3), (1, 1), (1, 2), (2, 3)]
    queue.close()


# --- their descriptions


def test_description_is_that_of_any_model(server: Server) -> None:
    described = server.get("/swagger.json").json()["paths"]
    names = {}
    for model in MODELS:
        operation = described[f"/v2/models/{model}/predict/"]["post"]
        names[model] = [one["name"] for one in operation["parameters"]]
        offered = {"application/json", "image/png", "text/plain", "*/*"}
        assert set(operation["produces"]) == offered
    assert names[MODEL] == names["both"]
    assert set(names[MODEL]) == {"id", "do", "note", "gate", "text", "data", "accept"}


def test_log_names_the_arguments_of_predict_batch(server: Server) -> None:
    line = next(line for line in server.log().splitlines() if f"Model {MODEL} " in line)
    assert "predict(id, do, note, gate, text, data, accept)" in line


@pytest.mark.parametrize("model", [MODEL, "both"])
def test_call_by_get_is_refused_as_with_any_model(server: Server, model: str) -> None:
    response = server.get(f"/v2/models/{model}/predict/")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
