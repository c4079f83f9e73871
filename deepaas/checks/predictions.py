"""Tries `predict`: with its examples, each media type, and other values that it accepts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from deepaas.checks.connection import Connection, Loaded, Response, has_file
from deepaas.checks.findings import Report, Severity
from deepaas.checks.results import (
    JSON,
    STREAMS,
    error_in_stream,
    essence,
    mismatch,
    problem_of_body,
)
from deepaas.checks.server_log import place_in
from deepaas.checks.values import NoValueError, Request, made, of_example, short, variants

MAX_EXAMPLES = 10
MAX_VARIANTS = 24
AT_ONCE = 4

_DECLARE = "declare arguments that clients can try: examples = [{}]"


class Predictions:
    """The requests to one model, and the findings about their responses."""

    def __init__(
        self, connection: Connection, loaded: Loaded, report: Report, timeout: float
    ) -> None:
        described = loaded.description
        self._connection = connection
        self._report = report
        self._timeout = timeout
        self._path = f"/v2/models/{report.model}/predict/"
        self._interface = described["interface"]
        self._function = self._interface["functions"]["predict"]
        self._arguments = self._function["arguments"]
        self._files = described["example_files"]
        self._sources = described["sources"]
        self._yields = described["yields"]
        self._is_batch = self._interface["batches"]
        places = described.get("places", {})
        self._name = "predict_batch" if self._is_batch else "predict"
        self._place = places.get(self._name, "")
        self._place_of_arguments = places.get("get_predict_args", "")
        self._pid = loaded.pid
        self._has_timed_out = False
        self._untried = ""  # why no made request was accepted

    async def run(self) -> Request | None:
        """Try everything; return a request that has succeeded, or None."""
        base: Request | None = None
        for request in self._first_requests():
            if await self.succeeds(request) and base is None:
                base = request
            if self._has_timed_out or (base and not base.is_declared):
                break
        if base is None and self._untried:
            self._note_untried()
        if base is None or self._has_timed_out:
            return base
        if not await self.succeeds(base, "the second time ", is_repeated=True):
            return base
        await self._try_media_types(base)
        await self._try_variants(base)
        if not self._has_timed_out:
            await self._try_at_once(base)
        return base

    def _first_requests(self) -> Iterator[Request]:
        examples = self._function["examples"]
        try:
            if examples:
                yield from (of_example(one, self._arguments) for one in examples[:MAX_EXAMPLES])
            else:
                schemas = self._interface["schemas"]
                yield made(self._arguments, schemas)
                if any(one["file"] and not one["required"] for one in self._arguments):
                    yield made(self._arguments, schemas, files=True)
        except NoValueError as error:
            self._untried = f"the check cannot make a value for the argument '{error}'"

    def _note_untried(self) -> None:
        required = [one for one in self._arguments if one["required"]]
        names = {one["name"]: "..." for one in (required or self._arguments)[:3]}
        self._report.add(
            *(
                Severity.NOTE,
                "not_tried",
                self._place,
                f"{self._name} was not tried: {self._untried}",
            ),
            "the check needs valid arguments, and clients need an example",
            _DECLARE.format(short(names)),
        )

    # --- one request

    async def succeeds(
        self, request: Request, when: str = "", *, accept: str = "", is_repeated: bool = False
    ) -> bool:
        """Send a request, add what its response shows, and return whether it has succeeded."""
        response = await self._send(request, accept)
        if not 200 <= response.status < 300:
            self._add_failure(response, request, when, is_repeated=is_repeated)
            return False
        return self._is_whole(response, request, accept)

    async def _send(self, request: Request, accept: str = "") -> Response:
        values = request.values
        if accept:
            values = {name: value for name, value in values.items() if name != "accept"}
        return await self._connection.call(self._path, self._arguments, values, self._files, accept)

    def _add_failure(
        self, response: Response, request: Request, when: str = "", *, is_repeated: bool = False
    ) -> None:
        """Add the finding for a response that is an error."""
        certain = request.is_certain or is_repeated
        severity = Severity.ERROR if certain else Severity.NOTE
        place = place_in(self._connection.log.traceback(response.request_id), self._sources)
        place = place or self._place
        said = response.message
        why = f"a client that sends this gets the status {response.status or 504}"
        add = self._report.add
        label = f"{when}for {request.label}"
        match response.code:
            case "predict_failed":
                what = f"{self._name} raises {said} {label}"
                write = (
                    "correct this line; or if the arguments are wrong, refuse them: with a "
                    "validator of their field, or raise aiohttp.web.HTTPBadRequest(reason=...)"
                    if certain
                    else _DECLARE.format("{...}") + ", with which predict succeeds"
                )
                add(severity, "predict_raises", place, what, why, write)
            case "result_not_encodable":
                what = f"the result of {self._name} cannot be sent {label}: {said}"
                add(Severity.ERROR, response.code, self._place, what, why, _remedy_of_result(said))
            case "result_violates_schema":
                what = f"the result of {self._name} violates schema {label}: {said}"
                write = "return what schema declares, or declare in schema what predict returns"
                add(Severity.ERROR, response.code, self._place, what, why, write)
            case "worker_died":
                what = f"{self._name} ends its process {label}: {said}"
                write = (
                    "remove the call that ends the process, such as os._exit; if a library "
                    "crashes, faulthandler.enable() shows where"
                )
                add(Severity.ERROR, response.code, self._place, what, why, write)
            case _ if response.status in (0, 504):
                self._add_timeout(label, certain)
            case _ if 400 <= response.status < 500 and not is_repeated:
                self._add_refusal(response, request, place)
            case _:
                what = f"{self._name} has the status {response.status} {label}: {said}"
                add(severity, response.code or "failed", place, what, why, "correct the cause")

    def _add_timeout(self, label: str, certain: bool) -> None:
        self._has_timed_out = True
        self._report.add(
            Severity.ERROR if certain and not self._yields else Severity.NOTE,  # it may be endless
            "timeout",
            self._place,
            f"{self._name} takes longer than {self._timeout:g} s {label}",
            "a client waits so long, and other requests to this worker too",
            "give a longer --timeout, or declare an example that takes less time",
        )

    def _add_refusal(self, response: Response, request: Request, place: str) -> None:
        said = response.message if response.code else short(response.json)
        if not request.is_declared:
            self._untried = self._untried or f"it refuses {request.label} ({said})"
            return
        self._report.add(
            *(Severity.ERROR, "refused", place),
            f"{request.label} is refused with the status {response.status}: {said}",
            "a client that sends what the model offers gets an error",
            "correct the example, or accept it",
        )

    # --- the body of a response

    def _is_whole(self, response: Response, request: Request, accept: str = "") -> bool:
        """Add what the body shows; return False if it is a stream that has ended with an error."""
        given = essence(response.media_type)
        if given in STREAMS:
            return self._is_whole_stream(response, request)
        wanted = accept or given
        if problem := problem_of_body(wanted, response.media_type, response.body):
            self._report.add(
                *(Severity.ERROR, "media_type", self._place),
                f"{self._name} offers {wanted}, but {problem}",
                "clients cannot read the response",
                f"return the bytes of {wanted} if accept is {wanted!r}, or remove this choice",
            )
        elif given == JSON:
            self._check_json(response)
        return True

    def _is_whole_stream(self, response: Response, request: Request) -> bool:
        if error := error_in_stream(response.media_type, response.body):
            place = place_in(self._connection.log.traceback(response.request_id), self._sources)
            self._report.add(
                *(Severity.ERROR, "stream_fails", place or self._place),
                f"the stream of {self._name} ends with an error for {request.label}: {error}",
                "the client gets only a part of the response",
                "correct this line; or raise the exception before the first yield",
            )
        if not self._yields:
            self._report.add(
                *(Severity.WARNING, "undeclared_stream", self._place),
                f"{self._name} returns a generator, but it is no generator function",
                "the descriptions say that the response is one JSON value, but it is a stream",
                "write yield from in place of return",
            )
        return not error

    def _check_json(self, response: Response) -> None:
        described = [one for one in self._function["responses"] if one["media_type"] == JSON]
        if not described or described[0]["envelope"]:
            return
        schema = described[0].get("schema", {})
        if found := mismatch(response.json, schema, self._interface["schemas"]):
            self._report.add(
                *(Severity.WARNING, "result_type", self._place),
                f"{self._name} returns {found}",
                "clients that are made from the description cannot read the response",
                "convert the value, or declare another field in schema",
            )

    # --- more requests

    async def _try_media_types(self, base: Request) -> None:
        """Ask for each media type that the model offers."""
        types = [one["media_type"] for one in self._function["responses"]]
        if len(types) == 1 and types[0] == JSON:
            return
        for media_type in types:
            if "*" not in media_type and not self._has_timed_out:
                request = Request(base.values, f"a request with Accept: {media_type}", True)
                await self.succeeds(request, accept=media_type)

    async def _try_variants(self, base: Request) -> None:
        """Send each choice, bound and default of each argument, beside the values of `base`."""
        left = MAX_VARIANTS
        for argument in self._arguments:
            await self._try_default(base, argument)
            for value in variants(argument):
                if left == 0 or self._has_timed_out:
                    return
                is_tried = base.values.get(argument["name"], ...) == value
                if is_tried or self._is_unsendable(base, value):
                    continue
                left -= 1
                request = base.changed(argument["name"], value)
                response = await self._send(request)
                if response.status == 200:
                    self._is_whole(response, request)
                elif response.status == 422:
                    self._add_refused_value(argument, value, response, "offered value")
                elif response.status >= 500 and response.status != 504:
                    self._add_failure(response, request, is_repeated=True)

    async def _try_default(self, base: Request, argument: dict[str, Any]) -> None:
        schema = argument["schema"]
        name = argument["name"]
        if "default" not in schema or name == "accept" or argument["secret"] or argument["file"]:
            return
        if schema["default"] is None or self._is_unsendable(base, schema["default"]):
            return
        response = await self._send(base.changed(name, schema["default"]))
        if response.status == 422:
            self._add_refused_value(argument, schema["default"], response, "default")

    @staticmethod
    def _is_unsendable(base: Request, value: Any) -> bool:
        """Return whether a form, which files need, cannot hold the value."""
        is_form = any(map(has_file, base.values.values()))
        return is_form and (value is None or value == [] or isinstance(value, dict))

    def _add_refused_value(
        self, argument: dict[str, Any], value: Any, response: Response, what: str
    ) -> None:
        said = response.json
        if not isinstance(said, dict) or argument["name"] not in said:  # refused for another one
            return
        self._report.add(
            *(Severity.WARNING, "refused_value", self._place_of_arguments),
            f"the {what} {short(value)} of '{argument['name']}' is refused by its own field: "
            f"{short(said)}",
            "the descriptions offer this value to clients",
            "give another load_default, or a validator that accepts it",
        )

    async def _try_at_once(self, base: Request) -> None:
        """Send a few equal requests at the same time."""
        before = len(self._connection.log.warnings(self._pid))
        responses = await asyncio.gather(*(self._send(base) for _ in range(AT_ONCE)))
        for response in responses:
            if response.status != 200 and response.status not in (0, 504):
                label = f"in one of {AT_ONCE} requests at once "
                self._add_failure(response, base, label, is_repeated=True)
                return
        logged = self._connection.log.warnings(self._pid)[before:]
        if self._is_batch and any("batch of" in line for line in logged):
            self._report.add(
                *(Severity.ERROR, "batch_fails", self._place),
                "predict_batch fails for a batch of several calls, but not for one",
                "each call of such a batch is predicted again alone, which takes longer",
                "return one result for each entry of the batch, in the same order",
            )


def _remedy_of_result(said: str) -> str:
    if "was requested" in said:
        return "return bytes, str, an open file or BytesIO for this choice of accept"
    if "bytes" in said:
        return "decode the bytes, or offer a media type for them with the argument accept"
    return "return a type of the table in docs/models.md#results, such as a dictionary or a list"
