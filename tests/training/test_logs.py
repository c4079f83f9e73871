"""The log of a training over HTTP: existing lines, then new ones, each exactly once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import STOP_SECONDS, Server, leased_port, wait_until
from tests.training.following import EVENTS, Event, follow, follow_events
from tests.training.trainings import Place, Trainings, no_process_left
from tests.zoo.trains import torn_lines

MODELS = {"trains": "zoo.trains"}
BEGINS = "training begins"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--max-trainings", "4", "--notrain-warm", "--noreload-after-train")


@pytest.fixture
def trainings(server: Server) -> Trainings:
    return Trainings(server)


def path_of(uuid: str) -> str:
    return f"/v2/models/trains/train/{uuid}/logs"


def own(lines: list[str]) -> list[str]:
    """Return the lines that the model has printed, without its first."""
    return lines[lines.index(BEGINS) + 1 :]


# --- as text


def test_it_is_text_that_no_browser_takes_for_a_page(trainings: Trainings, server: Server) -> None:
    uuid = trainings.begin(do="raw", text=b"<b>h\xc3\xa9</b>\n".hex())
    trainings.wait(uuid)
    answer = server.get(path_of(uuid))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Log-Offset"] == "0"
    assert answer.text.endswith(f"{BEGINS}\n<b>hé</b>\n")


def test_it_begins_where_it_is_asked_to(trainings: Trainings, server: Server) -> None:
    uuid = trainings.begin(do="lines", size=20)
    trainings.wait(uuid)
    whole = server.get(path_of(uuid)).content
    for offset in (0, 1, 7, len(whole) - 1, len(whole)):
        answer = server.get(path_of(uuid), params={"offset": offset})
        assert answer.content == whole[offset:]
        assert answer.headers["X-Log-Offset"] == str(offset)


@pytest.mark.parametrize("offset", ["999999", "1" + "0" * 30, "0" * 5000 + "9" * 30])
def test_beyond_its_end_there_is_nothing(trainings: Trainings, server: Server, offset: str) -> None:
    uuid = trainings.begin()
    trainings.wait(uuid)
    end = len(server.get(path_of(uuid)).content)
    answer = server.get(path_of(uuid), params={"offset": offset})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["X-Log-Offset"] == str(end)


@pytest.mark.parametrize(
    ("query", "problems"),
    [
        ({"offset": "-1"}, {"offset": ["Must be an integer that is not negative."]}),
        ({"offset": "x"}, {"offset": ["Must be an integer that is not negative."]}),
        ({"offset": "1.5"}, {"offset": ["Must be an integer that is not negative."]}),
        ({"offset": ""}, {"offset": ["Must be an integer that is not negative."]}),
        ({"offset": "٣"}, {"offset": ["Must be an integer that is not negative."]}),
        ({"follow": "maybe"}, {"follow": ["Not a valid boolean."]}),
        ({"follow": ""}, {"follow": ["Not a valid boolean."]}),
        (
            {"follow": "2", "offset": "0x1"},
            {
                "offset": ["Must be an integer that is not negative."],
                "follow": ["Not a valid boolean."],
            },
        ),
    ],
)
def test_a_query_that_means_nothing_is_refused(
    trainings: Trainings, server: Server, query: dict[str, str], problems: object
) -> None:
    uuid = trainings.begin()
    answer = server.get(path_of(uuid), params=query)
    assert answer.status_code == 422
    assert answer.json() == problems
    trainings.wait(uuid)


@pytest.mark.parametrize("yes", ["true", "1", "yes", "True"])
def test_it_is_followed_by_any_yes(trainings: Trainings, server: Server, yes: str) -> None:
    uuid = trainings.begin()
    trainings.wait(uuid)
    answer = server.get(path_of(uuid), params={"follow": yes}, headers={"Accept": EVENTS})
    assert answer.headers["Content-Type"] == EVENTS


@pytest.mark.parametrize("no", ["false", "0", "no", "FALSE"])
def test_it_is_not_followed_by_any_no(trainings: Trainings, server: Server, no: str) -> None:
    uuid = trainings.begin()
    trainings.wait(uuid)
    answer = server.get(path_of(uuid), params={"follow": no}, headers={"Accept": EVENTS})
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_it_can_be_read_while_it_grows(trainings: Trainings, server: Server, place: Place) -> None:
    uuid = trainings.begin(place=place, do="lines", size=1)
    place.wait_for_attempt()
    wait_until(lambda: trainings.log(uuid).endswith(f"{BEGINS}\n"), within=10)
    place.open_gate()
    trainings.wait(uuid)
    assert "line 0 " in trainings.log(uuid)


# --- following


def test_a_line_reaches_who_follows_while_the_training_goes_on(
    trainings: Trainings, server: Server, place: Place
) -> None:
    uuid = trainings.begin(place=place, do="lines", size=15)
    with follow(server, path_of(uuid)) as follower:
        wait_until(lambda: BEGINS.encode() in follower.data, within=10, what="the first line")
        assert trainings.get(uuid)["status"] == "running"
        place.open_gate()
    lines = follower.data.decode().splitlines()
    assert len([line for line in lines if line.startswith("line ")]) == 15
    assert trainings.get(uuid)["status"] == "done"


def test_who_follows_is_let_go_at_the_end(
    trainings: Trainings, server: Server, place: Place
) -> None:
    uuid = trainings.begin(place=place, do="torn", size=10)
    with follow(server, path_of(uuid)) as follower:
        wait_until(lambda: BEGINS in follower.data.decode(), within=10)
        assert not follower.is_over
        place.open_gate()
    assert own(follower.data.decode().splitlines()) == torn_lines(10)
    assert follower.answer_headers["Content-Type"] == "text/plain; charset=utf-8"


def test_each_line_is_an_event_with_the_offset_after_it(
    trainings: Trainings, server: Server
) -> None:
    uuid = trainings.begin(do="torn", size=30)
    trainings.wait(uuid)
    with follow_events(server, path_of(uuid)) as follower:
        pass
    assert follower.answer_headers["Content-Type"] == EVENTS
    *events, end = follower.events
    assert own([event.data for event in events]) == torn_lines(30)
    whole = server.get(path_of(uuid)).content
    for before, event in zip([Event(id="0"), *events], events, strict=False):
        assert whole[int(before.id) : int(event.id)].decode() == f"{event.data}\n"
    assert (end.kind, end.id, end.status) == ("end", str(len(whole)), "done")


@pytest.mark.parametrize(("do", "status"), [("return", "done"), ("raise", "error")])
def test_the_end_tells_the_status(
    trainings: Trainings, server: Server, do: str, status: str
) -> None:
    uuid = trainings.begin(do=do)
    trainings.wait(uuid)
    with follow_events(server, path_of(uuid)) as follower:
        pass
    assert follower.events[-1].status == status
    assert trainings.get(uuid)["status"] == status


def test_who_follows_one_that_is_cancelled_is_told(
    trainings: Trainings, server: Server, place: Place
) -> None:
    uuid = trainings.begin(place=place)
    with follow_events(server, path_of(uuid)) as follower:
        place.wait_for_attempt()
        trainings.delete(uuid)
    assert follower.events[-1].status == "cancelled"


def test_there_is_no_going_on_after_the_end(trainings: Trainings, server: Server) -> None:
    uuid = trainings.begin()
    trainings.wait(uuid)
    with follow_events(server, path_of(uuid)) as follower:
        pass
    end = follower.events[-1]
    with follow_events(server, path_of(uuid), end.id) as again:
        pass
    assert (again.status, again.data) == (204, b"")
    with follow_events(server, path_of(uuid), "0") as anew:
        pass
    assert anew.events == follower.events


@pytest.mark.parametrize("last_id", ["nonsense", "-5", "1e3"])
def test_an_id_that_it_has_not_given_is_none(
    trainings: Trainings, server: Server, last_id: str
) -> None:
    uuid = trainings.begin(do="torn", size=3)
    trainings.wait(uuid)
    with follow_events(server, path_of(uuid), last_id) as follower:
        pass
    assert own(follower.lines) == torn_lines(3)


def test_who_follows_one_that_waits_sees_it_from_its_beginning(
    trainings: Trainings, server: Server, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as gates:
        running = []
        for name in "abcd":
            (tmp_path / name).mkdir()
            gates.callback(Place(tmp_path / name).open_gate)
            running.append(trainings.begin(place=tmp_path / name))
        uuid = trainings.begin(do="torn", size=5)
        assert trainings.get(uuid)["status"] == "queued"
        with follow_events(server, path_of(uuid)) as follower:
            assert follower.status == 200
            assert not follower.is_over
            gates.close()
    assert own(follower.lines) == torn_lines(5)
    for other in running:
        trainings.wait(other)


def test_who_follows_one_whose_record_is_removed_is_let_go(
    trainings: Trainings, server: Server, place: Place
) -> None:
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    with follow_events(server, path_of(uuid)) as follower:
        trainings.delete(uuid)
        trainings.delete(uuid)
        follower.join()
    assert server.get(path_of(uuid)).status_code == 404
    assert follower.error is None


def test_twenty_follow_at_once(trainings: Trainings, server: Server) -> None:
    uuid = trainings.begin(do="torn", size=60, seconds=0.02)
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(follow_events(server, path_of(uuid))) for _ in range(20)]
    assert {follower.events[-1].status for follower in followers} == {"done"}
    assert all(own(follower.lines) == torn_lines(60) for follower in followers)


def test_who_reads_slowly_misses_nothing(trainings: Trainings, server: Server) -> None:
    size = 12_000_000
    uuid = trainings.begin(do="print", size=size)
    with follow(server, path_of(uuid), slowness=1.5) as follower:
        trainings.wait(uuid)
        assert not follower.is_over  # no socket buffer holds this much
        assert server.get("/v2/health/live").status_code == 200
    printed = (b"x" * 99 + b"\n") * (size // 100)
    assert follower.data.endswith(f"{BEGINS}\n".encode() + printed + b"printed\n")


# --- resuming


def test_after_any_cut_nothing_is_missed_and_nothing_comes_twice(
    trainings: Trainings, server: Server
) -> None:
    cuts = random.Random(7)
    uuid = trainings.begin(do="torn", size=600, seconds=0.004)
    events: list[Event] = []
    while not events or not events[-1].is_end:
        last_id = events[-1].id if events else ""
        most = cuts.choice([1, 30, 300, 3000, 9000])
        with follow_events(server, path_of(uuid), last_id, most=most) as follower:
            pass
        events += follower.events
    assert own([event.data for event in events[:-1]]) == torn_lines(600)


def test_text_goes_on_at_any_byte(trainings: Trainings, server: Server) -> None:
    cuts = random.Random(8)
    uuid = trainings.begin(do="torn", size=400, seconds=0.004)
    data = b""
    while True:
        most = cuts.choice([1, 13, 500, 5000])
        with follow(server, path_of(uuid), offset=len(data), most=most) as follower:
            pass
        assert follower.answer_headers["X-Log-Offset"] == str(len(data))
        data += follower.data
        if not follower.data:
            break
    assert own(data.decode().splitlines()) == torn_lines(400)


@pytest.fixture(scope="module")
def small(serve_all: Serve) -> Server:
    """A server that keeps little of the output."""
    return serve_all(
        *(MODELS, "--train-log-size", "60000", "--notrain-warm", "--noreload-after-train"),
        *("--max-trainings", "2"),
    )


def test_no_more_is_kept_than_may_be(small: Server) -> None:
    trainings = Trainings(small)
    uuid = trainings.begin(do="torn", size=1000)
    trainings.wait(uuid)
    answer = small.get(path_of(uuid))
    lost = int(answer.headers["X-Log-Offset"])
    assert lost > 20000
    assert 40000 <= len(answer.content) <= 60000
    kept = answer.content.decode(errors="replace").splitlines()[1:]  # the first may be cut
    assert kept == torn_lines(1000)[-len(kept) :]
    log = small.home / ".local/state/deepaas/work" / uuid / "log"
    assert sum(path.stat().st_size for path in log.iterdir()) == len(answer.content)


def test_what_is_gone_is_left_out(small: Server) -> None:
    trainings = Trainings(small)
    uuid = trainings.begin(do="torn", size=1000)
    trainings.wait(uuid)
    first = int(small.get(path_of(uuid)).headers["X-Log-Offset"])
    assert small.get(path_of(uuid), params={"offset": 5}).headers["X-Log-Offset"] == str(first)
    with follow_events(small, path_of(uuid), "5") as follower:
        pass
    assert follower.answer_headers["X-Log-Offset"] == str(first)
    kept = follower.lines[1:]
    assert kept == torn_lines(1000)[-len(kept) :]


def test_nothing_is_missed_while_the_oldest_goes(small: Server, tmp_path: Path) -> None:
    """The training prints no more than the server keeps beyond the client's position."""
    cuts = random.Random(9)
    trainings = Trainings(small)
    allowed = tmp_path / "allowed"
    allowed.write_text("0")
    uuid = trainings.begin(do="torn as allowed", size=1000, text=allowed)
    events: list[Event] = []
    while not events or not events[-1].is_end:
        last_id = events[-1].id if events else ""
        (tmp_path / "more").write_text(str(int(last_id or 0) + 20_000))
        (tmp_path / "more").replace(allowed)
        most = cuts.choice([300, 2000, 9000])
        with follow_events(small, path_of(uuid), last_id, most=most) as follower:
            pass
        events += follower.events
    assert own([event.data for event in events[:-1]]) == torn_lines(1000)
    assert int(small.get(path_of(uuid)).headers["X-Log-Offset"]) > 20000


