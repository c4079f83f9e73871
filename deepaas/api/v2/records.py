"""`/v2/models/<name>/train/` and `.../jobs/`: records of trainings and asynchronous predictions.

The two differ only in their `kind`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web

from deepaas.api.app import App
from deepaas.api.v2.principals import log_principal
from deepaas.exceptions import DisabledError, StorageError
from deepaas.http.request import Request
from deepaas.http.responses import json_response
from deepaas.jobs.artifacts import Artifact, list_files
from deepaas.jobs.service import JobService
from deepaas.jobs.store import Record
from deepaas.jobs.times import duration_text, local_text, seconds_of, utc_text
from deepaas.serving.pool import Pool
from deepaas.training.reports import last_report, read_reports

SEGMENTS = {"train": "train", "predict": "jobs"}
STATUSES = {
    "queued": ["queued"],
    "running": ["starting", "running"],
    "done": ["done"],
    "error": ["error"],
    "cancelled": ["cancelled"],
}
"""The statuses that clients see, and the corresponding statuses of the store."""

_ABOVE_ANY_COUNT = 10**18  # SQLite takes it, unlike a number of more than 64 bits

MAX_ARTIFACTS = 100
"""How many files a record lists; `artifacts/` lists more."""


async def list_records(request: Request, app: App, pool: Pool, kind: str) -> web.StreamResponse:
    """List the records of a model, oldest first.

    `limit` selects the newest, and `status` the records with these statuses.
    """
    problems: dict[str, list[str]] = {}
    limit = _limit(request.query.get("limit"))
    if limit == 0:
        problems["limit"] = ["Must be an integer above 0."]
    given = request.query.getall("status", [])
    names = ",".join(given).split(",") if given else []
    if not set(names) <= set(STATUSES):
        problems["status"] = [f"Must be one of: {', '.join(STATUSES)}."]
    if problems:
        return json_response(problems, 422)
    statuses = [status for name in names or STATUSES for status in STATUSES[name]]
    trainings = trainings_of(app, kind)
    base = app.base_of(request)
    records = await trainings.find(pool.name, kind, statuses, limit)
    return json_response([view(app, record, base) for record in records])


def _limit(text: str | None) -> int:
    """Return how many records a client wants: -1 for all, 0 if the text is not a number above 0."""
    if text is None:
        return -1
    if not (text.isascii() and text.isdigit()):
        return 0
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= 18 else _ABOVE_ANY_COUNT


async def show_record(
    request: Request, app: App, pool: Pool, uuid: str, kind: str
) -> web.StreamResponse:
    """Return one record, with its metrics and its artifacts."""
    trainings = trainings_of(app, kind)
    record = await trainings.get(pool.name, kind, uuid)
    place = trainings.place(record.uuid)

    def read() -> tuple[list[dict[str, Any]], list[Artifact]]:
        reports = [_metrics_view(one) for one in read_reports(place.reports)]
        return reports, list_files(place.artifacts, MAX_ARTIFACTS)[0]

    metrics, files = await asyncio.to_thread(read)
    base = app.base_of(request)
    artifacts = [artifact_view(base, record, file) for file in files]
    return json_response({**view(app, record, base), "metrics": metrics, "artifacts": artifacts})


async def cancel_record(
    request: Request, app: App, pool: Pool, uuid: str, kind: str
) -> web.StreamResponse:
    """Cancel a record that has not ended; remove one that has ended, with its files."""
    trainings = trainings_of(app, kind)
    record = await trainings.get(pool.name, kind, uuid)
    log_principal(
        request, f"{'remove' if record.has_ended else 'cancel'} {kind}", pool, record.uuid
    )
    cancelling = asyncio.ensure_future(trainings.cancel(record))
    cancelling.add_done_callback(lambda done: done.cancelled() or done.exception())
    cancelled = await asyncio.shield(cancelling)
    return json_response(view(app, cancelled, app.base_of(request)))


def trainings_of(app: App, kind: str) -> JobService:
    """Return the service that has the records of this kind.

    Raises DisabledError if the kind is switched off, and StorageError if the server keeps no
    records.
    """
    if kind == "train" and not app.settings.train:
        raise DisabledError("Training is switched off on this server")
    if kind == "predict" and not app.settings.predict:
        raise DisabledError("Prediction is switched off on this server")
    if app.trainings is None:
        raise StorageError(f"This server keeps no records: {app.no_trainings}")
    return app.trainings


def status_of(record: Record) -> str:
    """Return the status of a record as clients see it."""
    return "running" if record.status == "starting" else record.status


def view(app: App, record: Record, base: str) -> dict[str, Any]:
    """Return a record as clients see it. The paths of its links begin with `base`."""
    status = status_of(record)
    shown: dict[str, Any] = {
        "date": record.date,
        "args": orjson.Fragment(record.args),
        "uuid": record.uuid,
        "status": status,
    }
    if record.status == "done":
        shown["result"] = _result(app, record)
    if record.message:
        shown["message"] = record.message
    url = record_url(base, record)
    links = [("self", url), ("logs", f"{url}/logs"), ("artifacts", f"{url}/artifacts")]
    if record.kind == "predict":
        links.append(("result", f"{url}/result"))
    if record.kind == "train":
        shown["weights_loaded_utc"] = _utc(record.weights_loaded)
        shown["weights_problem"] = record.weights_problem or None
    asked = seconds_of(record.date) if record.asked is None else record.asked
    return shown | {
        "date_utc": utc_text(asked),
        "model": record.model,
        "principal": record.principal,
        "request_id": record.request_id or None,
        "attempt": record.attempt,
        "progress": _progress(app, record),
        "start_date": _date(record.started),
        "start_date_utc": _utc(record.started),
        "finish_date": _date(record.finished),
        "finish_date_utc": _utc(record.finished),
        "load_seconds": record.load_seconds,
        "duration": _duration(record),
        "exit_code": record.exit_code,
        "signal": record.signal,
        "links": [{"rel": rel, "href": href} for rel, href in links],
    }


def record_url(base: str, record: Record) -> str:
    model = quote(record.model, safe="")
    return f"{base}/v2/models/{model}/{SEGMENTS[record.kind]}/{record.uuid}"


def _metrics_view(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report as clients see it: its time has the same form as all other times in UTC."""
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError, OSError):
        return {**report, "time": utc_text(report["time"])}
    return report  # not written by `report`


