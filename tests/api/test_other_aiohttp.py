"""The server serves everything with an aiohttp whose private parts differ from the expected ones.

Each test starts a server under which aiohttp's source is changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx
import pytest
import uvloop

from deepaas.http import aiohttp_adapter as adapter
from deepaas.http.probe import Findings, probe
from tests.api.test_intake import ask, statuses
from tests.clock import TurnedLoop
from tests.conftest import Serve
from tests.serving.inside import LIVE, Client, House
from tests.serving.segments import padded, predict
from tests.support import Part, Server, multipart

new_loop = uvloop.new_event_loop

RENAMING = Path(__file__).with_name("renaming.py")
MODELS = ("zoo.echo", "zoo.files", "zoo.streaming:Plain")

ON, SLOW, BARE = "on", "off", "off, and these limits are not enforced"
"""What the log says about the fast path."""

PAUSE = dict.fromkeys(adapter.BUFFER_PAUSE, BARE) if adapter.PAUSES_FOR_BUFFER else {}
NAMES = {
    **dict.fromkeys(adapter.NEEDED_FOR_LIMITS, BARE),
    **PAUSE,
    **dict.fromkeys(adapter.NEEDED_FOR_FAST_PATH, SLOW),
    "_ErrInfo": BARE,
    "_buffer": BARE,
    "_message": ON,
    # The server no longer uses these:
    "_keep_alive": ON,
    "_keepalive_timeout": ON,
    "_next_keepalive_close_time": ON,
    "_paused": ON,
    "_kwargs": ON,
}
"""What the log says if this name is another one in all of aiohttp."""

SHORT = {"_messages", "_process_keepalive", "_message"}
"""The names that `make test` tries: one for each level."""


def changed(serve: Serve, changes: dict[str, str], *args: str) -> Server:
    """Start a server with these replacements in the source of aiohttp."""
    launcher = [sys.executable, str(RENAMING), json.dumps(changes)]
    return serve({}, *MODELS, *args, launcher=launcher)


def renamed(serve: Serve, name: str, *args: str) -> Server:
    return changed(serve, {rf"\b{name}\b": f"_other{name}"}, *args)


def said(server: Server) -> str:
    """Return what the log says about the fast path, which it says once."""
    (line,) = [line for line in server.log().splitlines() if "The fast path is" in line]
    return line.partition("The fast path is ")[2]


def serves_everything(server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        assert client.get("/v2/models/").status_code == 200
        for path in ("/v2/models/echo/predict/", "/v2/models/echo/predict/", "/nowhere"):
            answer = client.post(path, json={"text": "abc"})
            assert answer.status_code == (404 if path == "/nowhere" else 200)
        large = "x" * 600_000
        answer = client.post("/v2/models/echo/predict/", json={"text": large})
        assert answer.json()["predictions"]["text"] == ["str", large]
        form = multipart(Part("data", b"y" * 300_000, "data.bin"))
        answer = client.post("/v2/models/files/predict/", **form)
        assert answer.json()["status"] == "OK", answer.text
        with client.stream(
            "POST",
            "/v2/models/streaming/predict/?count=3",
            headers={"Accept": "application/x-ndjson"},
        ) as stream:
            assert [json.loads(line) for line in stream.iter_lines()] == [
                {"n": number} for number in range(3)
            ]
        assert client.get("/v2/health/live").status_code == 200
    malformed = server.raw(b"no request\r\n\r\n")
    assert (malformed.status, json.loads(malformed.body)["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SHORT else pytest.mark.long) for name in NAMES],
)
def test_server_serves_everything_if_a_private_name_is_another(serve: Serve, name: str) -> None:
    server = renamed(serve, name)
    serves_everything(server)
    told = said(server)
    assert told.partition(":" if NAMES[name] is BARE else " ")[0].rstrip(",") == NAMES[name]
    if NAMES[name] is not ON:
        assert f" has no {name}" in told
        assert f"aiohttp {aiohttp.__version__} is not as expected" in told
    assert "Traceback" not in server.log()


def test_limits_hold_if_only_the_fast_path_is_off(serve: Serve) -> None:
    server = renamed(serve, "_process_keepalive", "--client-max-head", "2000")
    answer = server.get("/v2/health/live", headers={"X-Padding": "x" * 2000})
    assert (answer.status_code, answer.json()["code"]) == (431, "head_too_large")


CHANGES = {
    "requests have a third item": (
        {
            r"\(msg, payload\)\)": "(msg, payload, None))",
            r"message, payload = (.*popleft.*)": r"message, payload, _ = \1",
        },
        BARE,
    ),
    "the parameters of a method": (
        {
            r"( *)def data_received\(self, data: bytes\) -> None:": (
                r"\1def data_received(self, chunk: bytes) -> None:\n\1    data = chunk"
            )
        },
        BARE,
    ),
    "a name of the server": ({r'"_tcp_keepalive",': '"_tcp_keepalive", "_wire",'}, BARE),
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.long if number else ())
        for number, kind in enumerate(CHANGES)
    ],
)
def test_changed_behaviour_of_a_known_name_is_noticed(serve: Serve, kind: str) -> None:
    changes, expected = CHANGES[kind]
    server = changed(serve, changes)
    serves_everything(server)
    assert said(server).startswith(expected)


# --- the option, and the log


def test_log_says_that_the_fast_path_is_on(serve: Serve) -> None:
    server = serve({}, *MODELS)
    serves_everything(server)
    assert said(server) == f"on (aiohttp {aiohttp.__version__})"
    assert aiohttp.__file__.startswith(os.environ.get("AIOHTTP_OVERLAY", ""))


def test_fast_path_can_be_switched_off(serve: Serve) -> None:
    server = serve({}, *MODELS, "--nofast-path")
    serves_everything(server)
    assert said(server) == "off (--nofast-path)"


# --- the self-test


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_self_test_leaves_nothing_behind() -> None:
    assert await probe() == Findings()  # the first time may open files that stay open
    before = open_files(), len(asyncio.all_tasks())
    for _ in range(5):
        assert await probe() == Findings()
        assert await probe(is_wanted=False) == Findings()
    assert (open_files(), len(asyncio.all_tasks())) == before


async def test_self_test_that_gets_no_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server starts without the fast path if aiohttp does not answer."""
    monkeypatch.setattr("deepaas.http.probe.SECONDS", 0.05)
    monkeypatch.setattr(adapter.AiohttpConnection, "latest", lambda _: 1 / 0)
    findings = await probe()
    assert findings.fast_path.startswith("a self-test ")
    assert findings.limits.startswith("a self-test ")


