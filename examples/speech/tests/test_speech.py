"""Tests of the speech example over HTTP, with a real `deepaas-run`."""

import json
import time
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.declared import send_examples
from tests.support import Server

SAMPLE = Path(__file__).parents[1] / "samples" / "greeting.wav"
SAMPLE_SECONDS = 2.96
WORDS = [(0.2, 0.75), (1.3, 1.8), (2.25, 2.8)]  # Good morning. How are you? Goodbye.

Segments = list[dict[str, float]]


def run(*args: str) -> Server:
    """Start a server without PYTHONPATH, which would hide the installed package."""
    args = ("--model-name", "speech", *args)
    return Server(args=args, env={"PYTHONPATH": None}, ready_seconds=60)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run() as server:
        yield server


def sound(times: int = 1) -> bytes:
    """Return the samples of the recording, repeated `times` times."""
    with wave.open(str(SAMPLE)) as recording:
        frames: bytes = recording.readframes(recording.getnframes())
    return frames * times


def wav(samples: bytes, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setframerate(rate)
        recording.setnchannels(channels)
        recording.setsampwidth(width)
        recording.writeframes(samples)
    return file.getvalue()


def predict(server: Server, audio: bytes, **kwargs: Any) -> httpx.Response:
    return server.predict("speech", files={"audio": ("a.wav", audio)}, **kwargs)


def segments(server: Server, audio: bytes, **kwargs: Any) -> Segments:
    answer = predict(server, audio, **kwargs)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_it_accepts_its_examples(server: Server) -> None:
    (answer,) = send_examples(server, "speech")
    assert len(answer.text.splitlines()) == 1


def test_metadata_is_that_of_the_package(server: Server) -> None:
    metadata = server.get("/v2/models/speech/").json()
    assert metadata["version"] == "1.0.0"
    assert metadata["license"] == "Apache-2.0"


def test_speech_is_found_where_it_is(server: Server) -> None:
    found = segments(server, SAMPLE.read_bytes())
    assert len(found) == len(WORDS)
    for segment, (start, end) in zip(found, WORDS, strict=True):
        assert segment == {
            "start": pytest.approx(start, abs=0.1),
            "end": pytest.approx(end, abs=0.1),
        }


def test_events_carry_the_same_as_lines(server: Server) -> None:
    answer = predict(server, SAMPLE.read_bytes(), headers={"Accept": "text/event-stream"})
    assert answer.headers["Content-Type"] == "text/event-stream"
    events = answer.text.removesuffix("\n\n").split("\n\n")
    data = [json.loads(event.removeprefix("data: ")) for event in events]
    assert data == segments(server, SAMPLE.read_bytes())


def test_a_longer_pause_can_be_asked_for(server: Server) -> None:
    first, *_, last = segments(server, SAMPLE.read_bytes())
    joined = segments(server, SAMPLE.read_bytes(), data={"min_silence": 1})
    assert joined == [{"start": first["start"], "end": last["end"]}]


def test_a_higher_threshold_finds_no_more_speech(server: Server) -> None:
    def seconds(threshold: float) -> float:
        found = segments(
            server, SAMPLE.read_bytes(), data={"threshold": threshold, "min_silence": 0}
        )
        return sum(one["end"] - one["start"] for one in found)

    assert seconds(0.1) >= seconds(0.5) >= seconds(0.99) > 0


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(wav(bytes(2 * 16_000)), id="silence"),
        pytest.param(wav(b""), id="no sound"),
        pytest.param(wav(bytes(100)), id="less than a chunk"),
    ],
)
def test_where_nobody_speaks_the_answer_is_empty(server: Server, audio: bytes) -> None:
    assert segments(server, audio) == []


