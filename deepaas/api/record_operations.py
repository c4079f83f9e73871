"""The part of the description about records: trainings and asynchronous predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepaas.api.app import ApiSettings
from deepaas.api.operation_parts import (
    JSON_TYPE,
    STRING,
    Json,
    anything,
    list_of,
    obj,
    operation,
    response,
    text,
)
from deepaas.model.v2.media import ANY
from deepaas.serving.pool import Pool
from deepaas.streams import EVENTS

_WHOLE: Json = {"type": "integer", "x-nullable": True}
_STATUSES = ["queued", "running", "done", "error", "cancelled"]


def _time(what: str) -> Json:
    # Not with the format date-time, which requires a "T" and an offset.
    return text(f"{what}, as YYYY-MM-DD hh:mm:ss.ffffff in the time zone of the server")


def _utc(what: str) -> Json:
    return {"type": "string", "format": "date-time", "description": f"{what}, in UTC"}


def _utc_or_null(what: str) -> Json:
    return _utc(what) | {"x-nullable": True}


def _time_or_null(what: str) -> Json:
    return _time(what) | {"x-nullable": True}


_RESULT: Json = obj(
    "",
    {
        "output": anything("The value that the model returned"),
        "finish_date": _time_or_null("The time of the end"),
        "duration": text(
            "The run time of the model's function, as h:mm:ss.ffffff", **{"x-nullable": True}
        ),
    },
    "Only with the status done",
)
_PROGRESS: Json = {
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "x-nullable": True,
    "description": "The last progress that the model reported",
}

DEFINITIONS: Json = {
    "Training": obj(
        "date status uuid",
        {
            "uuid": text("The identifier"),
            "date": _time("The time of the request"),
            "date_utc": _utc("The time of the request"),
            "status": {**STRING, "enum": _STATUSES},
            "message": text("An explanation of the status"),
            "args": {
                "type": "object",
                "description": "The arguments, without secrets",
                "additionalProperties": True,
            },
            "result": _RESULT,
            "model": STRING,
            "principal": text(
                "The name of the client that asked for it, if clients have to sign in",
                **{"x-nullable": True},
            ),
            "request_id": text(
                "The X-Request-ID of the request that made it; null if an older version did",
                **{"x-nullable": True},
            ),
            "attempt": {"type": "integer", "description": "How many times it was started"},
            "progress": _PROGRESS,
            "start_date": _time_or_null("The time when its process was started"),
            "start_date_utc": _utc_or_null("The time when its process was started"),
            "finish_date": _time_or_null("The time of the end"),
            "finish_date_utc": _utc_or_null("The time of the end"),
            "load_seconds": {
                "type": "number",
                "minimum": 0,
                "x-nullable": True,
                "description": "The seconds that loading and warming the model took",
            },
            "duration": _RESULT["properties"]["duration"],
            "exit_code": {**_WHOLE, "description": "The exit code of its process"},
            "signal": {**_WHOLE, "description": "The signal that ended its process"},
            "weights_loaded_utc": _utc_or_null(
                "Only for trainings: the time since which all predictions are made by workers that "
                "were loaded after its end"
            ),
            "weights_problem": text(
                "Only for trainings: why the workers were not reloaded", **{"x-nullable": True}
            ),
            "metrics": {
                "type": "array",
                "items": obj("", {"time": _utc("The time when the model reported these metrics")})
                | {"additionalProperties": True},
            },
            "artifacts": list_of("Artifact"),
            "links": list_of("Location"),
        },
    ),
    "TrainingList": list_of("Training"),
    "Artifact": obj(
        "href modified path size",
        {
            "path": STRING,
            "size": {"type": "integer", "description": "The size in bytes"},
            "modified": _utc("The time when it was last written"),
            "href": text("The path of the file on this server"),
        },
    ),
    "ArtifactList": obj(
        "artifacts truncated",
        {
            "artifacts": list_of("Artifact"),
            "truncated": {"type": "boolean", "description": "Whether there are more files"},
        },
    ),
}

UUID = STRING | {"in": "path", "name": "uuid", "required": True}
_PATH: Json = {
    "in": "path",
    "name": "path",
    "required": True,
    **text("The path of the file, as in the list of the files; its slashes may be encoded"),
}


def _in_query(name: str, kind: str, description: str, **more: Any) -> Json:
    return {
        "in": "query",
        "name": name,
        "required": False,
        "type": kind,
        "description": description,
        **more,
    }


def _operation(
    summary: str,
    parameters: Sequence[Json],
    answer: Json,
    errors: str = "404",
    others: Json | None = None,
    produces: Sequence[str] = JSON_TYPE,
) -> Json:
    """Return an operation on records, with the response 507 for a server that keeps no records."""
    made = operation("models", summary, answer, f"{errors} 507", others, produces)
    return made | {"parameters": [*parameters]}


class OfRecords:
    """The descriptions of the routes for the records of one kind of a model."""

    def __init__(self, settings: ApiSettings, pool: Pool, kind: str) -> None:
        self._is_offered = settings.train if kind == "train" else settings.predict
        self._pool = pool
        self._kind = kind
        self._what = "training" if kind == "train" else "asynchronous prediction"

    def _if_offered(self, described: Json) -> Json | None:
        has = self._kind in self._pool.description.get("has", ())
        return described if self._is_offered and has else None

    def list(self, definitions: Json) -> Json | None:
        return self._if_offered(_listing(self._what))

    def show(self, definitions: Json) -> Json | None:
        summary = f"One {self._what}, with its metrics"
        return self._if_offered(_operation(summary, [UUID], response("Training")))

    def cancel(self, definitions: Json) -> Json | None:
        described = _operation(
            f"Cancel one {self._what}, or remove its record if it has ended",
            [UUID],
            response("Training"),
            "403 404",
            others={"409": response("Failure", "This server cannot reach its processes")},
        )
        return self._if_offered(described)

    def logs(self, definitions: Json) -> Json | None:
        return self._if_offered(_logs(self._what))

    def artifacts(self, definitions: Json) -> Json | None:
        summary = f"The files of one {self._what}"
        return self._if_offered(_operation(summary, [UUID], response("ArtifactList")))

    def artifact(self, definitions: Json) -> Json | None:
        summary, file = f"A file of one {self._what}", response({"type": "file"})
        return self._if_offered(_operation(summary, [UUID, _PATH], file, produces=[ANY]))


def _listing(what: str) -> Json:
    status = _in_query(
        *("status", "array", "Return only records with one of these statuses"),
        items={"type": "string", "enum": _STATUSES},
        collectionFormat="multi",
    )
    limit = _in_query("limit", "integer", "Return at most this many, the newest", minimum=1)
    invalid = {"422": response("InvalidQuery", "The parameters are invalid")}
    return _operation(
        f"The {what}s", [limit, status], response("TrainingList"), errors="", others=invalid
    )


def _logs(what: str) -> Json:
    offset = _in_query("offset", "integer", "How many bytes to skip", minimum=0)
    follow = _in_query("follow", "boolean", f"Send new output until the {what} has ended")
    return _operation(
        f"The output of one {what}",
        [UUID, offset, follow],
        response(STRING, "The output as text, or each line as an event"),
        others={
            "204": {"description": "No event follows the one in the header Last-Event-ID"},
            "422": response("InvalidQuery", "The parameters are invalid"),
        },
        produces=["text/plain", EVENTS],
    )
