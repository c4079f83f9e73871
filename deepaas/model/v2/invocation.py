"""Call a model: validate the arguments of a call, call the function, encode the result.

Workers and the child processes of jobs use it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from time import monotonic
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from deepaas import context
from deepaas.exceptions import ModelMistakeError
from deepaas.log import get_logger
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.calling import batch_results, calling_of
from deepaas.model.v2.exchange import NOT_IMPLEMENTED, Call, CallingKind, Reply, measured_now
from deepaas.model.v2.failures import let_go, prepare_for_model, reply_to
from deepaas.model.v2.places import without_own_frames
from deepaas.model.v2.results import ResultSchema, encode, encode_item
from deepaas.model.v2.wrapper import ModelWrapper
from deepaas.streams import stream_headers, stream_type

if TYPE_CHECKING:
    import asyncio

LAZY = frozenset({GeneratorType, AsyncGeneratorType, CoroutineType})
"""The types of values that must be run to give a result."""


class Runtime:
    """The process that runs the code of a model.

    After each function of the model, `restore` is called to undo its changes to the process.
    Failures are logged to `deepaas.<component>`.
    """

    def __init__(
        self, name: str, component: str, restore: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self._logger = get_logger(f"deepaas.{component}")
        self._restore = restore
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of this process, created on first use."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """Run an awaitable to completion and return its result."""
        return self.loop.run_until_complete(awaitable)

    def resolve(self, value: Any) -> Any:
        """Return the result of a coroutine; convert an async generator to a plain one."""
        if type(value) is CoroutineType:
            value = self.wait_for(value)
        return self._items(value) if type(value) is AsyncGeneratorType else value

    def _items(self, items: AsyncGeneratorType[Any, None]) -> Generator[Any, None, None]:
        try:
            while True:
                try:
                    item = self.wait_for(anext(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self.wait_for(items.aclose())

    def recover(self, error: BaseException | None = None) -> None:
        """Undo the model's changes to this process, and free the memory that `error` references."""
        if error is not None:
            let_go(error)
        self.end_if_forked()
        if self._restore is not None:
            self._restore()

    def end_if_forked(self) -> None:
        """Exit if this process is a child that the model forked: only the parent may reply."""
        if os.getpid() != self._pid:
            os._exit(1)

    def failed(self, error: BaseException, what: str = "predict") -> Reply:
        """Return the reply for an error that the model raised in `what`.

        Log the error if the status of the reply is 500 or above.
        """
        let_go(error)
        prepare_for_model()
        reply = reply_to(error)
        if reply.status >= 500:
            self.log_failure(error, what)
        return reply

    def log_failure(self, error: BaseException, what: str) -> None:
        """Log an error with its traceback. With `--debug`, this includes frames of this package."""
        if not self._logger.isEnabledFor(logging.DEBUG):
            without_own_frames(error)
        lines = error.lines if isinstance(error, ModelMistakeError) else ()
        try:
            for line in lines:
                self._logger.error("%s", line)
            request = context.request_id()
            where = f" (request {request})" if request else ""
            self._logger.error("%s of model %s failed%s", what, self.name, where, exc_info=error)
        except BaseException:  # the text of an exception may raise
            self._logger.error("%s of model %s failed: %s", what, self.name, type(error).__name__)


