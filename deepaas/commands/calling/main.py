"""Runs `deepaas call`: reads the words after MODEL, does the action, and reports errors."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from deepaas.client import Client, ClientError, RefusedError, UnsuitableArgumentError
from deepaas.client.errors import messages_in
from deepaas.client.interface import Function, Interface
from deepaas.client.requests import File, Request, request_of
from deepaas.commands.call import ACTIONS, connection_options, result_options
from deepaas.commands.calling import training
from deepaas.commands.calling.arguments import ArgumentCommand, Given
from deepaas.commands.calling.predict import predict
from deepaas.commands.calling.records import run_action
from deepaas.commands.calling.results import Results
from deepaas.commands.calling.settings import (
    INTERRUPTED,
    NOT_CONNECTED,
    REFUSED,
    USAGE,
    CallError,
    Settings,
    connection_in,
    target_of,
)
from deepaas.commands.calling.text import printable, say

_OF_TRAININGS = ("json", "async")


def run(word: str, words: Sequence[str], given: Mapping[str, Any]) -> int:
    """Do what the command line says, and return 0. Raises click.ClickException with a code.

    `word` names the model, `words` come after it, and `given` are the options before it.
    """
    options = [*connection_options(), *result_options()]
    early = connection_in(words, options)
    try:
        _run(word, list(words), Settings.of(given), early)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ClientError, click.ClickException) as error:
        reported = error if isinstance(error, click.ClickException) else _reported(error)
        if given.get("json") or early.get("json"):
            details = getattr(reported, "details", {"message": reported.format_message()})
            Results(as_json=True).value({"error": details})
        reported.message = printable(reported.message)  # type: ignore[misc]
        raise reported from None
    return 0


def _run(word: str, words: list[str], settings: Settings, early: Mapping[str, Any]) -> None:
    action = words.pop(0) if words and words[0] in ACTIONS else "predict"
    connection = {key: early.get(key) for key in ("local", "token_file", "timeout")}
    connection["connect_timeout"] = early.get("connect_timeout")
    first = Settings.of(vars(settings), connection)
    if first.local:
        if action not in ("predict", "train"):
            raise click.UsageError(f"{action} needs a server, which keeps the records")
        _run_local(word, action, words, settings)
        return
    url, model = target_of(word)
    if not model:
        raise click.UsageError(
            f"name a model after the address: {url}/MODEL{_models_of(first, url)}"
        )
    if action not in ("predict", "train"):
        options = [*connection_options()[1:], *result_options()[:2]]  # from --token-file to --json
        run_action(action, url, model, words, settings, options)
        return
    interface = asyncio.run(_interface(first, url, model))
    parser = _parser(interface, action)
    read = parser.read(words)
    settings = _checked(Settings.of(vars(settings), read.options), action)
    if action == "train":
        _train(settings, url, model, parser.function, read)
    elif settings.later:
        asyncio.run(_submit(settings, url, model, parser.function, read))
    else:
        asyncio.run(_predict(settings, url, model, parser.function, read))


def _parser(interface: Interface, action: str) -> ArgumentCommand:
    if action not in interface.functions:
        raise CallError(f"the model {interface.name} has no function {action}", REFUSED)
    help_text = f"Call the function {action} of {interface.name}."
    if action == "predict":
        help_text += (
            " A FILE without an option is for the argument that takes files. Several files for an "
            "argument that takes one are one call each."
        )
    help_text += (
        " @FILE reads a value from a file, @- from standard input. A list is one value of JSON, or "
        "the option several times."
    )
    chosen = [one for one in result_options() if action != "train" or one.name in _OF_TRAININGS]
    options = [*connection_options(), *chosen]
    name = f"deepaas call {interface.name} {action}"
    return ArgumentCommand(name, interface.functions[action], options, help_text)


def _checked(settings: Settings, action: str) -> Settings:
    """Return the settings. Raises a usage error if one has no meaning for a training."""
    if action == "train" and (settings.output or settings.accept):
        raise click.UsageError("--output and --accept are for predictions; train prints its result")
    return settings


# --- over HTTP


async def _interface(settings: Settings, url: str, model: str) -> Interface:
    async with settings.client(url) as client:
        try:
            interface = await client.interface(model)
        except RefusedError as error:
            if error.status != 404:
                raise
            await _explain(client, model)
            raise
        if not interface.functions:
            await client.explain_absence(model)
        return interface


async def _explain(client: Client, model: str) -> None:
    """Raise RefusedError with the reason why the server does not describe the model."""
    try:
        await client.explain_absence(model)  # the client may have to sign in
    except RefusedError as error:
        if error.status != 404:
            raise
    names = await client.models()
    near = difflib.get_close_matches(model, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(names) or 'none'}"
    raise RefusedError(404, f"the server at {client.url} has no model {model}; {hint}") from None


def _models_of(settings: Settings, url: str) -> str:
    async def names() -> list[str]:
        async with settings.client(url) as client:
            return await client.models()

    try:
        return f"; it has: {', '.join(asyncio.run(names()))}"
    except ClientError:
        return ""


async def _predict(
    settings: Settings, url: str, model: str, function: Function, given: Given
) -> None:
    results = Results(settings.output, settings.json, given.batch is not None)
    async with settings.client(url) as client:
        accept, parallel = _accepted(settings, function), settings.parallel
        await predict(client, model, function, given, results, accept=accept, parallel=parallel)


async def _submit(
    settings: Settings, url: str, model: str, function: Function, given: Given
) -> None:
    """Ask for predictions that are made later, and print their records."""
    results = Results(as_json=settings.json)
    name = given.batch[0] if given.batch else ""
    files: list[File | None] = [*given.batch[1]] if given.batch else [None]
    async with settings.client(url) as client:
        for file in files:
            values = {**given.values, name: file} if file else given.values
            request = request_of(function, values, _accepted(settings, function))
            record = await client.submit(model, "predict", request)
            if file:
                results.entry(file.path or file.name, record=record)
            else:
                results.value(record if settings.json else record["uuid"])


def _accepted(settings: Settings, function: Function) -> str:
    """Return the header Accept. Raises a usage error if the model does not offer the type."""
    wanted, offered = settings.accept.lower(), function.media_types
    if not wanted or "*/*" in offered or function.streams:
        return settings.accept
    for one in offered:
        main = one.partition("/")[0]
        if wanted in (one.lower(), f"{main}/*", "*/*") or (
            one.endswith("/*") and wanted.startswith(f"{main}/")
        ):
            return settings.accept
    raise click.UsageError(f"--accept: the model offers {', '.join(offered)}")


def _train(settings: Settings, url: str, model: str, function: Function, given: Given) -> None:
    request = _request_to_train(function, given)

    async def start() -> dict[str, Any]:
        async with settings.client(url) as client:
            return await client.submit(model, "train", request)

    try:
        record = asyncio.run(start())
    except KeyboardInterrupt:
        click.echo(
            f"the training may have been started; see `deepaas call {url}/{model} list`",
            err=True,
        )
        raise
    if settings.later:
        Results(as_json=settings.json).value(record if settings.json else record["uuid"])
        return
    say(f"training {record['uuid']}")
    training.run_to_end(settings, url, model, "train", record["uuid"])


def _request_to_train(function: Function, given: Given) -> Request:
    if given.batch is not None:
        raise click.UsageError(f"--{given.batch[0]} takes one file for a training")
    return request_of(function, given.values)


# --- in this process


def _run_local(word: str, action: str, words: list[str], settings: Settings) -> None:
    from deepaas.cmd.cli_options import CommandError
    from deepaas.commands.calling.local import (
        LocalModel,
        results_apart,
        run_without_loop,
        train_locally,
    )
    from deepaas.exceptions import ConfigurationError, DeepaasError

    try:
        with contextlib.ExitStack() as stack:
            with results_apart():
                model = stack.enter_context(LocalModel.open(word))
                interface = run_without_loop(model.interface(word))
            parser = _parser(interface, action)
            read = parser.read(words)  # prints the help
            settings = _checked(Settings.of(vars(settings), read.options), action)
            if settings.later:
                raise click.UsageError("--async needs a server, which keeps the records")
            with results_apart() as stream:
                results = Results(settings.output, settings.json, read.batch is not None, stream)
                if action == "train":
                    request = _request_to_train(parser.function, read)
                    run_without_loop(train_locally(model, request, results))
                    return
                accept = _accepted(settings, parser.function)
                run_without_loop(
                    predict(model, word, parser.function, read, results, accept=accept)
                )
    except ConfigurationError as error:
        raise CallError(str(error), USAGE) from None
    except (CommandError, DeepaasError) as error:
        raise CallError(str(error), REFUSED) from None


# --- errors


def _reported(error: ClientError) -> CallError:
    """Return the error with its exit code and with all that the user has to know."""
    if isinstance(error, UnsuitableArgumentError):
        return CallError(str(error), USAGE)
    if not isinstance(error, RefusedError):
        return CallError(str(error), NOT_CONNECTED)
    if error.arguments is not None:
        lines = [
            f"\n  --{name}: {line}"
            for name, found in error.arguments.items()
            for line in messages_in(found)
        ]
        return CallError(f"the arguments are not valid:{''.join(lines)}", USAGE, error.as_json())
    known = [f"code {error.code}" if error.code else "", f"status {error.status}"]
    if error.request_id:
        known.append(f"request {error.request_id}")
    if error.status == 401:
        known.append("give a token with --token-file FILE or the variable DEEPAAS_TOKEN")
    details = ", ".join(one for one in known if one and one != "status 0")
    return CallError(f"{error} ({details})" if details else str(error), REFUSED, error.as_json())
