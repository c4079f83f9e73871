"""A model that is called in this process, without a server.

It is loaded, warmed and called with what `deepaas-cli` uses, and its replies are those of a server.
What the model prints goes to stderr, so that stdout has only results.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from types import GeneratorType
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlencode

from deepaas import config, log
from deepaas.client import RefusedError, Response
from deepaas.client.errors import refusal
from deepaas.client.interface import JSON, Argument, Function, Interface, Json
from deepaas.client.requests import File, Part, Request
from deepaas.cmd import cli_options
from deepaas.cmd.cli_methods import Command
from deepaas.commands.calling.results import Results
from deepaas.config.settings import settings_of
from deepaas.exceptions import ConfigurationError, UnknownModelError
from deepaas.file_part import FilePart
from deepaas.model.loading import ModelSource, find
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.calling import yields
from deepaas.model.v2.declarations import declared_schema
from deepaas.model.v2.exchange import Call, Reply
from deepaas.model.v2.interface import describe_interface
from deepaas.model.v2.invocation import Invocation, Stream
from deepaas.model.v2.results import ResultSchema

T = TypeVar("T")


def run_without_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits. An async model needs the thread without an event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()
    raise RuntimeError("the call of a local model waits for an event loop")


@contextlib.contextmanager
def results_apart() -> Iterator[BinaryIO]:
    """Provide the present stdout for results, while file descriptor 1 leads to stderr."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "wb") as stream:
        os.dup2(2, 1)
        try:
            yield stream
        finally:
            sys.stdout.flush()
            os.dup2(stream.fileno(), 1)


def source_of(word: str) -> ModelSource:
    """Return the model that a word names: an installed one, a file, or module:attribute."""
    if word.partition(":")[0].endswith(".py") or ":" in word:
        return find([word])[0]
    try:
        return find([], word)[0]
    except UnknownModelError as error:
        raise ConfigurationError(
            f"{error}; for a file, write its path with .py, for a module module:attribute"
        ) from None


