"""Tests of the language example over HTTP, with a real `deepaas-run`."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.declared import send_examples
from tests.support import Server

SENTENCES = {
    "en": "The weather is nice today and we are going to the beach.",
    "de": "Das Wetter ist heute schön und wir gehen an den Strand.",
    "fr": "Il fait beau aujourd'hui et nous allons à la plage.",
    "es": "Hoy hace buen tiempo y vamos a la playa.",
    "it": "Oggi fa bel tempo e andiamo in spiaggia.",
    "ru": "Сегодня хорошая погода, и мы идём на пляж.",
    "zh": "今天天气很好，我们去海边。",  # noqa: RUF001
    "ja": "今日は天気がいいので、海に行きます。",
}


def run() -> Server:
    """Start a server without PYTHONPATH, which would hide the installed package."""
    args = ["--model-name", "language"]
    return Server(args=args, env={"PYTHONPATH": None}, ready_seconds=60)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run() as server:
        yield server


def candidates(server: Server, **kwargs: Any) -> list[dict[str, Any]]:
    answer = server.predict("language", **kwargs)
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def test_it_accepts_its_examples(server: Server) -> None:
    german, dutch = send_examples(server, "language")
    assert german.json()["predictions"][0]["language"] == "de"
    assert dutch.json()["predictions"][0]["language"] == "nl"


def test_metadata_is_that_of_the_package(server: Server) -> None:
    metadata = server.get("/v2/models/language/").json()
    assert metadata["version"] == "1.0.0"
    assert metadata["license"] == "Apache-2.0"


@pytest.mark.parametrize("how", ["params", "data", "json"])
@pytest.mark.parametrize("language", SENTENCES)
def test_the_language_is_recognised(server: Server, language: str, how: str) -> None:
    (best,) = candidates(server, **{how: {"text": SENTENCES[language]}})
    assert best["language"] == language
    assert 0.5 < best["score"] <= 1


def test_k_candidates_come_best_first(server: Server) -> None:
    found = candidates(server, json={"text": SENTENCES["it"], "k": 5})
    scores = [one["score"] for one in found]
    assert len(found) == 5
    assert scores == sorted(scores, reverse=True)


def test_many_lines_are_one_text(server: Server) -> None:
    text = "\n".join([SENTENCES["de"]] * 100)
    assert candidates(server, json={"text": text})[0]["language"] == "de"


def test_the_choice_can_be_limited(server: Server) -> None:
    found = candidates(server, params={"text": SENTENCES["es"], "k": 5, "among": ["pt", "gl"]})
    assert {one["language"] for one in found} == {"pt", "gl"}


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        pytest.param({}, {"text": ["Missing data for required field."]}, id="no text"),
        pytest.param({"text": ""}, {"text": ["Length must be between 1 and 10000."]}, id="empty"),
        pytest.param(
            {"text": "a" * 10_001}, {"text": ["Length must be between 1 and 10000."]}, id="long"
        ),
        pytest.param(
            {"text": "Hello", "k": 6},
            {"k": ["Must be greater than or equal to 1 and less than or equal to 5."]},
            id="k",
        ),
        pytest.param(
            {"text": "Hello", "among": ["en", "Galician"]},
            {"among": {"1": ["Not a language code."]}},
            id="among",
        ),
    ],
)
def test_wrong_arguments_are_named(
    server: Server, arguments: dict[str, Any], wrong: dict[str, Any]
) -> None:
    answer = server.predict("language", json=arguments)
    assert answer.status_code == 422
    assert answer.json() == wrong