# --- odd bytes


ODD = {
    "crlf": (b"one\r\ntwo\rthree\n\nfour", ["one", "two", "three", "", "four"]),
    "no utf-8": (b"\xff\xfe\xc3\n\xe2\x82\n", ["\ufffd\ufffd\ufffd", "\ufffd"]),
    "separators": ("a\u2028b\u0085c\vd\fe\n".encode(), ["a\u2028b\u0085c\vd\fe"]),
    "fields": (b"data: x\n: comment\nevent: end\n\n", ["data: x", ": comment", "event: end", ""]),
    "nul": (b"a\x00b\x1b[1m\n", ["a\x00b\x1b[1m"]),
}


@pytest.mark.parametrize("name", ODD)
def test_whatever_is_printed_comes_as_lines(
    trainings: Trainings, server: Server, name: str
) -> None:
    printed, lines = ODD[name]
    uuid = trainings.begin(do="raw", text=printed.hex())
    trainings.wait(uuid)
    with follow_events(server, path_of(uuid)) as follower:
        pass
    assert own(follower.lines) == lines
    assert server.get(path_of(uuid)).content.endswith(printed)


def test_a_line_without_end_comes_in_pieces(trainings: Trainings, server: Server) -> None:
    uuid = trainings.begin(do="one line", size=300_000)
    trainings.wait(uuid)
    with follow_events(server, path_of(uuid)) as follower:
        pass
    pieces = own(follower.lines)
    assert max(map(len, pieces)) <= 64 * 1024
    assert "".join(pieces) == "é" * 150_000
    with follow_events(server, path_of(uuid), follower.events[-3].id) as again:
        pass
    assert again.events == follower.events[-2:]