@dataclass
class LocalModel:
    """A session with a model in this process. Use `open`."""

    command: Command
    folder: str

    @classmethod
    @contextlib.contextmanager
    def open(cls, word: str) -> Iterator[LocalModel]:
        """Import the model. Raises CommandError and DeepaasError."""
        streams = cli_options.prepare_streams()
        settings = settings_of(config.load([]))
        log.setup(log.LogOptions(level="WARNING"))
        source = source_of(word)
        cli_options.set_weights_directory(settings, source)
        warm = settings.models.warm
        command = Command.open(source, streams, warm=warm, output="", level="WARNING")
        with TemporaryDirectory(prefix="deepaas-", ignore_cleanup_errors=True) as folder:
            yield cls(command, folder)

    async def interface(self, model: str) -> Interface:
        """Return what the server would describe."""
        has = [name for name in ("predict", "train") if self._has(name)]
        arguments = {name: self.command.parser(name)[1] for name in has}
        schema = declared_schema(self.command.model)
        described = describe_interface(
            arguments.get("predict") or Arguments({}),
            arguments.get("train"),
            None if schema is None else ResultSchema(schema),
            streams=self.command.model.has("predict") and yields(self.command.model),
        )
        parts = {f"#/$defs/{name}": one for name, one in described["schemas"].items()}
        functions = {name: _function(described["functions"][name], parts) for name in has}
        return Interface(model, functions)

    def _has(self, name: str) -> bool:
        model = self.command.model
        return model.has(name) or (name == "predict" and model.has("predict_batch"))

    @contextlib.asynccontextmanager
    async def send(self, model: str, function: str, request: Request) -> AsyncIterator[Response]:
        """Predict, or train and give the result. Raises RefusedError."""
        arguments = self.command.parser(function)[1]
        schema = declared_schema(self.command.model) if function == "predict" else None
        invocation = Invocation(self.command.runtime, self.command.model, arguments, schema)
        call = self._call(request)
        values, media_type = self._tried(lambda: arguments.load(call), function)
        self.command.warm_before()
        value = self._tried(lambda: self._value(invocation, function, values), function)
        if function == "train":
            yield _response(Reply(body=json.dumps({"output": value}).encode()))
        elif type(value) is not GeneratorType:
            reply = self._tried(lambda: invocation.encode(value, media_type), function)
            try:
                yield _response(reply)
            finally:
                reply.discard()
        else:
            media_type = invocation.stream_type(call, media_type)
            stream = self._tried(lambda: Stream(invocation, value, media_type), function)
            try:
                yield Response(media_type, lambda: self._chunks(stream), "the model")
            finally:
                stream.close()

    def _value(self, invocation: Invocation, function: str, values: dict[str, Any]) -> Any:
        if function == "predict":
            return invocation.predict(values)
        value = self.command.runtime.resolve(invocation.function("train")(**values))
        return self.command.shown(list(value) if type(value) is GeneratorType else value)

    async def _chunks(self, stream: Stream) -> AsyncIterator[bytes]:
        while (data := self._tried(stream.next, "predict")) is not None:
            yield data

    def _tried(self, work: Callable[[], T], function: str) -> T:
        """Do a step; an exception of the model becomes the error that a server sends."""
        runtime = self.command.runtime
        try:
            done = work()
            runtime.recover()
            return done
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            runtime.recover(error)
            reply = runtime.failed(error, function)
        if reply.code:
            raise RefusedError(reply.status, reply.reason, code=reply.code)
        raise refusal(reply.status, reply.body)

    def _call(self, request: Request) -> Call:
        """Return the call that the server would make of the request."""
        call = Call(
            query=urlencode(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        if request.parts:
            call.form = [(part.name, self._part(part)) for part in request.parts]
        elif request.json is not None:
            call.content_type = JSON
            call.body = json.dumps(request.json).encode()
        return call

    def _part(self, part: Part) -> str | FilePart:
        """Return a part of a form. A file is copied, because the model may change or remove it."""
        if isinstance(part.value, str) and not part.content_type:
            return part.value
        file = part.value
        if isinstance(file, str):
            file = File("", data=file.encode())
        extension = os.path.splitext(file.name)[1]
        path = os.path.join(self.folder, f"{len(os.listdir(self.folder))}{extension}")
        with file.open() as source, open(path, "xb") as target:
            shutil.copyfileobj(source, target)
        return FilePart(path, part.content_type, file.name)


def _function(described: Json, parts: dict[str, Json]) -> Function:
    arguments = [
        Argument(
            one["name"],
            one["schema"],
            required=one["required"],
            place=_PLACES.get(tuple(one["locations"]), "body"),
            in_json="json" in one["locations"] and one["file"] is None,
            in_form="form" in one["locations"],
            description="  ".join(text for text in (one["description"], *one["notes"]) if text),
            parts=parts,
        )
        for one in described["arguments"]
        if not (one["name"] == "accept" and one["choices"])
    ]
    responses = described.get("responses", [])
    media_types = [one["media_type"] for one in responses]
    return Function(arguments, media_types or [JSON], any("item_schema" in r for r in responses))


_PLACES = {("query",): "query", ("headers",): "header"}


def _response(reply: Reply) -> Response:
    headers = reply.headers or {}
    content_type = next((v for k, v in headers.items() if k.lower() == "content-type"), JSON)

    async def chunks() -> AsyncIterator[bytes]:
        if reply.fd < 0:
            yield reply.body
            return
        while data := os.read(reply.fd, 1 << 20):
            yield data

    return Response(content_type.partition(";")[0].strip(), chunks, "the model")


async def train_locally(model: LocalModel, request: Request, results: Results) -> None:
    """Train, and print the result; with --json, what a record has of it."""
    async with model.send(model.command.source.name, "train", request) as response:
        result = await response.json()
    results.value({"status": "done", "result": result} if results.as_json else result["output"])
