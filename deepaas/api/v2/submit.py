"""Accepts a request for a training or an asynchronous prediction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiohttp import web

from deepaas.api.app import App
from deepaas.api.callbacks import callback_of
from deepaas.api.calls import context_of, read_call
from deepaas.api.replies import response_from_reply
from deepaas.api.v2.principals import log_principal
from deepaas.api.v2.records import trainings_of
from deepaas.exceptions import RequestError
from deepaas.http.files import RequestFiles
from deepaas.http.request import Request
from deepaas.jobs.store import Record
from deepaas.model.v2.exchange import Unknown
from deepaas.serving.pool import Pool


class _Body:
    """The body of a request; see `jobs.incoming.Body`."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._content = request.content

    @property
    def is_complete(self) -> bool:
        return self._content.is_eof()

    @property
    def received(self) -> int:
        return self._content.total_bytes

    def refuse(self, error: RequestError) -> None:
        self._content.set_exception(error)


@dataclass(frozen=True)
class Accepted:
    """An accepted request: its record, and its ignored arguments."""

    record: Record
    unknown: Unknown | None


async def submit(
    request: Request, app: App, pool: Pool, kind: str
) -> Accepted | web.StreamResponse:
    """Make the record of a valid request, or return the response to an invalid one."""
    trainings = trainings_of(app, kind)
    pool.status.refuse_while_loading()
    callback = callback_of(request, app.settings.callback_hosts)
    headers = pool.train_headers if kind == "train" else pool.headers
    principal = None if request.principal is None else request.principal.name
    body = _Body(request)
    receiving = trainings.receive(
        kind, pool.name, body, callback, principal, request_id=request.request_id
    )
    async with receiving as incoming:
        with RequestFiles(str(incoming.place.uploads)) as files:
            call = await read_call(request, headers, app.limits, files)
            call.context = context_of(request)
            reply = await pool.validate(replace(call, validate=kind))
            app.unknown.note(pool.name, kind, reply.unknown)
            if reply.status != 200:
                return response_from_reply(reply)
            shown, _, arguments = reply.body.partition(b"\n")
            # Cut out the text: parsing a large one would delay all other requests.
            args = shown.removeprefix(b'{"args":').removesuffix(b"}").decode()
            files.keep()  # they exist as long as the record
            record = await trainings.accept(incoming, call, args, arguments)
            log_principal(request, kind, pool, record.uuid)
            return Accepted(record, reply.unknown)
