"""The server of a check: starts it, sends requests to it, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from deepaas import exact_json
from deepaas.checks.server_log import ServerLog
from deepaas.checks.values import Json, MadeFile
from deepaas.cmd.orphans import check_directory
from deepaas.exceptions import DeepaasError
from deepaas.model.loading import ModelSource

_PROGRAM = """
import sys
if not getattr(sys.flags, "safe_path", False): del sys.path[0]
from deepaas.checks.server import main
main()
"""

STOP_SECONDS = 20.0
"""How long the server may take to stop; then it is killed."""

GRACE_SECONDS = 10.0
"""How much longer the check waits for a response than the server does for the model."""

MAX_BODY = 64 * 1024 * 1024
"""Bytes of a response; the check does not read more."""

MAX_EVENT = 256 * 1024 * 1024


class ServerFailedError(DeepaasError):
    """The server of the check has ended; the text has its last words."""


@dataclass
class Response:
    """A response. `status` is 0 if there was none in time. `request_id` names it in the log."""

    status: int
    body: bytes = b""
    media_type: str = ""
    request_id: str = ""

    @property
    def json(self) -> Any:
        """The body as JSON; None if it is not JSON."""
        try:
            return exact_json.loads(self.body)
        except ValueError:
            return None

    @property
    def code(self) -> str:
        """The code of an error; "" if there is none."""
        value = self.json
        return str(value.get("code") or "") if isinstance(value, dict) else ""

    @property
    def message(self) -> str:
        """What is said about an error."""
        value = self.json
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            return str(value["message"])
        return self.body[:300].decode(errors="replace")


@dataclass
class Loaded:
    """How the start of a model has ended: it has a description, or `failed` has the causes."""

    description: Json = field(default_factory=dict)
    pid: int = 0
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    """How workers have ended that should not."""


class Connection:
    """A running server with the models of a check."""

    def __init__(self, models: Sequence[ModelSource], log: Path, timeout: float) -> None:
        self.url = ""
        self.loaded = {one.name: Loaded() for one in models}
        self.requests = 0
        self.log = ServerLog(log)
        self._timeout = timeout
        self._changed = asyncio.Condition()
        self._has_ended = False
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout + GRACE_SECONDS), trust_env=False
        )

    async def close(self) -> None:
        await self._session.close()

    # --- what the server tells

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take in what the server tells, until it ends."""
        while line := await reader.readline():
            event = exact_json.loads(line)
            model = self.loaded.get(event["model"], Loaded())
            match event["event"]:
                case "open":
                    self.url = event["url"]
                case "ready":
                    model.description, model.pid = event["description"], event["pid"]
                    model.seconds = model.seconds or event["seconds"]
                case "failed":
                    model.failed = event["lines"]
                case "ended":
                    model.endings.append(event["ending"])
            async with self._changed:
                self._changed.notify_all()
        self._has_ended = True
        async with self._changed:
            self._changed.notify_all()

    async def until_loaded(self, model: str) -> Loaded:
        """Return how the start of the model has ended. Raises ServerFailedError."""
        loaded = self.loaded[model]
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._has_ended or (self.url and (loaded.description or loaded.failed))
            )
        if self._has_ended:
            raise ServerFailedError(f"the server has ended: {self.log.last_line()}")
        return loaded

    # --- requests

    async def send(self, method: str, path: str, **request: Any) -> Response:
        """Send a request and return the response. If there is none in time, its status is 0."""
        self.requests += 1
        request_id = f"check-{self.requests}"
        headers = {**request.pop("headers", {}), "X-Request-ID": request_id}
        try:
            async with self._session.request(
                method, self.url + path, headers=headers, **request
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY:
                        break
                media_type = response.headers.get("Content-Type", "")
                return Response(response.status, bytes(body), media_type, request_id)
        except asyncio.TimeoutError:
            return Response(0, request_id=request_id)
        except aiohttp.ClientPayloadError:  # a stream that has ended early
            return Response(500, b"the response ended early", "", request_id)
        except aiohttp.ClientError as error:
            if self._has_ended:
                raise ServerFailedError(f"the server has ended: {self.log.last_line()}") from None
            raise ServerFailedError(f"the server cannot be reached: {error}") from None

    async def call(
        self,
        path: str,
        arguments: Sequence[Json],
        values: Mapping[str, Any],
        files: Mapping[str, str],
        accept: str = "",
    ) -> Response:
        """POST these values, each in a place where the model takes it.

        `files` maps the path of each file of an example to its absolute path.
        """
        request = encode(arguments, values, files)
        if accept:
            request["headers"]["Accept"] = accept
        return await self.send("POST", path, **request)


# --- the encoding of requests


def encode(
    arguments: Sequence[Json], values: Mapping[str, Any], files: Mapping[str, str]
) -> dict[str, Any]:
    """Return the query, the headers and the body of a request, as aiohttp takes them."""
    known = {one["name"]: one for one in arguments}
    is_form = any(known[name]["file"] and has_file(value) for name, value in values.items())
    query: list[tuple[str, str]] = []
    headers: dict[str, str] = {}
    body: Json = {}
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in values.items():
        places = known[name]["locations"]
        if "json" in places and not is_form:
            body[name] = value
        elif "form" in places:
            is_form = True
            _add_to_form(form, name, value, files)
        elif "query" in places:
            query += [(name, text) for text in _texts(value)]
        elif "headers" in places:
            headers[name] = ",".join(_texts(value))
    request: dict[str, Any] = {"params": query, "headers": headers}
    if not is_form:
        return {**request, "json": body} if body else request
    for name, value in body.items():  # before the first argument that needs a form
        _add_to_form(form, name, value, files)
    return {**request, "data": form}


def has_file(value: Any) -> bool:
    """Return whether the value of an argument is a file, or a list of files."""
    if isinstance(value, list):
        return any(map(has_file, value))
    return isinstance(value, MadeFile) or (isinstance(value, dict) and "file" in value)


def _add_to_form(form: aiohttp.FormData, name: str, value: Any, files: Mapping[str, str]) -> None:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, MadeFile):
            form.add_field(name, one.content, filename=one.name, content_type=one.media_type)
        elif isinstance(one, dict) and one.get("file") in files:
            path = Path(files[one["file"]])
            content = path.read_bytes()
            form.add_field(name, content, filename=path.name, content_type=one["media_type"])
        elif isinstance(one, dict | list):
            form.add_field(name, exact_json.dumps(one), content_type="application/json")
        elif one is not None:
            form.add_field(name, _text(one))


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [_text(one) for one in values if one is not None]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else exact_json.dumps(value).decode()


