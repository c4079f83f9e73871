"""Predictions of `deepaas call`: one, or one for each of several files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from deepaas.client import RefusedError, Response
from deepaas.client.interface import Function, Interface
from deepaas.client.requests import File, Request, request_of
from deepaas.commands.calling.arguments import Given
from deepaas.commands.calling.results import Results
from deepaas.commands.calling.settings import REFUSED, CallError
from deepaas.commands.calling.text import say


class Session(Protocol):
    """Something that calls the functions of a model: a client, or the model in this process."""

    async def interface(self, model: str) -> Interface: ...

    def send(
        self, model: str, function: str, request: Request
    ) -> AbstractAsyncContextManager[Response]: ...


async def predict(
    session: Session,
    model: str,
    function: Function,
    given: Given,
    results: Results,
    *,
    accept: str = "",
    parallel: int = 1,
) -> None:
    """Make one prediction, or one for each file, and print or save the results in their order."""
    if given.batch is None:
        request = request_of(function, given.values, accept)
        async with session.send(model, "predict", request) as response:
            await results.take(response, _name_of_file(given.values))
        return
    name, files = given.batch
    requests = [request_of(function, {**given.values, name: file}, accept) for file in files]

    async def one(file: File, request: Request) -> dict[str, Any] | RefusedError:
        try:
            async with session.send(model, "predict", request) as response:
                return await results.take(response, file.name)
        except RefusedError as error:
            return error

    pairs = iter(zip(files, requests, strict=True))
    failed = 0
    if parallel == 1:  # a model in this process is called without an event loop
        for file, request in pairs:
            failed += _report(results, file, await one(file, request))
    else:
        waiting: list[tuple[File, asyncio.Task[dict[str, Any] | RefusedError]]] = []
        try:
            _begin(waiting, pairs, one, parallel)
            while waiting:
                file, task = waiting[0]
                failed += _report(results, file, await task)
                del waiting[0]
                _begin(waiting, pairs, one, parallel)
        finally:
            for _, task in waiting:
                task.cancel()
            await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
    if failed:
        raise CallError(f"{failed} of {len(files)} predictions have failed", REFUSED)


def _begin(waiting: list[Any], pairs: Iterator[Any], one: Any, parallel: int) -> None:
    """Begin predictions until as many as allowed are there."""
    while len(waiting) < parallel and (pair := next(pairs, None)) is not None:
        waiting.append((pair[0], asyncio.ensure_future(one(*pair))))


def _report(results: Results, file: File, outcome: dict[str, Any] | RefusedError) -> int:
    """Print the line about a file; return 1 if its prediction has failed, else 0."""
    name = file.path or file.name
    if isinstance(outcome, RefusedError):
        say(f"{name}: {outcome}")
        results.entry(name, error=outcome.as_json())
        return 1
    results.entry(name, **outcome)
    return 0


def _name_of_file(values: dict[str, Any]) -> str:
    return next((value.name for value in values.values() if isinstance(value, File)), "")
