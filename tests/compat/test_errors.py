"""Responses when a model raises or dies, or when a request is invalid."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import Part, RawAnswer, Server, multipart, predictions, wait_until

TEXT = "it went wrong"

# The exceptions of the module, with the status and words that must reach the caller.
WITH_REASON = {
    "aiohttp-reason": (400, TEXT),
    "aiohttp-both": (400, TEXT),
    "aiohttp-base": (500, TEXT),
    "aiohttp-404": (404, TEXT),
    "aiohttp-422": (422, TEXT),
    "aiohttp-500": (500, TEXT),
    "aiohttp-503": (503, TEXT),
    "werkzeug": (400, TEXT),
    "werkzeug-503": (503, TEXT),
}
PLAIN = {
    "value": TEXT,
    "key": TEXT,
    "no-text": "ValueError",
    "own": "own error 1 2",
    "marshmallow": TEXT,
    "stop-iteration": TEXT,
    "exit": TEXT,
    "keyboard": "KeyboardInterrupt",
}
# Exceptions after which a model of the reference release never responds again.
SILENCING = {
    "aiohttp-reason",
    "aiohttp-both",
    "aiohttp-base",
    "aiohttp-404",
    "aiohttp-422",
    "aiohttp-500",
    "aiohttp-503",
    "aiohttp-bare",
    "aiohttp-text",
    "own",
    "stop-iteration",
    "exit",
    "keyboard",
}

Raise = Callable[..., RawAnswer]


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"raises": "zoo.raises", "bare": "zoo.bare"})


@pytest.fixture(scope="module")
def raised(serve_doomed: Serve, is_reference: bool, patience: float) -> Raise:
    """Ask a model to raise an exception, and return its response.

    A model of the reference release may never respond after that. So it has a separate model for
    each such kind, and one that did not respond is not asked again.
    """
    names = {kind: kind for kind in SILENCING} if is_reference else {}
    server = serve_doomed(dict.fromkeys(["raises", *names], "zoo.raises"))
    silent: set[str] = set()

    def ask(kind: str, text: str = TEXT, *, of: str | None = None) -> RawAnswer:
        model = names.get(of or kind, "raises")
        if model in silent:
            raise TimeoutError(f"{model} gave no answer before")
        try:
            return server.raw_request(
                "POST",
                f"/v2/models/{model}/predict/",
                headers={"Content-Type": "application/json"},
                body=json.dumps({"kind": kind, "text": text}).encode(),
                timeout=patience,
            )
        except TimeoutError:
            silent.add(model)
            raise

    return ask


def message(answer: RawAnswer) -> str:
    """Return the message of an error, and check that the error has the common form."""
    assert (answer.header("Content-Type") or "").startswith("application/json")
    content = json.loads(answer.body)
    assert set(content) >= {"message", "code"}
    assert content["code"]
    assert isinstance(content["code"], str)
    said = content["message"]
    assert isinstance(said, str)
    assert said
    assert "\n" not in said
    assert answer.reason
    return said


@pytest.mark.mended("it never answers, or only says that something went wrong")
@pytest.mark.parametrize("kind", WITH_REASON)
def test_status_and_reason_reach_the_caller(raised: Raise, kind: str) -> None:
    status, reason = WITH_REASON[kind]
    answer = raised(kind)
    assert answer.status == status
    assert message(answer) == reason
    assert answer.reason == reason


@pytest.mark.mended("it never answers, or only says that something went wrong")
@pytest.mark.parametrize("kind", PLAIN)
def test_any_other_exception_is_500_with_its_words(raised: Raise, kind: str) -> None:
    answer = raised(kind)
    assert answer.status == 500
    assert PLAIN[kind] in message(answer)
    assert PLAIN[kind] in answer.reason


@pytest.mark.mended("it never answers, or only says that something went wrong")
@pytest.mark.parametrize(
    ("kind", "status"), [("aiohttp-bare", 400), ("aiohttp-text", 400), ("werkzeug-bare", 404)]
)
def test_http_error_without_a_reason_keeps_its_status(
    raised: Raise, kind: str, status: int
) -> None:
    answer = raised(kind)
    assert answer.status == status
    assert message(answer)


@pytest.mark.mended("it never answers")
def test_text_of_an_http_error_reaches_the_caller(raised: Raise) -> None:
    assert TEXT in raised("aiohttp-text").body.decode()


@pytest.mark.mended("only that something went wrong")
def test_cause_of_an_http_error_that_cannot_be_made_reaches_the_caller(raised: Raise) -> None:
    answer = raised("aiohttp-chained")
    assert answer.status in (400, 500)
    assert TEXT in message(answer)


@pytest.mark.mended("only that something went wrong")
@pytest.mark.parametrize("kind", ["aiohttp-exception", "aiohttp-positional"])
def test_http_error_that_cannot_be_made_says_why(raised: Raise, kind: str) -> None:
    answer = raised(kind)
    assert answer.status in (400, 500)
    assert re.search(f"{TEXT}|argument", message(answer))


@pytest.mark.mended("it never answers")
@pytest.mark.parametrize("text", ["first\nsecond", "first\r\nX-Evil: second"])
def test_reason_of_several_lines_is_told_in_one(raised: Raise, text: str) -> None:
    answer = raised("aiohttp-base", text)
    said = message(answer)
    assert "first" in said
    assert "second" in said
    assert answer.header("X-Evil") is None


@pytest.mark.mended("only that something went wrong")
def test_message_of_several_lines_is_told_in_one(raised: Raise) -> None:
    answer = raised("value", "first\nsecond")
    said = message(answer)
    assert said.index("first") < said.index("second")
    assert answer.reason == said


@pytest.mark.mended("only that something went wrong")
@pytest.mark.parametrize("text", ["größe", "5 € 😀", "x" * 100_000], ids=["ö", "€", "long"])
def test_message_may_have_any_letters_and_length(raised: Raise, text: str) -> None:
    answer = raised("value", text)
    assert answer.status == 500
    assert text[:100] in message(answer)
    assert answer.status_line.isprintable()


@pytest.mark.mended("it never answers")
@pytest.mark.parametrize("kind", ["aiohttp-reason", "own", "exit", "keyboard", "stop-iteration"])
def test_next_request_is_unharmed(raised: Raise, patience: float, kind: str) -> None:
    for _ in range(2):
        raised(kind)
        answer = raised("none", of=kind)
        assert answer.status == 200
        assert json.loads(answer.body) == {"status": "OK", "predictions": TEXT}


def test_exception_is_500_and_the_next_request_unharmed(server: Server) -> None:
    assert server.predict("raises", params={"kind": "value"}).status_code == 500
    assert predictions(server.predict("raises")) == TEXT


def test_traceback_goes_to_the_log_and_not_to_the_caller(server: Server) -> None:
    response = server.predict("raises", params={"kind": "value", "text": "seen in the log"})
    assert "Traceback" not in response.text
    assert "raises.py" not in response.text
    log = server.log
    wait_until(lambda: "ValueError: seen in the log" in log(), within=5, what="the log line")
    assert "Traceback" in log()
    assert "raises.py" in log()


@pytest.mark.mended("it never answers")
def test_death_of_a_worker_is_answered(serve: Serve, patience: float) -> None:
    server = serve({"warmed": "zoo.warmed"})
    response = server.predict("warmed", params={"exit": "true"}, timeout=patience)
    assert response.status_code >= 500
    answer = response.json()
    assert answer["message"]
    assert answer["code"]


@pytest.mark.mended("it never answers again")
def test_replacement_of_a_dead_worker_is_warmed(serve: Serve, patience: float) -> None:
    server = serve({"warmed": "zoo.warmed"})
    first = predictions(server.predict("warmed"))["pid"]
    with contextlib.suppress(httpx.TimeoutException):
        server.predict("warmed", params={"exit": "true"}, timeout=patience)

    def answers() -> httpx.Response | None:
        with contextlib.suppress(httpx.TimeoutException):
            response = server.predict("warmed", timeout=patience)
            if response.status_code == 200:
                found.append(predictions(response))
                return response
        return None

    found: list[dict[str, int]] = []
    wait_until(answers, within=2 * patience, what="an answer of the replacement")
    assert found[0]["pid"] != first
    assert found[0]["warmed"] == 1
    assert found[0]["in"] == found[0]["pid"]


@pytest.mark.parametrize("verb", ["predict", "train"])
def test_missing_function_is_501(server: Server, verb: str) -> None:
    answer = server.raw_request("POST", f"/v2/models/bare/{verb}/")
    assert answer.status == 501
    assert answer.reason.startswith("Not implemented by underlying model")
    assert "Not implemented by underlying model" in answer.body.decode()


# --- too large


@pytest.fixture(scope="module")
def small(serve_all: Serve) -> Server:
    return serve_all({"files": "zoo.files"}, "--client-max-size", "1000")


LARGE = [
    {"json": {"text": "x" * 2000}},
    {"data": {"text": "x" * 2000}},
    multipart(Part("data", b"x" * 2000, "a.txt", "text/plain")),
    multipart(Part("text", b"x" * 2000)),
    {
        "content": [b'{"text": "', b"x" * 2000, b'"}'],
        "headers": {"Content-Type": "application/json"},
    },
]


@pytest.mark.parametrize("request_", LARGE, ids=["json", "form", "file", "multipart", "chunked"])
def test_too_large_a_body_is_413(small: Server, request_: dict[str, Any]) -> None:
    response = small.predict("files", **request_)
    assert response.status_code == 413
    assert small.predict("files", params={"text": "a"}).status_code == 200


def test_body_within_the_limit_is_taken(small: Server) -> None:
    assert small.predict("files", json={"text": "x" * 900}).status_code == 200
    file = Part("data", b"x" * 500, "a.txt", "text/plain")
    assert small.predict("files", **multipart(file)).status_code == 200


def test_without_a_limit_large_bodies_are_taken(server: Server) -> None:
    text = "x" * 5_000_000
    response = server.predict("raises", json={"kind": "none", "text": text})
    assert predictions(response) == text


# --- invalid requests


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
    ],
)
def test_malformed_request_is_400_and_harms_nobody(server: Server, data: bytes) -> None:
    assert server.raw(data).status == 400
    assert server.get("/").status_code == 200


def test_client_that_goes_away_harms_nobody(server: Server) -> None:
    with contextlib.suppress(TimeoutError):
        server.raw(
            b"POST /v2/models/raises/predict/ HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
            timeout=0.2,
        )
    assert predictions(server.predict("raises")) == TEXT


# --- disabled by option


@pytest.fixture(scope="module")
def disabled(serve_all: Serve) -> Server:
    return serve_all({"echo": "zoo.echo"}, "--nopredict-endpoint")


def test_disabled_predict_is_402(disabled: Server) -> None:
    assert disabled.predict("echo", json={"text": "a"}).status_code == 402


def test_disabled_predict_is_not_described(disabled: Server) -> None:
    paths = disabled.get("/swagger.json").json()["paths"]
    assert "/v2/models/echo/" in paths
    assert not [path for path in paths if "predict" in path]


@pytest.mark.mended("405")
def test_disabled_predict_is_402_for_get_too(disabled: Server) -> None:
    assert disabled.get("/v2/models/echo/predict/").status_code == 402


def test_disabled_train_is_402(serve: Serve) -> None:
    server = serve({"echo": "zoo.echo"}, "--notrain-endpoint")
    assert server.post("/v2/models/echo/train/").status_code == 402
    assert server.get("/v2/models/echo/train/").status_code == 402
    assert not [path for path in server.get("/swagger.json").json()["paths"] if "train" in path]
    assert server.predict("echo").status_code == 200
