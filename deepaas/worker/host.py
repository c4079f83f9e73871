"""A model in a worker process: loaded, warmed, described, and then called."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Generator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from deepaas.exceptions import ModelMistakeError
from deepaas.log import get_logger
from deepaas.model import loading
from deepaas.model.v2 import checking
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.calling import calling_of, yields
from deepaas.model.v2.declarations import (
    check_warm,
    declared_fields,
    declared_schema,
    metadata_of,
)
from deepaas.model.v2.description import describe_function
from deepaas.model.v2.exchange import NOT_IMPLEMENTED, Call, Reply
from deepaas.model.v2.failures import (
    describe,
    let_go,
    one_line,
    prepare_for_model,
    reply_to,
)
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.mistakes import mistakes_of
from deepaas.model.v2.places import without_own_frames
from deepaas.model.v2.results import ResultSchema, encode, encode_item
from deepaas.model.v2.streams import stream_headers, stream_type
from deepaas.model.v2.wrapper import ModelWrapper
from deepaas.protocol import messages
from deepaas.stdio import StandardStreams

if TYPE_CHECKING:
    import asyncio

logger = get_logger("deepaas.worker")

LAZY = frozenset({GeneratorType, AsyncGeneratorType, CoroutineType})
"""The types of what has to be run before it is a result."""


class Host:
    """The model, ready to answer calls."""

    def __init__(
        self, start: messages.Start, streams: StandardStreams, on_phase: Callable[[str], None]
    ) -> None:
        """Import the model, read its arguments, warm it. What its code raises comes out."""
        self.limits = messages.Limits(**start.limits)
        self._streams = streams
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        on_phase("importing")
        before = set(sys.modules)
        self.model = ModelWrapper(start.name, loading.load(start.target, start.folder))
        self._imported = set(sys.modules) - before
        on_phase("reading arguments")
        self._mistakes: list[str] = []
        self.arguments = Arguments(declared_fields(self.model, "predict", self._mistakes))
        self._train_arguments: Arguments | None = None
        self._train_description: dict[str, Any] = {}
        self._train_problem = ""
        if self.model.has("train"):
            self._read_train_arguments()
        schema = declared_schema(self.model, self._mistakes)
        self.schema = None if schema is None else ResultSchema(schema)
        self.calling = calling_of(
            self.model,
            max_batch_size=self.limits.max_batch_size,
            max_batch_wait_ms=self.limits.max_batch_wait_ms,
            max_concurrency=self.limits.max_concurrency,
        )
        if start.warm:
            check_warm(self.model)
            on_phase("warming")
            awaitable = self.model.warm()
            if type(awaitable) is CoroutineType:
                self.wait_for(awaitable)
        streams.restore()
        prepare_for_model()
        on_phase("reading metadata")

    def _read_train_arguments(self) -> None:
        """Read the arguments of train. If that fails, it is trainings alone that are refused."""
        try:
            arguments = Arguments(declared_fields(self.model, "train", self._mistakes))
            description = describe_function(arguments, None)
            self.recover()
            self._train_arguments = arguments
            self._train_description = {"train": description}
        except BaseException as error:
            self.recover(error)
            self._train_problem = describe(error)
            self._note_or_log(error, "get_train_args")

    def _note_or_log(self, error: BaseException, function: str) -> None:
        """See to it that the log says why a function failed without which the model is served."""
        if isinstance(error, ModelMistakeError):
            self._mistakes += error.lines
            return
        with contextlib.suppress(BaseException):  # an exception whose own text raises
            self._log(error, function)

    def _log(self, error: BaseException, function: str) -> None:
        if not logger.isEnabledFor(logging.DEBUG):
            without_own_frames(error)
        logger.error("%s of model %s failed", function, self.model.name, exc_info=error)

    def description(self) -> dict[str, Any]:
        """What the server needs to know of the model, in plain data."""
        metadata, problem = self._read_metadata()
        return {
            "mistakes": list(dict.fromkeys(map(one_line, [*self._mistakes, *self._look()]))),
            "metadata": metadata,
            "metadata_problem": problem,
            "predict": describe_function(self.arguments, self.schema),
            **self._train_description,
            "yields": self.calling.kind != "batch" and yields(self.model),
            "has": [name for name in ("predict", "train") if self._has(name)],
            "calling": {"kind": self.calling.kind, "at_once": self.calling.at_once},
            "sources": loading.sources(self.model.model, self._imported),
        }

    def _look(self) -> list[str]:
        """The mistakes that can be seen in the model. To look for them harms no model."""
        try:
            return mistakes_of(self.model, self.calling.kind, self.arguments, self._train_arguments)
        except Exception:  # the model's objects may behave in any way when they are looked at
            logger.debug("Model %s was not checked", self.model.name, exc_info=True)
            return []

    def _read_metadata(self) -> tuple[dict[str, Any], str]:
        """The metadata in plain data, and why the model could not give its own; that is empty if it
        could. A model whose get_metadata fails is served all the same."""
        try:
            metadata = {to_plain(str(k)): to_plain(v) for k, v in metadata_of(self.model).items()}
            self.recover()
            return metadata, ""
        except BaseException as error:
            self.recover(error)
            self._note_or_log(error, "get_metadata")
            return to_plain(self.model.stock_metadata()), f"get_metadata failed: {describe(error)}"

    def _has(self, function: str) -> bool:
        """Whether the model predicts, or trains."""
        if function == "predict":
            return self.model.has("predict") or self.model.has("predict_batch")
        return self.model.has(function)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of this process, made when a model first asks for one."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """The result of a coroutine, for one who cannot await it."""
        return self.loop.run_until_complete(awaitable)

    def answer(self, call: Call) -> Reply | Stream:
        """The reply to a call, whatever the model does short of ending the process."""
        if call.check:
            return self.check(call)
        try:
            arguments, media_type = self.arguments.load(call)
            predict = self.model.function("predict")
            if predict is None:
                return Reply(501, reason=NOT_IMPLEMENTED, code="not_implemented")
            value = predict(**arguments)
            if type(value) in LAZY:
                value = self.run(value)
                if type(value) is GeneratorType:
                    return Stream(self, value, self.stream_type(call, media_type))
            self.recover()
            return encode(value, media_type, self.schema)
        except BaseException as error:
            self.recover(error)
            return self.failed(error)

    def check(self, call: Call) -> Reply:
        """The reply to a call that only has its arguments validated, see `checking.check`."""
        if not self._has(call.check):
            return Reply(501, reason=NOT_IMPLEMENTED, code="not_implemented")
        arguments = self._train_arguments if call.check == "train" else self.arguments
        if arguments is None:
            reason = f"get_train_args failed: {self._train_problem}"
            return Reply(500, reason=reason, code="train_failed")
        try:
            reply = checking.check(arguments, call)
            self.recover()
            return reply
        except BaseException as error:
            self.recover(error)
            return self.failed(error, f"Checking the arguments of {call.check}")

    def run(self, value: Any) -> Any:
        """What a coroutine ends with; what an async generator yields, as a plain generator."""
        if type(value) is CoroutineType:
            value = self.wait_for(value)
        return self._run_through(value) if type(value) is AsyncGeneratorType else value

    def _run_through(self, items: AsyncGeneratorType[Any, None]) -> Generator[Any, None, None]:
        try:
            while True:
                try:
                    item = self.wait_for(items.__anext__())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self.wait_for(items.aclose())

    def stream_type(self, call: Call, media_type: str) -> str:
        return stream_type(call.headers.get("accept", ""), media_type)

    def recover(self, error: BaseException | None = None) -> None:
        """Undo what the model's code may have done to this process, before `error` or without."""
        if error is not None:
            let_go(error)
        self.end_if_forked()
        self._streams.restore()

    def end_if_forked(self) -> None:
        """End a child that the model has forked, and that must not answer in our place."""
        if os.getpid() != self._pid:
            os._exit(1)

    def encode(self, value: Any, media_type: str) -> Reply:
        """The reply with what predict returned. Raises UnusableResultError if there is none."""
        return encode(value, media_type, self.schema)

    def failed(self, error: BaseException, what: str = "predict") -> Reply:
        """The reply for what was raised by what the model was asked to do."""
        let_go(error)
        prepare_for_model()
        reply = reply_to(error)
        if reply.status >= 500:
            with contextlib.suppress(BaseException):  # an exception whose own text raises
                self._log(error, what)
        return reply


class Stream:
    """What a generator yields, as the parts of an answer.

    Making one runs the generator to its first item: what it raises until then comes out.
    """

    def __init__(self, host: Host, items: Generator[Any, None, None], media_type: str) -> None:
        self._host = host
        self._items = items
        self._media_type = media_type
        self.headers = stream_headers(media_type)
        try:
            self._ahead = self._next()
        except BaseException:
            self.close()
            raise
        host.recover()

    def _next(self) -> bytes | None:
        for item in self._items:
            return encode_item(item, self._media_type, self._host.schema)
        return None

    def next(self) -> bytes | None:
        """The bytes of the next item; None after the last. What the generator raises comes out."""
        if self._ahead is not None:
            data, self._ahead = self._ahead, None
            return data
        following = self._next()
        self._host.recover()
        return following

    def close(self) -> None:
        """End the generator; its `finally` runs."""
        try:
            self._items.close()
        except BaseException:
            logger.exception("Ending a stream of model %s failed", self._host.model.name)
        self._host.recover()
