"""Tries `train`: with its first example, or with small arguments."""

from __future__ import annotations

import asyncio

from deepaas.checks.connection import Connection, Loaded, Response
from deepaas.checks.findings import Report, Severity
from deepaas.checks.predictions import Predictions
from deepaas.checks.server_log import entries_of, place_in, traceback_of
from deepaas.checks.values import Json, NoValueError, Request, made, of_example, short

_MAX_PAUSE = 1.0  # seconds between two looks at the record
_ENDED = ("done", "error", "cancelled")


class Trainings:
    """One training of a model, and the findings about it."""

    def __init__(
        self, connection: Connection, loaded: Loaded, report: Report, timeout: float
    ) -> None:
        self._connection = connection
        self._report = report
        self._timeout = timeout
        self._description = loaded.description
        self._place = self._description.get("places", {}).get("train", "")
        self._path = f"/v2/models/{report.model}/train/"

    async def check_arguments(self) -> None:
        """Add a finding if trainings are refused because get_train_args fails."""
        if "train" in self._description["interface"]["functions"]:
            return
        said = (await self._connection.send("POST", self._path)).message
        known = [one.what for one in self._report.findings if one.code == "mistake"]
        if any(said.removeprefix("get_train_args failed: ")[:60] in one for one in known):
            return
        place = self._description.get("places", {}).get("get_train_args", "")
        self._report.add(
            *(Severity.ERROR, "train_arguments", place, said),
            "all trainings are refused",
            "correct this function, so that it returns a dictionary of fields",
        )

    async def run(self, predictions: Predictions, base: Request | None) -> None:
        """Train once; then send `base`, a prediction that has succeeded before, again."""
        function = self._description["interface"]["functions"].get("train")
        if function is None:
            return
        arguments, examples = function["arguments"], function["examples"]
        try:
            if examples:
                request = of_example(examples[0], arguments)
            else:
                schemas = self._description["interface"]["schemas"]
                request = made(arguments, schemas, small=True)
        except NoValueError as error:
            self._note_untried(f"the check cannot make a value for the argument '{error}'")
            return
        files = self._description["example_files"]
        response = await self._connection.call(self._path, arguments, request.values, files)
        if response.status != 200:
            self._add_refusal(response, request)
            return
        self._report.trained = True
        await self._check_record(await self._until_ended(response.json["uuid"]), request)
        if base is not None:
            await predictions.succeeds(base, "after the training ", is_repeated=True)

    async def _until_ended(self, uuid: str) -> Json:
        """Return the record of the training when it has ended, and its weights are loaded.

        If that takes too long, return the last record, whose status is "" if there was none.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout
        pause = 0.1
        record: Json = {"uuid": uuid, "status": ""}
        while True:
            response = await self._connection.send("GET", self._path + uuid)
            if response.status == 200 and isinstance(response.json, dict):  # else it is asked again
                record = response.json
            if record["status"] in _ENDED and not _is_reloading(record):
                return record
            if loop.time() > until:
                await self._connection.send("DELETE", self._path + uuid)
                return record
            await asyncio.sleep(pause)
            pause = min(_MAX_PAUSE, 1.5 * pause)

    async def _check_record(self, record: Json, request: Request) -> None:
        add = self._report.add
        match record["status"]:
            case "error":
                log = await self._connection.send("GET", f"{self._path}{record['uuid']}/logs")
                entries = entries_of(log.body.decode(errors="replace").splitlines())
                place = place_in(traceback_of(entries), self._description["sources"])
                add(
                    Severity.ERROR if request.is_certain else Severity.NOTE,
                    *("train_fails", place or self._place),
                    f"train fails for {request.label}: {record.get('message')}",
                    "such a training ends with the status error",
                    "correct this line, or declare other arguments in train_examples",
                )
            case "done":
                self._check_done(record)
            case _:
                add(
                    *(Severity.WARNING, "train_timeout", self._place),
                    f"train has not ended in {self._timeout:g} s for {request.label}",
                    "train_examples are for short trials",
                    "declare a shorter training, such as train_examples = "
                    f"[{short(_small(request))}], or give a longer --train-timeout",
                )

    def _check_done(self, record: Json) -> None:
        add = self._report.add
        if record.get("message"):
            add(
                *(Severity.WARNING, "train_result", self._place),
                f"the result of train is stored as text: {record.get('message')}",
                "clients cannot read it as JSON",
                "return a dictionary of numbers and texts",
            )
        if record.get("weights_problem"):
            add(
                *(Severity.ERROR, "train_reload", self._place),
                f"the model cannot be loaded after the training: {record['weights_problem']}",
                "predictions go on with the old weights",
                "correct warm, so that it loads what train has written",
            )

    def _add_refusal(self, response: Response, request: Request) -> None:
        said = response.message if response.code else short(response.json)
        if request.is_certain and response.status >= 500:
            self._report.add(
                *(Severity.ERROR, "train_refused", self._place),
                f"a training with {request.label} is refused: {said}",
                f"a client that sends this gets the status {response.status}",
                "correct get_train_args or its fields",
            )
            return
        self._note_untried(f"{request.label} is refused ({said})")

    def _note_untried(self, why: str) -> None:
        self._report.add(
            *(Severity.NOTE, "not_tried", self._place, f"train was not tried: {why}"),
            "the check needs valid arguments, and people need an example",
            "declare the arguments of a short training: train_examples = [{...}]",
        )


def _is_reloading(record: Json) -> bool:
    """Return whether workers with the new weights are still being started."""
    is_settled = record.get("weights_loaded_utc") or record.get("weights_problem")
    return record["status"] == "done" and not is_settled


def _small(request: Request) -> Json:
    return {name: 1 if type(value) is int else value for name, value in request.values.items()}
