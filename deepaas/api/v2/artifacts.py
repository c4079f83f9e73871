"""`/v2/models/<name>/train/<uuid>/artifacts/`: the files that a training has written."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import Sequence
from urllib.parse import quote

from aiohttp import web

from deepaas.api.app import App
from deepaas.api.v2.records import artifact_view, trainings_of
from deepaas.exceptions import NotFoundError
from deepaas.http.request import Request
from deepaas.http.responses import FileResponse, json_response
from deepaas.jobs.artifacts import list_files, open_file
from deepaas.serving.pool import Pool

MAX_LISTED = 10_000

_DEFAULT_TYPE = "application/octet-stream"
_NOT_PLAIN = re.compile(r"[^ -~]|[\"\\%]")


async def list_artifacts(
    request: Request, app: App, pool: Pool, uuid: str, kind: str
) -> web.StreamResponse:
    """List the files, also while the training runs."""
    trainings = trainings_of(app, kind)
    record = await trainings.get(pool.name, kind, uuid)
    directory = trainings.place(record.uuid).artifacts
    files, is_cut = await asyncio.to_thread(list_files, directory, MAX_LISTED)
    base = app.base_of(request)
    artifacts = [artifact_view(base, record, file) for file in files]
    return json_response({"artifacts": artifacts, "truncated": is_cut})


async def artifact(
    request: web.BaseRequest, app: App, pool: Pool, uuid: str, path: Sequence[str], kind: str
) -> web.StreamResponse:
    """Send the current content of one file.

    It is an attachment: the model has written it, and a browser must not show it as a page.

    Generated clients send the path as one segment with encoded slashes. No name of a file has a
    slash, so a decoded slash always separates two names.
    """
    trainings = trainings_of(app, kind)
    record = await trainings.get(pool.name, kind, uuid)
    names = [name for segment in path for name in segment.split("/")]
    try:
        fd = open_file(trainings.place(record.uuid).artifacts, names)
    except FileNotFoundError:
        raise NotFoundError(f"There is no such file of training {record.uuid}") from None
    return FileResponse(fd, 200, attachment_headers(names[-1]))


def attachment_headers(name: str) -> dict[str, str]:
    """Return the headers of a file that a browser must save, and not show."""
    media_type, encoding = mimetypes.guess_type(name)
    quoted = quote(name, safe="", errors="surrogateescape")
    plain = _NOT_PLAIN.sub("_", name)  # for clients that do not know `filename*`
    return {
        "Content-Type": media_type if media_type and not encoding else _DEFAULT_TYPE,
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quoted}",
    }
