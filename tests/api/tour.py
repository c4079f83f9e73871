"""Requests for every described operation, each checked against the description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.api.described import Described
from tests.support import wait_until
from tests.training.trainings import END_SECONDS, ENDED

ASYNC = {"Prefer": "respond-async"}
EVENTS = {"Accept": "text/event-stream"}
UNKNOWN = {"uuid": "0" * 32}


class Ask(NamedTuple):
    """A request for a prediction or a training, and the expected status."""

    status: int
    kwargs: Mapping[str, Any] = {}
    chosen: bool = False  # whether the model chooses the status


def good(**query: Any) -> Ask:
    return Ask(200, {"params": query})


def bad(status: int, **query: Any) -> Ask:
    return Ask(status, {"params": query})


def chosen(status: int, **query: Any) -> Ask:
    """Return a request for which the model raises an error of that status."""
    return Ask(status, {"params": query}, chosen=True)


def of_type(media_type: str) -> Ask:
    return good(accept=media_type)


def path_of(described: Described, model: str) -> str:
    return f"{described.base}/v2/models/{quote(model, safe='')}/"


def ask_server(described: Described, ready: int = 200, debug: int = 204) -> None:
    """Request everything that does not depend on a model."""
    base = described.base
    for path in ("/", "/v2/", "/v2/models/", "/v2/health/live"):
        described.ask("get", f"{base}{path}", 200)
    described.ask("get", f"{base}/v2/health/ready", ready)
    described.ask("get", f"{base}/metrics", 200)
    described.ask("get", f"{base}/v2/debug/", debug)


def ask_model(described: Described, model: str, ready: int = 200) -> None:
    """Request everything that every model has."""
    path = path_of(described, model)
    described.ask("get", path, 200)
    described.ask("get", f"{path}ready", ready)


def ask_predictions(described: Described, model: str, asks: Sequence[Ask]) -> None:
    """Make the predictions, and the first of them once more as a job; the first must succeed."""
    path = path_of(described, model)
    for one in asks:
        described.ask("post", f"{path}predict/", one.status, chosen=one.chosen, **one.kwargs)
    uuid = begin_job(described, model, asks[0])
    wait_for_end(described, f"{path}jobs/{{uuid}}", uuid)
    described.ask("get", f"{path}jobs/{{uuid}}/result", 200, place={"uuid": uuid})
    described.ask("get", f"{path}jobs/{{uuid}}/result", 404, place=UNKNOWN)
    ask_record(described, f"{path}jobs/", uuid)


def begin_job(described: Described, model: str, one: Ask) -> str:
    kwargs = dict(one.kwargs)
    kwargs["headers"] = {**kwargs.get("headers", {}), **ASYNC}
    begun = described.ask("post", f"{path_of(described, model)}predict/", 202, **kwargs)
    uuid: str = begun.json()["uuid"]
    return uuid


def ask_trainings(described: Described, model: str, asks: Sequence[Ask]) -> None:
    """Begin the trainings; the first must succeed."""
    path = f"{path_of(described, model)}train/"
    uuids = []
    for one in asks:
        answer = described.ask("post", path, one.status, chosen=one.chosen, **one.kwargs)
        uuids.append(answer.json().get("uuid"))
    wait_for_end(described, f"{path}{{uuid}}", uuids[0])
    ask_record(described, path, uuids[0])


def wait_for_end(described: Described, path: str, uuid: str) -> None:
    """Poll a record until its job or training has ended."""

    def ended() -> bool:
        record = described.ask("get", path, 200, place={"uuid": uuid}).json()
        return record["status"] in ENDED

    wait_until(ended, within=END_SECONDS, what=f"the end of {uuid}")


def ask_record(described: Described, path: str, uuid: str) -> None:
    """Request every resource of an ended record, and remove the record."""
    one, place = f"{path}{{uuid}}", {"uuid": uuid}
    described.ask("get", path, 200)
    described.ask("get", path, 422, params={"limit": "0", "status": "odd"})
    ask_log(described, f"{one}/logs", place)
    files = described.ask("get", f"{one}/artifacts/", 200, place=place).json()["artifacts"]
    for file in files:
        described.ask(
            "get", f"{one}/artifacts/{{path}}", 200, place={**place, "path": file["path"]}
        )
    described.ask("get", f"{one}/artifacts/{{path}}", 404, place={**place, "path": "none"})
    for method, unknown in (("get", one), ("delete", one), ("get", f"{one}/artifacts/")):
        described.ask(method, unknown, 404, place=UNKNOWN)
    described.ask("delete", one, 200, place=place)
    described.ask("get", one, 404, place=place)


def ask_log(described: Described, path: str, place: Mapping[str, str]) -> None:
    follow = {"follow": "true"}
    seen = {**EVENTS, "Last-Event-ID": "1000000"}
    described.ask("get", path, 200, place=place)
    described.ask("get", path, 200, place=place, params=follow)
    described.ask("get", path, 200, place=place, params=follow, headers=EVENTS)
    described.ask("get", path, 204, place=place, params=follow, headers=seen)
    described.ask("get", path, 422, place=place, params={"offset": "x", "follow": "perhaps"})
    described.ask("get", path, 404, place=UNKNOWN)


def assert_all_succeeded(described: Described, prefix: str, *but: tuple[str, str]) -> None:
    """Fail if an operation on a path with that prefix has not succeeded, except those in `but`."""
    offered = {one for one in described.operations() if one[1].startswith(prefix)}
    assert offered, f"nothing is described at {prefix}"
    assert offered - described.succeeded == set(but)
