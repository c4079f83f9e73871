"""`/v2/models/<name>/examples/<path>`: the files of a model's examples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from deepaas.api.app import App
from deepaas.api.v2.artifacts import attachment_headers
from deepaas.exceptions import NotFoundError
from deepaas.http.responses import FileResponse
from deepaas.jobs.artifacts import open_file
from deepaas.serving.pool import Pool


async def example(
    request: web.BaseRequest, app: App, pool: Pool, path: Sequence[str]
) -> web.StreamResponse:
    """Send a file that an example of the model has, and no other."""
    found = pool.description.get("example_files", {}).get("/".join(path))
    if found is None:
        raise NotFoundError(f"Model {pool.name} has no example with such a file")
    directory, name = os.path.split(found)
    try:
        fd = open_file(Path(directory), [name])
    except OSError:  # it was removed meanwhile, or cannot be read any more
        raise NotFoundError(f"The file of the example of model {pool.name} is gone") from None
    return FileResponse(fd, 200, attachment_headers(name))