# --- shutdown


@pytest.fixture
def port() -> Iterator[int]:
    with leased_port() as port:
        yield port


def test_who_follows_does_not_keep_a_server_from_stopping(serve: Serve, place: Place) -> None:
    server = serve(MODELS, "--cancel-timeout", "1", "--drain-timeout", "3600")
    uuid = Trainings(server).begin(place=place)
    place.wait_for_attempt()
    with follow_events(server, path_of(uuid)) as events, follow(server, path_of(uuid)) as text:
        os.kill(server.pid, signal.SIGTERM)
        events.join()
        text.join()
        assert server.wait_end(within=STOP_SECONDS) == 0
    assert not any(event.is_end for event in events.events)
    assert text.error is events.error is None


def test_the_next_server_goes_on_where_the_last_has_stopped(tmp_path: Path, port: int) -> None:
    args = ["--state-dir", str(tmp_path / "state"), "--keep-trainings"]
    with no_process_left() as uuids:
        with Server(MODELS, args=args, port=port) as server:
            uuid = Trainings(server).begin(do="torn", size=500, seconds=0.008)
            uuids.add(uuid)
            with follow_events(server, path_of(uuid)) as first:
                wait_until(lambda: len(first.events) > 20, within=20)
                os.kill(server.pid, signal.SIGTERM)
                assert server.wait_end() == 0
        with Server(MODELS, args=args, port=port) as server:
            with follow_events(server, path_of(uuid), first.events[-1].id) as second:
                pass
            assert second.events[-1].status == "done"
    assert not first.events[-1].is_end
    assert own(first.lines + second.lines) == torn_lines(500)