# --- connections without the fast path, and without limits of the input


@pytest.fixture(scope="module")
async def slow() -> AsyncIterator[House]:
    async with House(has_fast_path=False) as house:
        yield house


@pytest.fixture(scope="module")
async def bare() -> AsyncIterator[House]:
    async with House(is_limited=False) as house:
        yield house


BODY = padded(100, text="abc")


async def test_known_head_is_parsed_again_without_the_fast_path(slow: House) -> None:
    async with Client(slow) as client:
        for _ in range(3):
            assert (await client.long(predict("gated", "", BODY))).predicted["text"] == 3


async def test_limits_of_heads_hold_without_the_fast_path(slow: House) -> None:
    head = b"GET /v2/health/live HTTP/1.1\r\n" + b"X: %b\r\n" % (b"x" * 5000) * 15
    assert statuses(await ask(slow, head)) == [b"431"]


async def test_plain_connection_answers_pipelined_and_malformed_requests(bare: House) -> None:
    one = predict("gated", "", BODY).data
    assert statuses(await ask(bare, one * 3, b"no request\r\n\r\n", pause=0.05)) == [
        *(b"200", b"200", b"200", b"400")
    ]


async def test_plain_connection_knows_since_when_it_is_idle(bare: House) -> None:
    async with Client(bare) as client:
        await bare.until(lambda: len(bare.http.open) == 1, "one connection")
        (connection,) = bare.http.open
        idle = connection.idle_since()
        assert idle is not None
        assert idle[0]
        waiting = client.send(predict("gated", "", padded(100, seconds=0.2)).data)
        await waiting
        await bare.until(lambda: connection.idle_since() is None, "a busy connection")
        await client.answer()
        later = connection.idle_since()
        assert later is not None
        assert later[1] > idle[1]


def test_plain_connection_is_closed_if_no_head_arrives() -> None:
    """The clock is moved ahead."""

    async def unfinished() -> None:
        async with Client(house) as client:
            await client.send(LIVE.data[:20], pause=0.01)
            await house.turn(31)
            assert await client.rest() == b""

    with House(is_limited=False, receive_timeout=30, new_loop=TurnedLoop) as house:
        house.run(unfinished())