class Invocation:
    """The steps from a call to its reply: `arguments.load`, a function of the model, `encode`."""

    def __init__(
        self, runtime: Runtime, model: ModelWrapper, arguments: Arguments, schema: Any
    ) -> None:
        self.runtime = runtime
        self.model = model
        self.arguments = arguments
        self.schema = None if schema is None else ResultSchema(schema)

    def function(self, name: str) -> Callable[..., Any]:
        """Return a function of the model. Raises RuntimeError if the model has deleted it."""
        function = self.model.function(name)
        if function is None:
            raise RuntimeError(f"the model no longer has {name}")
        return function

    def invoke(self, call: Call, taken: float) -> Reply | Stream:
        """Validate a call, predict and encode the result. Errors of the model become replies.

        `taken` is when the worker has taken the call, on the clock of `time.monotonic`.
        """
        runtime = self.runtime
        validated = predicted = 0.0
        try:
            arguments, media_type = self.arguments.load(call)
            validated = monotonic()
            predict = self.model.function("predict")
            if predict is None:
                return Reply(501, reason=NOT_IMPLEMENTED, code="not_implemented")
            value = predict(**arguments)
            if type(value) in LAZY:
                value = runtime.resolve(value)
                if type(value) is GeneratorType:
                    media_type = self.stream_type(call, media_type)
                    return Stream(self, value, media_type, taken, validated)
            predicted = monotonic()
            runtime.recover()
            reply = encode(value, media_type, self.schema)
            encoded = monotonic()
            steps = validated - taken, 0.0, predicted - validated, encoded - predicted
            reply.measured = taken, *steps, 0
        except BaseException as error:
            measured = measured_now(taken, validated, predicted)
            runtime.recover(error)
            reply = runtime.failed(error)
            reply.measured = measured
        return reply

    def predict(self, arguments: Mapping[str, Any], max_batch_size: int = 0) -> Any:
        """Predict for one call, outside of a worker; return the result, or a generator.

        A model that predicts batches gets a batch of one. Raises the exceptions of the model.
        `max_batch_size` overrides the attribute of the model, unless it is 0.
        """
        if calling_of(self.model, max_batch_size=max_batch_size).kind is CallingKind.BATCH:
            result = self.predict_batch([dict(arguments)])[0]
            if isinstance(result, BaseException):
                raise result
            return result
        return self.runtime.resolve(self.function("predict")(**arguments))

    def predict_batch(self, arguments: Sequence[dict[str, Any]]) -> list[Any]:
        """Predict a batch and return the results in the order of the calls.

        A result can be an exception.
        """
        size = len(arguments)  # the model may change the list
        returned = self.function("predict_batch")(arguments)
        return batch_results(self.runtime.resolve(returned), size)

    def encode(self, value: Any, media_type: str) -> Reply:
        """Return the reply with a result.

        If the result is an exception, raise it. Raises UnusableResultError if the result cannot be
        encoded in this media type.
        """
        if isinstance(value, BaseException):
            raise value
        return encode(value, media_type, self.schema)

    def encode_item(self, item: Any, media_type: str) -> bytes:
        """Return the encoded bytes of an item of a stream."""
        return encode_item(item, media_type, self.schema)

    def stream_type(self, call: Call, media_type: str) -> str:
        """Return the media type of the stream that answers this call."""
        return stream_type(call.headers.get("accept", ""), media_type)


class Stream:
    """The encoded items of a generator.

    The constructor runs the generator up to its first item, and raises the exceptions of the
    generator. `measured` are the times until the first item, of a call that was taken and validated
    at these times.
    """

    def __init__(
        self,
        invocation: Invocation,
        items: Generator[Any, None, None],
        media_type: str,
        taken: float = 0.0,
        validated: float = 0.0,
    ) -> None:
        self._invocation = invocation
        self._items = items
        self._media_type = media_type
        self.headers = stream_headers(media_type)
        self._first_at = 0.0  # when the generator has yielded its first item
        try:
            self._ahead = self._next()
        except BaseException:
            self.close()
            raise
        self.measured = measured_now(taken, validated, self._first_at)
        invocation.runtime.recover()

    def _next(self) -> bytes | None:
        for item in self._items:
            self._first_at = self._first_at or monotonic()
            return self._invocation.encode_item(item, self._media_type)
        return None

    def next(self) -> bytes | None:
        """Return the bytes of the next item, or None after the last item.

        Raises the exceptions of the generator.
        """
        if self._ahead is not None:
            data, self._ahead = self._ahead, None
            return data
        following = self._next()
        self._invocation.runtime.recover()
        return following

    def close(self) -> None:
        """Close the generator, so that its `finally` blocks run."""
        runtime = self._invocation.runtime
        try:
            self._items.close()
        except BaseException as error:
            runtime.log_failure(error, "Ending a stream")
        runtime.recover()
