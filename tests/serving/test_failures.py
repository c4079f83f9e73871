"""The responses to a caller and the next one when a model raises, dies or damages its process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import Serve
from tests.serving.processes import (
    answers,
    health,
    killed_at_the_end,
    lives,
    pids,
    wait_gone,
    wait_ready,
)
from tests.support import RawAnswer, Server, predictions, wait_until


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.dies", "zoo.raises", "zoo.odd_errors", "zoo.odd_results")


def ask(server: Server, model: str, **parameters: Any) -> httpx.Response:
    """Return the response to a prediction."""
    return server.predict(model, params=parameters)


def ask_raw(server: Server, model: str, kind: str) -> RawAnswer:
    return server.raw_request("POST", f"/v2/models/{model}/predict/?kind={kind}")


# --- exceptions: the same worker goes on

RAISED = {
    "aiohttp-reason": (400, "refused_by_model", "it went wrong"),
    "aiohttp-exception": (400, "refused_by_model", "it went wrong"),
    "aiohttp-positional": (400, "refused_by_model", "it went wrong"),
    "aiohttp-base": (500, "refused_by_model", "it went wrong"),
    "aiohttp-503": (503, "refused_by_model", "it went wrong"),
    "werkzeug": (400, "refused_by_model", "it went wrong"),
    "werkzeug-503": (503, "refused_by_model", "it went wrong"),
    "value": (500, "predict_failed", "ValueError: it went wrong"),
    "key": (500, "predict_failed", "KeyError: 'it went wrong'"),
    "own": (500, "predict_failed", "OwnError: own error 1 2"),
    "marshmallow": (500, "predict_failed", "ValidationError: {'kind': ['it went wrong']}"),
    "stop-iteration": (500, "predict_failed", "StopIteration: it went wrong"),
    "exit": (500, "predict_failed", "The model called sys.exit('it went wrong')"),
}


@pytest.mark.parametrize("kind", RAISED)
def test_what_is_raised_has_a_status_a_code_and_words(server: Server, kind: str) -> None:
    status, code, message = RAISED[kind]
    workers = pids(server, "raises")
    response = ask(server, "raises", kind=kind)
    assert response.status_code == status
    request_id = response.headers["X-Request-ID"]
    assert response.json() == {"message": message, "code": code, "request_id": request_id}
    assert answers(server, "raises") == "it went wrong"
    assert pids(server, "raises") == workers


ODD = {
    "text-fails": "TextFails",
    "text-exits": "TextExits",
    "text-none": "TextIsNone",
    "attributes-fail": "AttributesFail",
    "attributes-true": "",
    "unpicklable": "Unpicklable: not to be pickled",
    "base": "OwnBase: own base",
    "generator-exit": "GeneratorExit",
    "cancelled": "CancelledError",
    "timeout": "TimeoutError: too late",
    "connection": "BrokenPipeError: [Errno 32] Broken pipe",
    "eof": "EOFError",
    "memory": "MemoryError",
    "recursion": "RecursionError: maximum recursion depth exceeded",
    "stop-iteration": "StopIteration",
    "stop-async": "StopAsyncIteration",
    "keyboard": "KeyboardInterrupt",
    "exit": "sys.exit('leaving')",
    "exit-none": "sys.exit(None)",
    "exit-0": "sys.exit(0)",
    "exit-object": "sys.exit(",
    "import": "ModuleNotFoundError: No module named 'no_such_module'",
    "assertion": "AssertionError",
    "surrogate": "ValueError: lone",
    "control": "ValueError: a b",
    "long": "ValueError: long long",
    "long-chain": "ValueError: number 499",
    "circle": "ValueError: first",
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_exception_is_500_and_the_worker_goes_on(server: Server, kind: str) -> None:
    worker = answers(server, "odd_errors")
    response = ask(server, "odd_errors", kind=kind)
    assert response.status_code == 500
    content = response.json()
    assert content["code"] in ("predict_failed", "refused_by_model")
    assert ODD[kind] in content["message"]
    assert len(content["message"]) <= 1100
    assert content["message"].isprintable()
    assert answers(server, "odd_errors") == worker


@pytest.mark.parametrize("kind", ["surrogate", "long-chain", "circle", "text-fails"])
def test_odd_exception_is_one_record_in_the_log(server: Server, kind: str) -> None:
    before = server.log()
    ask(server, "odd_errors", kind=kind)

    def told() -> bool:
        new = server.log()[len(before) :]
        return "predict of model odd_errors failed" in new and f"kind={kind}" in new

    wait_until(told, within=3, what="the record")
    assert "Logging error" not in server.log()[len(before) :]


def test_headers_of_an_http_exception_reach_the_caller(server: Server) -> None:
    worker = answers(server, "odd_errors")
    answer = ask_raw(server, "odd_errors", "http-header")
    assert (answer.status, answer.reason) == (400, "headed")
    assert answer.header("X-Own") == "own"
    answer = ask_raw(server, "odd_errors", "http-405")
    assert answer.status == 405
    assert answer.header("Allow") == "GET"
    assert answers(server, "odd_errors") == worker


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("http-redirect", 302),
        ("http-no-content", 204),
        ("http-not-modified", 304),
        ("http-ok", 200),
    ],
)
def test_http_exception_that_is_no_error_keeps_its_status(
    server: Server, kind: str, status: int
) -> None:
    worker = answers(server, "odd_errors")
    answer = ask_raw(server, "odd_errors", kind)
    assert answer.status == status
    if kind == "http-redirect":
        assert answer.header("Location") == "/elsewhere"
    assert answers(server, "odd_errors") == worker


# --- results of the wrong type

NO_JSON = """
object function class bytes file complex exception circle deep tuple-key object-key mixed
lists-itself read-fails reads-numbers closed deleted-open
"""
NO_IMAGE = """
none object function class generator coroutine complex exception circle deep tuple-key mixed
lists-itself liar reads-numbers closed number dict
"""


@pytest.mark.parametrize(
    ("kind", "accept"),
    [
        *((kind, "application/json") for kind in NO_JSON.split()),
        *((kind, "image/png") for kind in NO_IMAGE.split()),
    ],
)
def test_result_of_the_wrong_type_is_500_and_says_so(
    server: Server, kind: str, accept: str
) -> None:
    worker = answers(server, "odd_results")
    response = ask(server, "odd_results", kind=kind, accept=accept)
    assert response.status_code == 500
    content = response.json()
    assert content["code"] == "result_not_encodable"
    assert content["message"].startswith("The model")
    assert answers(server, "odd_results") == worker


def test_open_file_whose_name_is_gone_is_the_answer(server: Server) -> None:
    response = ask(server, "odd_results", kind="deleted-open", accept="image/png")
    assert response.status_code == 200
    assert response.content == b"picture"
    assert response.headers["Content-Disposition"] == 'attachment; filename="chart.png"'


def test_generator_is_streamed_and_coroutine_awaited(server: Server) -> None:
    worker = answers(server, "odd_results")
    response = ask(server, "odd_results", kind="generator", accept="application/json")
    assert (response.status_code, response.content) == (200, b"5\n")
    assert response.headers["Content-Type"] == "application/x-ndjson"
    response = ask(server, "odd_results", kind="coroutine", accept="application/json")
    assert predictions(response) == 5
    assert answers(server, "odd_results") == worker


def test_result_that_fails_while_it_is_encoded_is_500(server: Server) -> None:
    worker = answers(server, "odd_results")
    response = ask(server, "odd_results", kind="list-fails")
    assert response.status_code == 500
    assert "while it was encoded" in response.json()["message"]
    response = ask(server, "odd_results", kind="read-fails", accept="image/png")
    assert response.status_code == 500
    assert "the disk is gone" in response.json()["message"]
    assert answers(server, "odd_results") == worker


# --- deaths: another worker goes on, already warmed

DEATHS = {
    "_exit": "exited with code 3",
    "_exit-0": "exited with code 0",
    "sigkill": "signal 9 (SIGKILL)",
    "sigterm": "signal 15 (SIGTERM)",
    "sigsegv": "signal 11 (SIGSEGV)",
    "null-pointer": "signal 11 (SIGSEGV)",
    "abort": "signal 6 (SIGABRT)",
}


@pytest.mark.parametrize("how", DEATHS)
def test_death_is_told_and_a_warmed_worker_goes_on(server: Server, how: str) -> None:
    first = answers(server, "dies")
    response = ask(server, "dies", how=how)
    assert response.status_code == 500
    content = response.json()
    assert content["code"] == "worker_died"
    assert DEATHS[how] in content["message"]
    second = answers(server, "dies")
    assert second["pid"] != first["pid"]
    assert second["warmed"] == [second["pid"]]
    assert not lives(first["pid"])


def test_death_from_outside_is_told_during_the_prediction(server: Server, tmp_path: Path) -> None:
    note = tmp_path / "begun"
    with ThreadPoolExecutor(1) as executor:
        sent = {"seconds": 60, "note": str(note)}
        running = executor.submit(server.predict, "dies", params=sent)
        wait_until(note.exists, within=5, what="the prediction")
        os.kill(pids(server, "dies")[0], signal.SIGKILL)
        response = running.result(timeout=25)
    assert response.status_code == 500
    assert response.json()["code"] == "worker_died"
    assert answers(server, "dies")["warmed"]


def test_death_while_idle_harms_no_caller(server: Server) -> None:
    first = answers(server, "dies")["pid"]
    os.kill(first, signal.SIGKILL)
    wait_gone([first])  # the server may not have noticed yet
    second = answers(server, "dies")
    assert second["pid"] != first
    assert second["warmed"] == [second["pid"]]


def test_health_tells_of_the_death_and_of_the_replacement(serve: Serve) -> None:
    server = serve({}, "zoo.dies")
    first = answers(server, "dies")["pid"]
    os.kill(first, signal.SIGKILL)
    seen: list[dict[str, Any]] = []

    def replaced() -> bool:
        seen.append(health(server, "dies"))
        return bool(seen[-1]["ready"]) and seen[-1]["pids"] != [first]

    wait_until(replaced, within=5, what="a replacement")
    problems = [one["problem"] for one in seen if not one["ready"]]
    assert problems
    assert "signal 9 (SIGKILL)" in problems[-1]
    assert all("has lost its worker" in problem for problem in problems)
    assert seen[-1]["problem"] is None


def test_worker_that_keeps_dying_is_restarted_more_and_more_slowly(serve: Serve) -> None:
    server = serve({}, "zoo.dies", "zoo.echo")
    for _ in range(2):  # neither worker has answered a call before
        assert ask(server, "dies", how="_exit").json()["code"] == "worker_died"
    response = server.predict("dies")
    assert response.status_code == 503
    assert response.json()["code"] == "model_not_ready"
    assert int(response.headers["Retry-After"]) >= 1
    assert "exited with code 3" in response.json()["message"]
    assert answers(server, "echo", params={"text": "a"}) == {"text": ["str", "a"]}
    wait_ready(server, "dies")
    assert answers(server, "dies")["warmed"]


# --- damage: the process survives


@pytest.mark.parametrize("how", ["close-stdout", "close-streams", "close-1", "close-1-2"])
def test_closed_stdout_harms_neither_answers_nor_the_log(server: Server, how: str) -> None:
    worker = answers(server, "dies")["pid"]
    assert answers(server, "dies", params={"how": how})["pid"] == worker
    before = server.log()
    assert ask(server, "dies", how="print-megabyte").status_code == 200
    wait_until(lambda: "m" * 1_000_000 in server.log()[len(before) :], within=3, what="the print")
    assert ask(server, "dies", how="raise").json()["code"] == "predict_failed"
    said = "ERROR deepaas.worker predict of model dies failed"
    wait_until(lambda: said in server.log()[len(before) :], within=3, what="the record")
    assert "Logging error" not in server.log()[len(before) :]
    assert answers(server, "dies")["pid"] == worker


@pytest.mark.parametrize("how", ["close-1", "close-1-2"])
def test_file_opened_after_stdout_was_closed_is_not_printed_into(
    server: Server, tmp_path: Path, how: str
) -> None:
    answers(server, "dies", params={"how": how})
    kept = tmp_path / "kept"
    assert ask(server, "dies", how="keep-open", note=str(kept)).status_code == 200
    assert ask(server, "dies", how="raise").status_code == 500
    assert ask(server, "dies", how="print-megabyte").status_code == 200
    assert kept.read_text() == "kept\n"


def test_much_output_harms_nothing(server: Server) -> None:
    worker = answers(server, "dies")["pid"]
    for _ in range(5):
        assert answers(server, "dies", params={"how": "print-megabyte"})["pid"] == worker


def test_forked_child_that_comes_back_from_predict_takes_no_calls(server: Server) -> None:
    worker = answers(server, "dies")["pid"]
    before = len(server.log())
    assert answers(server, "dies", params={"how": "fork"})["pid"] == worker
    for number in range(20):
        answer = answers(server, "dies", params={"number": number})
        assert (answer["pid"], answer["number"]) == (worker, number)
    assert "Traceback" not in server.log()[before:]


# --- children


def test_child_lives_on_between_calls_and_ends_with_its_worker(server: Server) -> None:
    left = answers(server, "dies", params={"how": "child"})
    child = left["children"][-1]
    assert lives(child)
    assert answers(server, "dies")["children"] == left["children"]
    assert ask(server, "dies", how="sigkill").json()["code"] == "worker_died"
    wait_gone([child])


def test_child_of_a_worker_that_ends_at_once_is_gone(server: Server, tmp_path: Path) -> None:
    note = tmp_path / "child"
    assert ask(server, "dies", how="child-and-die", note=str(note)).status_code == 500
    wait_gone([int(note.read_text())])


def test_child_ends_with_the_server(serve: Serve) -> None:
    server = serve({}, "zoo.dies")
    child = answers(server, "dies", params={"how": "child"})["children"][0]
    server.stop()
    assert not lives(child)


@pytest.mark.parametrize("end", ["worker", "server"])
def test_child_in_a_session_of_its_own_is_gone_too(serve: Serve, tmp_path: Path, end: str) -> None:
    server = serve({}, "zoo.dies")
    note = tmp_path / "child"
    how = "session-and-die" if end == "worker" else "session"
    ask(server, "dies", how=how, note=str(note))
    child = int(note.read_text())
    with killed_at_the_end(child):
        if end == "server":
            os.kill(server.pid, signal.SIGTERM)
            server.wait_end()
        wait_gone([child])


# --- several workers


def wait_for(note: Path) -> None:
    wait_until(lambda: note.exists() and note.read_text(), within=5, what="the prediction")


@pytest.fixture(scope="module")
def pair(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.dies", "--workers", "2")


def test_death_of_one_worker_harms_no_request_of_the_other(pair: Server, tmp_path: Path) -> None:
    workers = wait_ready(pair, "dies", 2)
    notes, gate = [tmp_path / "one", tmp_path / "two"], tmp_path / "gate"
    with ThreadPoolExecutor(2) as executor:
        running: list[Future[httpx.Response]] = []
        try:
            for note in notes:
                sent = {"gate": str(gate), "note": str(note)}
                running.append(executor.submit(pair.predict, "dies", params=sent))
                wait_for(note)
            both = [int(note.read_text()) for note in notes]
            assert sorted(both) == sorted(workers)
            os.kill(both[0], signal.SIGKILL)
            assert running[0].result(timeout=25).status_code == 500
        finally:
            gate.touch()
        killed, other = (one.result(timeout=25) for one in running)
    assert killed.json()["code"] == "worker_died"
    assert predictions(other)["pid"] == both[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_calls_that_were_handed_over_but_not_begun_are_answered(
    serve_all: Serve, pair: Server, tmp_path: Path, workers: int
) -> None:
    server = pair if workers == 2 else serve_all({}, "zoo.dies")
    wait_ready(server, "dies", workers)
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    notes.mkdir()
    with ThreadPoolExecutor(10) as executor:
        running = [
            executor.submit(
                server.predict,
                "dies",
                params={"gate": str(gate), "number": number, "note": str(notes / str(number))},
            )
            for number in range(10)
        ]
        try:
            wait_until(lambda: len(list(notes.iterdir())) == workers, within=5, what="the calls")
            victim = pids(server, "dies")[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: any(one.done() for one in running), within=5, what="the death")
        finally:
            gate.touch()
        responses = [one.result(timeout=25) for one in running]
    failed = [one for one in responses if one.status_code != 200]
    assert [one.json()["code"] for one in failed] == ["worker_died"]
    numbers = {predictions(one)["number"] for one in responses if one.status_code == 200}
    assert len(numbers) == 9
    by_others = [one for one in responses if one.status_code == 200]
    assert any(predictions(one)["pid"] != victim for one in by_others)


def test_deaths_under_load_lose_no_other_request(pair: Server) -> None:
    """Every caller gets its own result or an error; no call is lost or mixed up."""
    wait_ready(pair, "dies", 2)
    stop = threading.Event()
    answered: list[int] = []

    def kill() -> None:
        killed_at = 0
        while not stop.wait(0.005):
            if len(answered) < killed_at + 10:
                continue
            killed_at = len(answered)
            with contextlib.suppress(psutil.NoSuchProcess, httpx.HTTPError, IndexError):
                psutil.Process(pids(pair, "dies")[0]).kill()

    def call(number: int) -> str:
        response = pair.predict("dies", params={"number": number, "seconds": 0.01})
        if response.status_code != 200:
            return str(response.json()["code"])
        assert predictions(response)["number"] == number
        answered.append(number)
        return "answered"

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with ThreadPoolExecutor(8) as executor:
            outcomes = list(executor.map(call, range(150)))
    finally:
        stop.set()
        killer.join()
    assert set(outcomes) <= {"answered", "worker_died", "model_not_ready"}
    assert outcomes.count("answered") > 100
    wait_ready(pair, "dies", 2)


# --- worker that writes garbage


def test_worker_that_writes_garbage_to_its_sockets_is_replaced() -> None:
    with Server({"garbles": "zoo.garbles"}) as server:
        first = server.predict("garbles").json()["predictions"]
        answer = server.predict("garbles", params={"garble": "true"})
        assert answer.status_code == 500
        assert answer.json()["code"] == "worker_died"
        assert server.predict("garbles").json()["predictions"] != first
