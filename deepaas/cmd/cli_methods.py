"""The methods of `deepaas-cli`: load a model in this process, call it, print or save the result.

The steps of a prediction are those of a worker: read the arguments, call the function, encode.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mimetypes
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from deepaas import exact_json, log
from deepaas.cmd.cli_arguments import Given, MethodParser, reader
from deepaas.cmd.cli_options import CommandError
from deepaas.exceptions import ModelMistakeError
from deepaas.jobs.times import duration_text, local_text
from deepaas.model import loading
from deepaas.model.loading import ModelSource
from deepaas.model.v2.arguments import Arguments, InvalidArgumentsError
from deepaas.model.v2.declarations import check_warm, declared_fields, declared_schema
from deepaas.model.v2.exchange import NOT_IMPLEMENTED, Reply
from deepaas.model.v2.failures import causes_of, prepare_for_model, traceback_of
from deepaas.model.v2.invocation import Invocation, Runtime
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.media import JSON
from deepaas.model.v2.results import UnusableResultError, to_json
from deepaas.model.v2.validation import arguments_shown
from deepaas.model.v2.wrapper import ModelWrapper, NoDictionaryError
from deepaas.model_log import ModelLog
from deepaas.stdio import StandardStreams

LOGGER = "deepaas.cmd.cli"

logger = log.get_logger(LOGGER)


class ModelFailedError(CommandError):
    """The code of the model has raised an exception, which is logged already."""


def say(text: str) -> None:
    """Write a log line that no log level hides, because other programs read it."""
    log.handle(logger.makeRecord(LOGGER, logging.INFO, "", 0, "%s", (text,), None))


def load_model(source: ModelSource) -> ModelWrapper:
    """Import a model. Raises ModelFailedError."""
    try:
        return ModelWrapper(source.name, loading.load(source.target, source.folder))
    except (Exception, SystemExit) as error:
        raise _not_loaded(source, error) from None


def _not_loaded(source: ModelSource, error: BaseException) -> ModelFailedError:
    cause, lines = causes_of(error, loading.package_of(source.target))
    calls = traceback_of(error, with_own_frames=logger.isEnabledFor(logging.DEBUG))
    for line in lines:
        logger.error("model %s cannot be loaded: %s", source.name, line, extra=log.calls(calls))
    return ModelFailedError(f"model {source.name} cannot be loaded: {cause}")


@dataclass
class Command:
    """One call of `deepaas-cli`: the model, and the options that apply to every method.

    `output` is the file for the result as it was named, or "". `directory` is the working directory
    of the caller, because a model may change it.
    """

    source: ModelSource
    model: ModelWrapper
    runtime: Runtime
    warm: bool
    output: str
    directory: str

    @classmethod
    def open(
        cls, source: ModelSource, streams: StandardStreams, *, warm: bool, output: str, level: str
    ) -> Command:
        """Import the model. Raises ModelFailedError."""
        directory = os.getcwd()
        ModelLog({"model": source.name}, log.handle).begin(level)
        runtime = Runtime(source.name, "cmd.cli", streams.restore)
        model = load_model(source)
        runtime.recover()
        return cls(source, model, runtime, warm, output, directory)

    def get_metadata(self, *, was_chosen: bool = True) -> None:
        say(f"{'get_metadata' if was_chosen else 'None'} was called.")
        if not was_chosen:
            logger.warning("no method was given, so this is get_metadata")
        with self._calling("get_metadata"):
            text = json.dumps(to_plain(self._own_metadata()))
        if self.output:
            self._write(self.output, Reply(body=text.encode()))
        say(f"return: {text}")

    def _own_metadata(self) -> dict[str, Any]:
        """Return the metadata as the model returns it, without the keys that the server adds."""
        get = self.model.function("get_metadata")
        if get is None:
            return self.model.stock_metadata()
        metadata = get()
        if not isinstance(metadata, dict):
            returned = "None" if metadata is None else f"a {type(metadata).__name__}"
            raise NoDictionaryError(f"get_metadata returns {returned}, and not a dictionary")
        return metadata

    def warm_up(self) -> None:
        say("warm was called.")
        self._warm()
        say("return: Finished warm() method")

    def predict(self, argv: list[str]) -> None:
        """Call `predict`, and print the result or save it."""
        with reader() as read:
            arguments, given = self._read("predict", argv, read.load)
            with self._calling("schema"):
                schema = declared_schema(self.model)
            invocation = Invocation(self.runtime, self.model, arguments, schema)
            say("predict was called.")
            self.warm_before()
            with self._calling("predict"):
                value = invocation.predict(given.values)
                is_stream = type(value) is GeneratorType
                if is_stream:
                    value = list(value)
                if self.output:
                    self._save(encoded(invocation, value, given.media_type, is_stream), given)
                else:
                    say(f"return: {value if isinstance(value, str) else repr(value)}")

    def train(self, argv: list[str]) -> None:
        """Call `train`, and print or save its record."""
        with reader() as read:
            arguments, given = self._read("train", argv, read.load)
            invocation = Invocation(self.runtime, self.model, arguments, None)
            say("train was called.")
            self.warm_before()
            record: dict[str, Any] = {
                "date": local_text(time.time()),
                "args": arguments_shown(arguments.schema, given.values),
                "status": "done",
                "uuid": uuid.uuid4().hex,
            }
            began = time.monotonic()
            with self._calling("train"):
                value = self.runtime.resolve(invocation.function("train")(**given.values))
                if type(value) is GeneratorType:
                    value = list(value)
            duration = duration_text(time.monotonic() - began)
            logger.info("Elapsed time:  %s", duration)
            record["result"] = {
                "finish_date": local_text(time.time()),
                "duration": duration,
                "output": self.shown(value),
            }
        text = json.dumps(record)
        if self.output:
            self._write(self.output, Reply(body=text.encode()))
            text = f"Output is saved in {self.output}"
        say(f"return: {text}")

    # --- steps

    def parser(self, function: str) -> tuple[MethodParser, Arguments]:
        """Return the parser of the options of predict or train. Raises CommandError."""
        is_there = self.model.has(function)
        if function == "predict":
            is_there = is_there or self.model.has("predict_batch")
        if not is_there:
            name = self.source.name
            raise CommandError(f"{NOT_IMPLEMENTED}: {name} has no function {function}")
        with self._calling(f"get_{function}_args"):
            arguments = Arguments(declared_fields(self.model, function))
        prepare_for_model()
        return MethodParser(f"deepaas-cli {function}", arguments), arguments

    def _read(
        self, function: str, argv: list[str], load: Callable[..., Given]
    ) -> tuple[Arguments, Given]:
        parser, arguments = self.parser(function)
        texts = parser.read(argv)
        with self._calling("Reading the arguments", parser):
            return arguments, load(arguments, parser.by_name, texts)

    def warm_before(self) -> None:
        if self.warm:
            self._warm()

    def _warm(self) -> None:
        with self._calling("warm"):
            check_warm(self.model)
            self.runtime.resolve(self.model.warm())
        prepare_for_model()

    @contextlib.contextmanager
    def _calling(self, function: str, parser: MethodParser | None = None) -> Iterator[None]:
        """Convert the exceptions of the model's code to ModelFailedError, and log them.

        With a parser, arguments that are not valid end the program as a usage error.
        """
        try:
            yield
        except (CommandError, KeyboardInterrupt):
            raise
        except InvalidArgumentsError as error:
            if parser is not None:
                parser.refuse(error)
            raise
        except (Exception, SystemExit) as error:
            self.runtime.recover(error)
            reply = self.runtime.failed(error, function)
            if isinstance(error, ModelMistakeError):
                raise ModelFailedError("; ".join(error.lines)) from None
            raise ModelFailedError(f"{function} failed: {reply.reason}") from None
        self.runtime.recover()

    # --- results

    def shown(self, value: Any) -> Any:
        """Return the result of train for its record; a value that JSON cannot hold as text."""
        try:
            return json.loads(to_json(value))
        except UnusableResultError as error:  # the training itself has succeeded
            logger.warning("%s; it is shown as text", error)
            return json.loads(exact_json.dumps(to_plain(value)))

    def _save(self, reply: Reply, given: Given) -> None:
        """Save a result of predict, in a file with the extension of its media type."""
        path = self.output
        extension = mimetypes.guess_extension(given.media_type.partition(";")[0].strip()) or ""
        if extension and os.path.splitext(path)[1] != extension:
            path += extension
        try:
            self._write(path, reply)
        finally:
            reply.discard()
        if path != self.output:
            print(f"===================> New output is {path}", flush=True)
        say(f"return: Output is saved in {path}")

    def _write(self, path: str, reply: Reply) -> None:
        """Write a file; a relative path is relative to the directory of the caller."""
        target = os.path.join(self.directory, path)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                if reply.fd < 0:
                    file.write(reply.body)
                else:
                    with open(reply.fd, "rb", closefd=False) as source:
                        shutil.copyfileobj(source, file)
        except OSError as error:
            raise CommandError(
                f"the result cannot be written to {path}: {error.strerror}; "
                "give another file with --deepaas_method_output"
            ) from None


def encoded(invocation: Invocation, value: Any, media_type: str, is_stream: bool) -> Reply:
    """Return the content of the file for a result of predict, or for the items of a stream.

    It is that of the server's response, except that JSON is the value itself, without `status`, and
    that the items of a stream form a JSON list. A file or bytes are saved unchanged, also where
    JSON is expected. Raises UnusableResultError.
    """
    if media_type == JSON and not is_stream and _is_content(value):
        return invocation.encode(value, "application/octet-stream")
    if media_type != JSON and is_stream:
        return Reply(body=b"".join(invocation.encode_item(item, media_type) for item in value))
    if media_type != JSON:
        return invocation.encode(value, media_type)
    if is_stream or invocation.schema is None:
        return Reply(body=json.dumps(json.loads(to_json(value))).encode())
    return Reply(body=json.dumps(json.loads(invocation.encode(value, JSON).body)).encode())


def _is_content(value: Any) -> bool:
    """Return whether the value is a file or bytes."""
    return isinstance(value, bytes | bytearray | memoryview) or callable(
        getattr(value, "read", None)
    )


def run_method(command: Command, method: str | None, argv: list[str]) -> None:
    """Call a method of the model with the words that follow it on the command line."""
    match method:
        case "predict":
            command.predict(argv)
        case "train":
            command.train(argv)
        case "warm":
            command.warm_up()
        case _:
            command.get_metadata(was_chosen=method is not None)


def no_options(method: str, argv: list[str]) -> None:
    """Check that a method without arguments has none; exit with code 2 if it has."""
    MethodParser(f"deepaas-cli {method}").read(argv)
