"""A model in a worker process: load it, warm it, describe it, and call it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from deepaas.exceptions import ModelMistakeError
from deepaas.log import get_logger
from deepaas.model import loading
from deepaas.model.v2 import validation
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.calling import calling_of, yields
from deepaas.model.v2.declarations import (
    check_warm,
    declared_fields,
    declared_schema,
    has_return_hint,
    metadata_of,
)
from deepaas.model.v2.description import describe_function
from deepaas.model.v2.examples import Examples, read_examples
from deepaas.model.v2.exchange import NOT_IMPLEMENTED, Call, CallingKind, Reply
from deepaas.model.v2.failures import describe, one_line, prepare_for_model
from deepaas.model.v2.interface import describe_interface
from deepaas.model.v2.invocation import Invocation, Runtime
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.json_schema import Schemas
from deepaas.model.v2.mistakes import mistakes_of
from deepaas.model.v2.weights import declared_weights, describe_weights
from deepaas.model.v2.wrapper import ModelWrapper
from deepaas.protocol import messages
from deepaas.protocol.messages import WorkerPhase
from deepaas.stdio import StandardStreams

logger = get_logger("deepaas.worker")


class Host:
    """The loaded model, ready to process calls."""

    def __init__(
        self, start: messages.Start, streams: StandardStreams, on_phase: Callable[[str], None]
    ) -> None:
        """Import the model, read its arguments and warm it. Raises the exceptions of its code."""
        self.options = messages.CallOptions(**start.options)
        self.runtime = Runtime(start.name, "worker", streams.restore)
        on_phase(WorkerPhase.IMPORTING)
        before = set(sys.modules)
        self.model = ModelWrapper(start.name, loading.load(start.target, start.folder))
        self._file = loading.file_of(start.target)  # now, as the model may change the directory
        self._weights = declared_weights(self.model.model, self._file)  # warm() may use the name
        self._scratch = start.result_dir
        self._imported = set(sys.modules) - before
        on_phase(WorkerPhase.READING_ARGUMENTS)
        self._mistakes: list[str] = []
        arguments = Arguments(declared_fields(self.model, "predict", self._mistakes))
        self._train_arguments: Arguments | None = None
        self._train_description: dict[str, Any] = {}
        self._train_problem = ""
        if self.model.has("train"):
            self._read_train_arguments()
        schema = declared_schema(self.model, self._mistakes)
        self.invocation = Invocation(self.runtime, self.model, arguments, schema)
        self.calling = calling_of(
            self.model,
            max_batch_size=self.options.max_batch_size,
            max_batch_wait_ms=self.options.max_batch_wait_ms,
            max_concurrency=self.options.max_concurrency,
        )
        if start.warm:
            check_warm(self.model)
            on_phase(WorkerPhase.WARMING)
            awaitable = self.model.warm()
            if type(awaitable) is CoroutineType:
                self.runtime.wait_for(awaitable)
        streams.restore()
        prepare_for_model()
        on_phase(WorkerPhase.READING_METADATA)

    def _read_train_arguments(self) -> None:
        """Read the arguments of train. If that fails, only trainings are rejected."""
        try:
            arguments = Arguments(declared_fields(self.model, "train", self._mistakes))
            description = describe_function(arguments, None)
            self.runtime.recover()
            self._train_arguments = arguments
            self._train_description = {"train": description}
        except BaseException as error:
            self.runtime.recover(error)
            self._train_problem = describe(error)
            self._note_or_log(error, "get_train_args")

    def _note_or_log(self, error: BaseException, function: str) -> None:
        """Log why a function failed. The model is served without it."""
        if isinstance(error, ModelMistakeError):
            self._mistakes += error.lines
        else:
            self.runtime.log_failure(error, function)

    def description(self) -> dict[str, Any]:
        """Return the data about the model that the server needs, as plain data."""
        metadata, problem = self._read_metadata()
        examples = self._read_examples()
        weights = self._weights.mistakes if self._weights else ()
        mistakes = [*self._mistakes, *self._find_mistakes(), *examples.mistakes, *weights]
        return {
            "mistakes": list(dict.fromkeys(map(one_line, mistakes))),
            "metadata": metadata,
            "metadata_problem": problem,
            "predict": describe_function(self.invocation.arguments, self.invocation.schema),
            **self._train_description,
            "interface": self._interface(examples, metadata),
            "example_files": examples.files,
            "yields": self._yields(),
            "has": [name for name in ("predict", "train") if self._has(name)],
            "calling": {"kind": self.calling.kind, "at_once": self.calling.at_once},
            "sources": loading.sources(self.model.model, self._imported),
        }

    def _yields(self) -> bool:
        return self.calling.kind is not CallingKind.BATCH and yields(self.model)

    def _read_examples(self) -> Examples:
        """Return the declared examples. If they cannot be read, the model is served without."""
        functions = {"predict": self.invocation.arguments, "train": self._train_arguments}
        arguments = {
            name: one for name, one in functions.items() if one is not None and self._has(name)
        }
        try:
            examples = read_examples(self.model, self._file, arguments, self._scratch)
            self.runtime.recover()
        except BaseException as error:
            self.runtime.recover(error)
            return Examples(mistakes=[f"the examples cannot be read: {describe(error)}"])
        return examples

    def _interface(self, examples: Examples, metadata: dict[str, Any]) -> dict[str, Any]:
        return describe_interface(
            self.invocation.arguments,
            self._train_arguments,
            self.invocation.schema,
            examples.by_function,
            describe_weights(self._weights, self.model.name, self._scratch),
            metadata,
            returned=self._schema_of_result,
            streams=self._yields(),
            batches=self.calling.kind is CallingKind.BATCH,
        )

    def _schema_of_result(self, schemas: Schemas) -> dict[str, Any]:
        """Return the schema that the return annotation of predict gives, or {}."""
        batches = self.calling.kind is CallingKind.BATCH
        if not has_return_hint(self.model.function("predict_batch" if batches else "predict")):
            return {}
        from deepaas.model.v2.result_hints import schema_of_result

        return schema_of_result(self.model, schemas, streams=self._yields(), batches=batches)

    def _find_mistakes(self) -> list[str]:
        try:
            arguments = self.invocation.arguments
            return mistakes_of(self.model, self.calling.kind, arguments, self._train_arguments)
        except Exception:  # inspecting the model's objects may run its code
            logger.debug("Model %s was not checked", self.model.name, exc_info=True)
            return []

    def _read_metadata(self) -> tuple[dict[str, Any], str]:
        """Return the metadata as plain data, and why get_metadata failed, or "".

        If it fails, the model is served nevertheless, with default metadata.
        """
        try:
            metadata = {to_plain(str(k)): to_plain(v) for k, v in metadata_of(self.model).items()}
            self.runtime.recover()
            return metadata, ""
        except BaseException as error:
            self.runtime.recover(error)
            self._note_or_log(error, "get_metadata")
            return to_plain(self.model.stock_metadata()), f"get_metadata failed: {describe(error)}"

    def _has(self, function: str) -> bool:
        if function == "predict":
            return self.model.has("predict") or self.model.has("predict_batch")
        return self.model.has(function)

    def validate(self, call: Call) -> Reply:
        """Return the reply to a call that only validates arguments, see `validation.validate`."""
        if not self._has(call.validate):
            return Reply(501, reason=NOT_IMPLEMENTED, code="not_implemented")
        arguments = self._train_arguments if call.validate == "train" else self.invocation.arguments
        if arguments is None:
            reason = f"get_train_args failed: {self._train_problem}"
            return Reply(500, reason=reason, code="train_failed")
        try:
            reply = validation.validate(arguments, call)
            self.runtime.recover()
            return reply
        except BaseException as error:
            self.runtime.recover(error)
            return self.runtime.failed(error, f"Checking the arguments of {call.validate}")