def artifact_view(base: str, record: Record, file: Artifact) -> dict[str, Any]:
    return {
        "path": file.path,
        "size": file.size,
        "modified": file.modified,
        "href": f"{record_url(base, record)}/artifacts/{file.quoted}",
    }


def _result(app: App, record: Record) -> dict[str, Any]:
    output = None if record.output is None else orjson.Fragment(record.output)
    return {
        "output": output,
        "finish_date": _date(record.finished),
        "duration": _duration(record),
    }


def _progress(app: App, record: Record) -> float | None:
    if record.status != "running" or app.trainings is None:
        return record.progress
    with contextlib.suppress(OSError):
        progress: float | None = last_report(app.trainings.place(record.uuid).reports).get(
            "progress"
        )
        return progress
    return None


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else local_text(seconds)


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else utc_text(seconds)


def _duration(record: Record) -> str | None:
    """Return how long the model's function ran: the measured time, or else the difference of times.

    The difference is wrong if the clock was changed meanwhile, but nothing else is known if the
    supervisor process was killed. Without `load_seconds`, the function was not called, or an older
    version ran it.
    """
    if record.started is None or record.finished is None:
        return None
    if record.duration is not None:
        return duration_text(record.duration)
    if record.load_seconds is None and record.asked is not None:
        return None
    return duration_text(record.finished - record.started - (record.load_seconds or 0.0))
