"""The actions of `deepaas call` on the records of trainings and of asynchronous predictions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import click

from deepaas.client import Client
from deepaas.client.http import JOBS, TRAININGS
from deepaas.client.interface import Json, path_of
from deepaas.commands import CONTEXT
from deepaas.commands.call import ACTIONS
from deepaas.commands.calling.results import Results, line_of, save
from deepaas.commands.calling.settings import REFUSED, CallError, Settings
from deepaas.commands.calling.text import say
from deepaas.commands.calling.training import ENDED, cancelled, finish, fraction_in, run_to_end

Action = Callable[[Client, str, Settings, dict[str, Any]], Awaitable[None]]


def run_action(
    action: str,
    url: str,
    model: str,
    words: Sequence[str],
    settings: Settings,
    options: Sequence[click.Parameter],
) -> None:
    """Do what the action says. Raises CallError, ClientError and click.UsageError."""
    name = f"deepaas call {model} {action}"
    given = dict(_command(action, options).make_context(name, list(words)).params)
    own: dict[str, Any] = {
        key: given.pop(key) for key in ("uuid", "limit", "follow") if key in given
    }
    settings = Settings.of(vars(settings), given)

    if action == "wait":
        kind, record = asyncio.run(_find(settings, url, model, own["uuid"]))
        if record.get("status") in ENDED:
            finish(settings, url, model, kind, record)
        else:
            run_to_end(settings, url, model, kind, own["uuid"])
        return

    async def act() -> None:
        async with settings.client(url) as client:
            await _ACTIONS[action](client, model, settings, own)

    asyncio.run(act())


def _command(action: str, options: Sequence[click.Parameter]) -> click.Command:
    params: list[click.Parameter] = list(options)
    if action == "list":
        params.append(
            click.Option(
                ["--limit"],
                type=click.IntRange(min=1),
                default=20,
                metavar="N",
                help="Show only the newest N of each kind.  [default: 20]",
            )
        )
    else:
        params.append(click.Argument(["uuid"]))
    if action == "log":
        params.append(
            click.Option(["--follow", "-f"], is_flag=True, help="Continue until the end.")
        )
    return click.Command(
        action, params=params, help=f"{ACTIONS[action].capitalize()}.", context_settings={**CONTEXT}
    )


async def _find(settings: Settings, url: str, model: str, uuid: str) -> tuple[str, Json]:
    async with settings.client(url) as client:
        return await client.find(model, uuid)


async def _list(client: Client, model: str, settings: Settings, own: dict[str, Any]) -> None:
    records = [
        {"kind": name, **one}
        for kind, name in ((TRAININGS, "training"), (JOBS, "prediction"))
        for one in await client.records(model, kind, limit=own["limit"])
    ]
    results = Results(as_json=settings.json)
    if settings.json:
        for one in records:
            results.value(one)
        return
    for one in records:
        progress = fraction_in(one)
        shown = "    " if progress is None else f"{progress:4.0%}"
        status, date = str(one.get("status", "")), str(one.get("date", ""))[:19]
        row = f"{one['uuid']}  {one['kind']:10}  {status:9}  {shown}  {date}"
        results.row(f"{row}  {one.get('message') or ''}".rstrip())


async def _show(client: Client, model: str, settings: Settings, own: dict[str, Any]) -> None:
    _, record = await client.find(model, own["uuid"])
    results = Results(as_json=settings.json)
    if settings.json:
        results.value(record)
        return
    for key, value in record.items():
        if value not in (None, "", []) and key not in ("links", "metrics", "artifacts"):
            results.row(f"{key}: {value if isinstance(value, str) else _compact(value)}")


def _compact(value: Any) -> str:
    return line_of(value).decode().rstrip("\n")


async def _log(client: Client, model: str, settings: Settings, own: dict[str, Any]) -> None:
    kind, _ = await client.find(model, own["uuid"])
    results = Results()
    query = [("follow", "true")] if own["follow"] else []
    path = path_of(model, kind, own["uuid"], "logs")
    timeout = 0.0 if own["follow"] else None  # a training may be silent for hours
    async with client.open("GET", path, query=query, timeout=timeout) as response:
        async for data in response.chunks():
            results.stream.write(data)
            results.stream.flush()


async def _files(client: Client, model: str, settings: Settings, own: dict[str, Any]) -> None:
    kind, _ = await client.find(model, own["uuid"])
    base = path_of(model, kind, own["uuid"], "artifacts") + "/"
    async with client.open("GET", base) as response:
        listed = await response.json()
    results = Results(as_json=settings.json)
    for one in _artifacts_in(listed):
        name = one["path"]
        if settings.output:
            path = _target(settings.output, name)
            async with client.open("GET", base + quote(name)) as response:
                size = await save(path, response.chunks())
            say(f"saved {path} ({size} bytes)")
        elif settings.json:
            results.value(one)
        else:
            results.row(f"{one.get('size', 0)!s:>12}  {name}")
    if isinstance(listed, dict) and listed.get("truncated"):
        click.echo("the server does not list all files", err=True)


def _artifacts_in(listed: Any) -> list[Json]:
    """Return the entries that name a file. A server may send anything."""
    found = listed.get("artifacts") if isinstance(listed, dict) else None
    return [
        one
        for one in (found if isinstance(found, list) else [])
        if isinstance(one, dict) and isinstance(one.get("path"), str)
    ]


def _target(folder: str, name: str) -> str:
    """Return where to save a file. Raises CallError if its name leads out of the folder."""
    parts = PurePosixPath(name).parts
    is_unusable = any(one == "\0" or "\ud800" <= one <= "\udfff" for one in name)
    if not parts or ".." in parts or name.startswith("/") or is_unusable:
        raise CallError(f"the server names a file {name!r}, which is not saved", REFUSED)
    return os.path.join(folder, *parts)


async def _cancel(client: Client, model: str, settings: Settings, own: dict[str, Any]) -> None:
    kind, record = await client.find(model, own["uuid"])
    if record.get("status") in ENDED:
        raise CallError(
            f"{own['uuid']} has ended already: {record['status']}; delete removes its record",
            REFUSED,
        )
    _say(await cancelled(client, model, kind, own["uuid"]), settings, "is cancelled")


async def _delete(client: Client, model: str, settings: Settings, own: dict[str, Any]) -> None:
    kind, record = await client.find(model, own["uuid"])
    if record.get("status") not in ENDED:
        await cancelled(client, model, kind, own["uuid"])
    _say(await client.delete(model, kind, own["uuid"]), settings, "is deleted")


def _say(record: Json, settings: Settings, what: str) -> None:
    if settings.json:
        Results(as_json=True).value(record)
    else:
        say(f"{record['uuid']} {what}")


_ACTIONS: dict[str, Action] = {
    "list": _list,
    "show": _show,
    "log": _log,
    "files": _files,
    "cancel": _cancel,
    "delete": _delete,
}
