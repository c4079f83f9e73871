"""Asynchronous predictions: `Prefer: respond-async`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.conftest import DISK_BYTES, Disk, Serve
from tests.support import Part, Server, multipart, predictions, wait_until
from tests.training.trainings import Place, Site, Trainings, kill_server
from tests.zoo import raises

MODELS = {
    "trains": "zoo.trains",
    "returns": "zoo.returns",
    "media": "zoo.media",
    "files": "zoo.files",
    "raises": "zoo.raises",
    "labels": "zoo.schema_class",
    "streams": "zoo.streaming:Bare",
    "batched": "zoo.batched:Batched",
    "async": "zoo.asynchronous:Async",
    "yields": "zoo.streaming:Plain",
    "yields asynchronously": "zoo.streaming:Async",
    "one by one": "zoo.batched:WithPredict",
    "star": "zoo.media_star",
}
BATCHES = ["exception", "http", "object", "short", "long", "columns", "text", "raise", "pop"]
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--max-jobs", "2", "--max-queued-jobs", "100")


def begin(server: Server, model: str, **kwargs: Any) -> httpx.Response:
    headers = {**kwargs.pop("headers", {}), **ASYNC}
    return server.predict(model, headers=headers, **kwargs)


def result(server: Server, model: str, **kwargs: Any) -> httpx.Response:
    """Wait for an asynchronous prediction, and return the response with its result."""
    answer = begin(server, model, **kwargs)
    assert answer.status_code == 202, answer.text
    jobs = Trainings(server, model, "jobs")
    jobs.wait(answer.json()["uuid"])
    return server.get(f"{answer.headers['Location']}/result")


def test_it_is_answered_with_the_place_of_its_record(server: Server) -> None:
    answer = begin(server, "trains", params={"number": 3})
    record = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v2/models/trains/jobs/{record['uuid']}"
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert record["args"]["number"] == 3
    assert record["status"] in ("queued", "running")
    done = Trainings(server, segment="jobs").wait(record["uuid"])
    assert done["result"]["output"]["predictions"]["warmed"] == 1


@pytest.mark.parametrize(
    ("model", "query"),
    [
        ("labels", {"label": "a"}),
        ("media", {}),
        ("media", {"accept": "image/png"}),
        ("batched", {"id": 7}),
        ("streams", {}),
        ("async", {"id": 7}),
    ],
    ids=lambda value: str(value),
)
def test_its_result_is_that_of_a_prediction_that_was_waited_for(
    server: Server, model: str, query: Mapping[str, Any]
) -> None:
    waited_for = server.predict(model, params=query)
    later = result(server, model, params=query)
    assert later.status_code == waited_for.status_code == 200
    for name in ("Content-Type", "Content-Disposition"):
        assert later.headers.get(name) == waited_for.headers.get(name)
    if model in ("batched", "async"):  # these return the id of their process
        assert later.json().keys() == waited_for.json().keys()
    else:
        assert later.content == waited_for.content


@pytest.mark.parametrize("kind", ["none", "str", "bytes", "bytesio-named", "file", "file-odd-name"])
def test_its_result_may_be_of_any_media_type(server: Server, kind: str) -> None:
    asked = {"params": {"kind": kind}, "headers": {"Accept": "image/png"}}
    waited_for = server.predict("returns", **asked)
    later = result(server, "returns", **asked)
    assert waited_for.status_code == later.status_code == 200
    assert later.content == waited_for.content
    for name in ("Content-Type", "Content-Disposition"):
        assert later.headers.get(name) == waited_for.headers.get(name)


def test_a_stream_becomes_events_for_who_asks_for_them(server: Server) -> None:
    asked = {"headers": {"Accept": "text/event-stream"}}
    waited_for = server.predict("streams", **asked)
    later = result(server, "streams", **asked)
    assert later.headers["Content-Type"] == waited_for.headers["Content-Type"]
    assert later.content == waited_for.content


def test_its_upload_is_there(server: Server) -> None:
    form = multipart(Part("data", b"content", "a.txt", "text/plain"))
    headers = {**form.pop("headers"), **ASYNC}
    answer = server.predict("files", headers=headers, **form)
    job = Trainings(server, "files", "jobs").wait(answer.json()["uuid"])
    assert job["args"] == {"data": ["data", "text/plain", "a.txt"]}
    assert job["result"]["output"]["predictions"]["data"]["content"] == "content"


EVENTS = {"Accept": "text/event-stream"}
SAME: list[tuple[str, dict[str, Any]]] = [
    *(("raises", {"params": {"kind": kind}}) for kind in raises.KINDS),
    *(
        ("yields", {"params": {"kind": kind, "end": end}, "headers": headers})
        for kind, end in [
            ("count", "raise"),
            ("count", "http"),
            ("count", "system-exit"),
            ("count", "object"),
            ("texts", ""),
            ("odd", ""),
        ]
        for headers in ({}, EVENTS)
    ),
    ("yields", {"params": {"count": "0", "end": "raise"}}),
    ("yields", {"params": {"count": "0"}}),
    ("yields asynchronously", {"params": {"end": "raise"}}),
    *(("batched", {"params": {"id": 7, "do": do}}) for do in BATCHES),
    ("one by one", {"params": {"id": 7, "do": "exception"}}),
    ("star", {"params": {"accept": "image/*"}}),
    ("star", {"params": {"accept": "image/*", "name": "a.png"}}),
]
OF_THE_TRANSFER = {
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "server-timing",
    "transfer-encoding",
    "x-request-id",
}


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param(SAME[::3], id="third"),
        pytest.param([*SAME[1::3], *SAME[2::3]], id="rest", marks=pytest.mark.long),
    ],
)
def test_its_answer_is_that_of_a_prediction_that_was_waited_for(
    server: Server, requests: list[tuple[str, dict[str, Any]]]
) -> None:
    begun = [begin(server, model, **asked) for model, asked in requests]
    assert {answer.status_code for answer in begun} == {202}
    for (model, asked), answer in zip(requests, begun, strict=True):
        waited_for = server.predict(model, **asked)
        Trainings(server, model, "jobs").wait(answer.json()["uuid"], within=120)
        later = server.get(f"{answer.headers['Location']}/result")
        assert seen(later) == seen(waited_for), (model, asked)


def seen(answer: httpx.Response) -> tuple[int, str, bytes, dict[str, str]]:
    """Return what a client can see of a response, without the headers of the transfer and the
    request id."""
    content = answer.content.replace(answer.headers["X-Request-ID"].encode(), b"")
    headers = {name: value for name, value in answer.headers.items() if name not in OF_THE_TRANSFER}
    return answer.status_code, answer.reason_phrase, content, headers


def test_stream_that_has_no_room_for_its_error_breaks_off(server: Server) -> None:
    asked = {"params": {"kind": "bytes", "end": "raise", "accept": "application/octet-stream"}}
    with pytest.raises(httpx.TransportError):
        server.predict("yields", **asked)
    with pytest.raises(httpx.TransportError):
        result(server, "yields", **asked)


def test_record_of_an_exception_that_is_no_error_is_done(server: Server) -> None:
    uuid = begin(server, "raises", params={"kind": "aiohttp-302"}).json()["uuid"]
    assert Trainings(server, "raises", "jobs").wait(uuid)["status"] == "done"


def test_batch_model_is_called_as_the_options_say(serve: Serve) -> None:
    server = serve({"both": "zoo.batched:WithPredict"}, "--max-batch-size", "1")
    waited_for = predictions(server.predict("both", params={"id": 7}))
    assert (
        predictions(result(server, "both", params={"id": 7}))["how"] == waited_for["how"] == "one"
    )


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("sized", {"do": "json", "size": DISK_BYTES + 1}),
        ("yields", {"kind": "large", "count": 8, "size": DISK_BYTES // 4}),
    ],
)
def test_result_for_which_there_is_no_room_is_507(
    serve: Serve, disk: Disk, model: str, asked: Mapping[str, Any]
) -> None:
    models = {"sized": "zoo.sized", "yields": "zoo.streaming:Plain"}
    server = serve(models, "--state-dir", str(disk.path / "state"))
    later = result(server, model, params=asked)
    assert later.status_code == 507
    assert later.json()["code"] == "storage_failed"
    assert later.json()["message"].startswith("There is no room for the result")


def test_a_result_that_cannot_be_sent_is_an_error(server: Server) -> None:
    later = result(server, "returns", params={"kind": "object"})
    assert later.status_code == 500
    assert later.json()["code"] == "result_not_encodable"


def test_invalid_arguments_are_refused_at_once(server: Server) -> None:
    answer = begin(server, "trains", params={"number": "many"})
    assert answer.status_code == 422
    assert answer.json() == {"number": ["Not a valid integer."]}


@pytest.mark.parametrize(
    "headers",
    [
        [("Prefer", "wait=5, respond-async")],
        [("Prefer", "Respond-Async")],
        [("prefer", "return=minimal"), ("Prefer", "respond-async; foo")],
    ],
)
def test_the_preference_is_understood_in_any_form(
    server: Server, headers: list[tuple[str, str]]
) -> None:
    assert server.predict("trains", headers=headers).status_code == 202


@pytest.mark.parametrize("preference", ["wait=10", "respond-async-not", ""])
def test_without_the_preference_nothing_is_other(server: Server, preference: str) -> None:
    assert predictions(server.predict("trains", headers={"Prefer": preference}))["warmed"] == 1


def test_a_result_that_is_not_there_yet_is_409(server: Server, place: Place) -> None:
    answer = begin(server, "trains", params={"place": str(place)})
    place.wait_for_attempt()
    early = server.get(f"{answer.headers['Location']}/result")
    assert early.status_code == 409
    assert early.json()["code"] == "not_finished"
    place.open_gate()
    Trainings(server, segment="jobs").wait(answer.json()["uuid"])


def test_one_that_runs_is_cancelled(server: Server, place: Place) -> None:
    answer = begin(server, "trains", params={"place": str(place)})
    place.wait_for_attempt()
    jobs = Trainings(server, segment="jobs")
    cancelled = jobs.delete(answer.json()["uuid"])
    assert cancelled.json()["status"] == "cancelled"
    after = server.get(f"{answer.headers['Location']}/result")
    assert after.status_code == 409
    assert "cancelled" in after.json()["message"]


def test_it_is_no_training(server: Server) -> None:
    uuid = begin(server, "trains").json()["uuid"]
    jobs = Trainings(server, segment="jobs")
    assert uuid in [job["uuid"] for job in jobs.list()]
    assert uuid not in [one["uuid"] for one in Trainings(server).list()]
    jobs.wait(uuid)


def test_secrets_are_masked(server: Server) -> None:
    answer = begin(server, "trains", params={"password": "hidden"})
    assert answer.json()["args"]["password"] == "********"
    Trainings(server, segment="jobs").wait(answer.json()["uuid"])
    assert "hidden" not in server.log()


def test_so_many_run_and_so_many_wait(serve: Serve, places: list[Place]) -> None:
    server = serve(MODELS, "--max-jobs", "2", "--max-queued-jobs", "1")
    answers = [begin(server, "trains", params={"place": str(place)}) for place in places[:4]]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 503]
    assert int(answers[3].headers["Retry-After"]) > 0
    assert [answer.json()["status"] for answer in answers[:3]] == ["running", "running", "queued"]
    for place in places[:3]:
        place.open_gate()
    for answer in answers[:3]:
        Trainings(server, segment="jobs").wait(answer.json()["uuid"])


def test_it_outlives_the_server(site: Site, place: Place) -> None:
    before = site.serve().server
    uuid = begin(before, "trains", params={"place": str(place)}).json()["uuid"]
    place.wait_for_attempt()
    kill_server(before)
    server = site.serve().server
    jobs = Trainings(server, segment="jobs")
    assert jobs.get(uuid)["status"] == "running"
    place.open_gate()
    assert jobs.wait(uuid)["status"] == "done"
    assert len(place.attempts) == 1
    assert predictions(server.get(f"{jobs.path}{uuid}/result"))["weights"] == "none"


def test_predictions_that_are_switched_off_have_no_records(serve: Serve) -> None:
    server = serve(MODELS, "--nopredict-endpoint")
    assert begin(server, "trains").status_code == 402
    assert server.get("/v2/models/trains/jobs/").status_code == 402


def test_old_results_are_removed(serve: Serve) -> None:
    server = serve(MODELS, "--result-ttl", "0.1", "--sweep-interval", "0.2")
    uuid = begin(server, "trains").json()["uuid"]
    path = f"/v2/models/trains/jobs/{uuid}"
    wait_until(lambda: server.get(path).status_code == 404, within=20, what="the removal")
    wait_until(lambda: not work_of(server), within=10, what="the removal of its files")


def test_old_trainings_are_removed_and_others_are_not(serve: Serve) -> None:
    server = serve(MODELS, "--training-ttl", "0.1", "--sweep-interval", "0.2")
    trainings = Trainings(server)
    job = begin(server, "trains").json()["uuid"]
    uuid = trainings.begin()
    path = f"{trainings.path}{uuid}"
    wait_until(lambda: server.get(path).status_code == 404, within=20, what="the removal")
    wait_until(lambda: work_of(server) == [job], within=10, what="the removal of its files")
    assert server.get(f"/v2/models/trains/jobs/{job}").status_code == 200


def work_of(server: Server) -> list[str]:
    return [path.name for path in (server.home / ".local/state/deepaas/work").iterdir()]