# --- the process


@dataclass(frozen=True)
class ServerOptions:
    """The limits of the server of a check, in seconds, and its directory for weights ("": a new
    one)."""

    timeout: float
    start_timeout: float
    weights_dir: str = ""


@contextlib.asynccontextmanager
async def serving(
    models: Sequence[ModelSource], options: ServerOptions
) -> AsyncIterator[Connection]:
    """Run a server with these models on a free loopback port; it and its files are gone after."""
    with check_directory() as path:
        directory = Path(path)
        async with _started(models, options, directory) as (process, reader):
            connection = Connection(models, directory / "log", options.timeout)
            listening = asyncio.create_task(connection.listen(reader))
            try:
                yield connection
            finally:
                await connection.close()
                await _stop(process, at_once=connection.log.is_too_large)
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)


@contextlib.asynccontextmanager
async def _started(
    models: Sequence[ModelSource], options: ServerOptions, directory: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    (directory / "empty.conf").touch()
    (directory / "uploads").mkdir()
    argv = [
        *("--config-file", str(directory / "empty.conf")),
        *("--listen-ip", "127.0.0.1", "--listen-port", "0", "--listen-early", "--use-json"),
        *("--state-dir", str(directory / "state"), "--upload-dir", str(directory / "uploads")),
        *("--predict-timeout", str(options.timeout)),
        *("--start-timeout", str(options.start_timeout)),
    ]
    if options.weights_dir:
        argv += ["--weights-dir", options.weights_dir]
    reading, writing = os.pipe()
    try:
        with (directory / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _PROGRAM, str(os.getpid()), str(writing)),
                exact_json.dumps([astuple(one) for one in models]).decode(),
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
                start_new_session=True,
            )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    reader = asyncio.StreamReader(limit=MAX_EVENT)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
    )
    try:
        yield process, reader
    finally:
        transport.close()
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process, *, at_once: bool = False) -> None:
    """End the server; its guard kills the workers if it does not end by itself, or `at_once`."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), 0.0 if at_once else STOP_SECONDS)
    except asyncio.TimeoutError:
        pass
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
