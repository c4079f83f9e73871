"""Unknown arguments are ignored: a response header names them, and the log names them once."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import Server

PLACES: dict[str, Any] = {
    "query": {"params": {"txt": "v4lue"}},
    "form": {"data": {"txt": "v4lue"}},
    "multipart": {"files": {"txt": (None, "v4lue")}},
    "json": {"json": {"txt": "v4lue"}},
}
NAMED = '299 - "Unknown arguments are ignored: txt"'


MANNERS = {
    "batch": "zoo.batched:Batched",
    "async": "zoo.asynchronous:Async",
    "stream": "zoo.streaming:Plain",
    "async-stream": "zoo.streaming:Async",
}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    models = {name: f"zoo.{name}" for name in ("sources", "trained", "plain")}
    return serve_all(models | MANNERS, "--workers=2")


def logged(server: Server, start: int = 0) -> list[str]:
    lines = server.log()[start:].splitlines()
    return [line[line.index("deepaas.api") :] for line in lines if "unknown arguments" in line]


@pytest.mark.parametrize("place", PLACES)
def test_unknown_argument_of_a_prediction_is_named(server: Server, place: str) -> None:
    answer = server.predict("sources", **PLACES[place])
    assert (answer.status_code, answer.json()["predictions"]) == (200, {})
    assert answer.headers["Warning"] == NAMED


@pytest.mark.parametrize("place", PLACES)
def test_unknown_argument_of_a_training_is_named(server: Server, place: str) -> None:
    answer = server.post("/v2/models/trained/train/", **PLACES[place])
    assert answer.status_code == 200
    assert answer.headers["Warning"] == NAMED
    assert "txt" not in answer.json()["args"]


@pytest.mark.parametrize("place", PLACES)
def test_unknown_argument_of_an_asynchronous_prediction_is_named(
    server: Server, place: str
) -> None:
    headers = {"Prefer": "respond-async"}
    answer = server.predict("sources", headers=headers, **PLACES[place])
    assert answer.status_code == 202
    assert answer.headers["Warning"] == NAMED


@pytest.mark.parametrize("model", MANNERS)
def test_every_manner_of_predicting_names_them(server: Server, model: str) -> None:
    known = {} if "stream" in model else {"id": "1"}
    answer = server.predict(model, params={"txt": "1", **known})
    assert answer.status_code == 200
    assert answer.headers["Warning"] == NAMED


def test_invalid_request_names_them_too(server: Server) -> None:
    answer = server.predict("plain", json={"knd": "str"})
    assert (answer.status_code, answer.json()) == (
        422,
        {"kind": ["Missing data for required field."]},
    )
    assert answer.headers["Warning"] == '299 - "Unknown arguments are ignored: knd"'


def test_failed_prediction_names_them_too(server: Server) -> None:
    answer = server.predict("plain", json={"kind": "no such kind", "knd": 1})
    assert answer.status_code == 500
    assert answer.headers["Warning"] == '299 - "Unknown arguments are ignored: knd"'


def test_large_answer_names_them_too(server: Server) -> None:
    answer = server.predict("plain", json={"kind": "huge", "knd": 1})
    assert len(answer.content) > 3_000_000
    assert answer.headers["Warning"] == '299 - "Unknown arguments are ignored: knd"'


def test_answer_without_unknown_arguments_has_no_warning(server: Server) -> None:
    assert "Warning" not in server.predict("sources", params={"text": "a"}).headers
    assert "Warning" not in server.post("/v2/models/trained/train/", json={"epochs": 1}).headers


def test_request_that_comes_again_on_one_connection_is_warned_of_again(server: Server) -> None:
    path, body = "/v2/models/sources/predict/", json.dumps({"text": "a", "txt": "b"})
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        answers = [client.post(path, content=body, headers=headers) for _ in range(4)]
        plain = [client.post(path, json={"text": "a"}) for _ in range(3)]
    assert [answer.headers.get("Warning") for answer in answers] == [NAMED] * 4
    assert {answer.text for answer in answers} == {answer.text for answer in plain}
    assert [answer.headers.get("Warning") for answer in plain] == [None] * 3


def test_json_that_is_sent_as_a_form_is_told_and_not_shown(server: Server) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b'{"text": "hunter2"}'
    start = len(server.log())
    answer = server.predict("sources", content=body, headers=headers)
    assert answer.headers["Warning"] == (
        '299 - "Unknown arguments are ignored: 1 whose names are not shown; the body looks like '
        'JSON, so send it with Content-Type: application/json"'
    )
    assert "hunter2" not in server.log()[start:]


def test_name_beyond_ascii_is_encoded_in_the_header(server: Server) -> None:
    answer = server.predict("sources", json={"größe": 1})
    assert answer.headers["Warning"] == '299 - "Unknown arguments are ignored: gr%C3%B6%C3%9Fe"'


def test_many_names_make_a_short_header(server: Server) -> None:
    answer = server.predict("sources", json={f"n{i:02}" + "x" * 60: 1 for i in range(1000)})
    assert answer.headers["Warning"].endswith(' and 990 more whose names are not shown"')
    assert len(answer.headers["Warning"]) < 1000


# --- the log


def test_log_names_each_argument_of_a_function_once_and_no_value(serve: Serve) -> None:
    server = serve({}, "zoo.trained", "--workers=2")
    for _ in range(5):
        for place in PLACES.values():
            server.predict("trained", **place)
        server.post("/v2/models/trained/train/", json={"txt": "v4lue", "other": 1})
    server.predict("trained", json={"txt": "v4lue", "third": "v4lue"})
    assert logged(server) == [
        "deepaas.api predict of model trained ignores unknown arguments: txt",
        "deepaas.api train of model trained ignores unknown arguments: txt, other",
        "deepaas.api predict of model trained ignores unknown arguments: third",
    ]
    masked = [line for line in server.log().splitlines() if "deepaas.access" not in line]
    assert "v4lue" not in "\n".join(masked)


def test_log_names_no_more_arguments_than_the_option_says(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "--log-unknown-arguments", "12")
    for number in range(30):
        server.predict("echo", json={"text": "a", f"a{number}": 1, f"b{number}": 1})
    text = "\n".join(logged(server))
    assert len(re.findall(r"\b[ab]\d+", text)) == 12
    assert text.endswith("ignores unknown arguments: a5, b5; no further names are logged")


def test_log_names_none_if_the_option_says_so(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "--log-unknown-arguments", "0")
    answer = server.predict("echo", json={"text": "a", "txt": 1})
    assert answer.headers["Warning"] == NAMED
    assert logged(server) == []