def test_a_recording_ends_in_the_midst_of_speech(server: Server) -> None:
    (segment,) = segments(server, wav(sound()[: 32_000 // 2]))
    assert segment["end"] == pytest.approx(0.5, abs=0.033)


@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", (10**6).to_bytes(4, "little")])
def test_a_size_that_is_not_known_yet_plays_no_part(server: Server, size: bytes) -> None:
    """Programs that write WAV to a pipe put too large a size into its header."""
    whole = SAMPLE.read_bytes()
    audio = whole[:4] + size + whole[8:40] + size + whole[44:]
    assert segments(server, audio) == segments(server, whole)


def test_segments_come_before_the_recording_is_over(server: Server) -> None:
    started = time.monotonic()
    arrivals = []
    url = f"{server.url}/v2/models/speech/predict/"
    with httpx.stream(
        "POST", url, files={"audio": ("a.wav", wav(sound(times=20)))}, trust_env=False
    ) as answer:
        for line in answer.iter_lines():
            arrivals.append(time.monotonic() - started)
            assert json.loads(line)["end"] <= 20 * SAMPLE_SECONDS
    assert len(arrivals) >= 20
    assert arrivals[0] < arrivals[-1] / 2


def test_a_recording_does_not_change_the_next(server: Server) -> None:
    alone = segments(server, SAMPLE.read_bytes())
    loud = wav(sound()[: 32_000 // 2])  # ends in the middle of speech
    assert segments(server, loud) != []
    assert segments(server, SAMPLE.read_bytes()) == alone


def test_a_client_that_leaves_does_not_change_the_next(server: Server) -> None:
    alone = segments(server, SAMPLE.read_bytes())
    url = f"{server.url}/v2/models/speech/predict/"
    with httpx.stream(
        "POST", url, files={"audio": ("a.wav", wav(sound(times=20)))}, trust_env=False
    ) as answer:
        next(answer.iter_lines())
    assert segments(server, SAMPLE.read_bytes()) == alone


def test_recordings_at_the_same_time_do_not_mix(server: Server) -> None:
    whole, part = SAMPLE.read_bytes(), wav(sound()[: 32_000 * 2])
    expected = {audio: segments(server, audio) for audio in (whole, part)}
    assert expected[whole] != expected[part]
    sent = [whole, part] * 4
    with ThreadPoolExecutor(len(sent)) as clients:
        found = list(clients.map(lambda audio: segments(server, audio), sent))
    assert found == [expected[audio] for audio in sent]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        pytest.param(wav(sound(), rate=44_100), "44100 Hz, 1 channel, 16 bit", id="rate"),
        pytest.param(wav(sound(), channels=2), "16000 Hz, 2 channels, 16 bit", id="stereo"),
        pytest.param(wav(sound(), width=1), "16000 Hz, 1 channel, 8 bit", id="8 bit"),
        pytest.param(b"no sound", "not a readable WAV file", id="text"),
        pytest.param(SAMPLE.read_bytes()[:30], "not a readable WAV file", id="cut off"),
        pytest.param(b"", "not a readable WAV file", id="empty"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_bad_recording_is_refused_with_the_reason(
    server: Server, audio: bytes, message: str, accept: str
) -> None:
    answer = predict(server, audio, headers={"Accept": accept})
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("audio ")
    assert message in answer.json()["message"]


def test_text_in_place_of_the_recording_is_refused(server: Server) -> None:
    answer = server.predict("speech", data={"audio": "Hello"}, files={"other": b"x"})
    assert answer.status_code == 422
    assert "-F audio=@file" in answer.json()["audio"][0]


@pytest.mark.parametrize(
    ("data", "wrong"),
    [({"threshold": "1.1"}, "threshold"), ({"min_silence": "-1"}, "min_silence")],
)
def test_wrong_arguments_are_named(server: Server, data: dict[str, str], wrong: str) -> None:
    answer = predict(server, SAMPLE.read_bytes(), data=data)
    assert answer.status_code == 422
    assert list(answer.json()) == [wrong]


def test_it_predicts_without_being_warmed() -> None:
    with run("--nowarm") as server:
        assert len(segments(server, SAMPLE.read_bytes())) == len(WORDS)
