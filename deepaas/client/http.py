"""The client itself: one session with one server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

import deepaas
from deepaas.client.address import checked_address, proxy_for
from deepaas.client.errors import NotConnectedError, RefusedError, refusal
from deepaas.client.interface import (
    JSON,
    Function,
    Interface,
    Json,
    interface_in,
    names_in,
    path_of,
)
from deepaas.client.requests import File, Request, request_of

DEFAULT_URL = "http://127.0.0.1:5000"
TIMEOUT = 600.0
CONNECT_TIMEOUT = 10.0

CLOSE_SECONDS = 1.0

MAX_ERROR = 1024 * 1024
"""Bytes of the body of an error that are read."""

MAX_JSON = 256 * 1024 * 1024
"""Bytes of the largest JSON body, and of the largest line of a stream, that are read to memory."""

TRAININGS, JOBS = "train", "jobs"
"""The kinds of records: trainings, and asynchronous predictions."""


class Response:
    """A response that is not an error. Its body can be read once.

    `source` is the address from which it came; `chunks` yields the bytes of the body.
    """

    def __init__(
        self, media_type: str, chunks: Callable[[], AsyncIterator[bytes]], source: str
    ) -> None:
        self.media_type = media_type
        self.chunks = chunks
        self._source = source

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of the body, without the line breaks. Raises NotConnectedError."""
        kept: list[bytes] = []
        size = 0
        async for data in self.chunks():
            *complete, rest = data.split(b"\n")
            for line in complete:
                yield b"".join([*kept, line])
                kept, size = [], 0
            kept.append(rest)
            size += len(rest)
            _check_size(size)
        if size:
            yield b"".join(kept)

    async def read(self, most: int = MAX_JSON) -> bytes:
        """Return the whole body. Raises NotConnectedError, also if it is too large."""
        pieces, size = [], 0
        async for data in self.chunks():
            pieces.append(data)
            size += len(data)
            _check_size(size, most)
        return b"".join(pieces)

    async def json(self) -> Any:
        """Return the body, which is JSON. Raises NotConnectedError if it is not."""
        body = await self.read()
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise NotConnectedError(
                f"{self._source} has sent {self.media_type}, and not JSON; "
                "is this the address of a DEEPaaS server?"
            ) from None

    async def items(self) -> AsyncIterator[Any]:
        """Yield the items of a stream of JSON lines. Raises RefusedError if the stream fails."""
        async for line in self.lines():
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                shown = repr(line[:100])
                raise NotConnectedError(f"a line of the stream is not JSON: {shown}") from None
            if (error := _error_in(item)) is not None:
                raise error
            yield item


class Client:
    """A session with a server, as an asynchronous context manager.

    `token` is sent with each request. A request fails if the connection takes longer than
    `connect_timeout`, or if the server then sends nothing for `timeout` seconds.

    Raises UnsuitableArgumentError if the address is none, or has a user or a password. All methods
    raise NotConnectedError if there is no usable response, and RefusedError if the
    server answers with an error.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str = "",
        timeout: float = TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self.url = checked_address(url)
        self._headers = {"User-Agent": f"deepaas-client/{deepaas.__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self.timeout = timeout
        self._connect_timeout = connect_timeout
        self._session: aiohttp.ClientSession | None = None
        self._document: Json | None = None

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._connect_timeout, sock_read=self.timeout
            ),
            trust_env=False,  # it would also send a password of ~/.netrc
            auto_decompress=True,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            # aiohttp waits until buffered bytes are sent, which a server may never read.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._session.close(), CLOSE_SECONDS)

    # --- the models

    async def models(self) -> list[str]:
        """Return the names of the models."""
        return names_in(await self._describe())

    async def interface(self, model: str) -> Interface:
        """Return the interface of a model. Its functions are empty if it cannot answer now."""
        document = await self._describe()
        if model not in names_in(document):
            raise RefusedError(404, f"there is no model {model}")
        return interface_in(document, model)

    async def _describe(self) -> Json:
        if self._document is None:
            try:
                async with self.open("GET", "/openapi.json") as response:
                    document = await response.json()
            except RefusedError as error:
                if error.status != 404:
                    raise
                raise NotConnectedError(
                    f"{self.url} is not the address of a DEEPaaS server: /openapi.json is missing"
                ) from None
            if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
                raise NotConnectedError(f"{self.url} is not the address of a DEEPaaS server")
            self._document = document
        return self._document

    async def explain_absence(self, model: str) -> None:
        """Raise RefusedError if the model cannot answer now, with the reason."""
        async with self.open("GET", path_of(model, "ready")):
            return

    # --- calls

    async def predict(
        self, model: str, arguments: Mapping[str, Any] | None = None, *, accept: str = ""
    ) -> Any:
        """Return the result: the value of `predictions`, the items of a stream, or bytes.

        An argument is a value of JSON, a `pathlib.Path` or `File`, or a list of these.
        """
        function = await self._function(model, "predict")
        request = request_of(function, arguments or {}, accept)
        async with self.send(model, "predict", request) as response:
            if response.media_type == JSON:
                return without_envelope(await response.json())
            if "ndjson" in response.media_type:
                return [item async for item in response.items()]
            return await response.read()

    async def train(self, model: str, arguments: Mapping[str, Any] | None = None) -> Json:
        """Start a training, and return its record."""
        function = await self._function(model, "train")
        return await self.submit(model, "train", request_of(function, arguments or {}))

    async def _function(self, model: str, name: str) -> Function:
        functions = (await self.interface(model)).functions
        if name not in functions:
            await self.explain_absence(model)
            raise RefusedError(501, f"{model} has no function {name}")
        return functions[name]

    @contextlib.asynccontextmanager
    async def send(
        self, model: str, function: str, request: Request, *, is_async: bool = False
    ) -> AsyncIterator[Response]:
        """Call `predict` or `train`; with `is_async`, let the server make the prediction later."""
        prefer = {"Prefer": "respond-async"} if is_async else {}
        path = path_of(model, function) + "/"
        with contextlib.ExitStack() as files:
            uploads: list[Upload] = []
            body = _body_of(request, files, uploads)
            headers = {**request.headers, **prefer}
            async with self.open(
                "POST", path, query=request.query, headers=headers, uploads=uploads, **body
            ) as response:
                yield response

    async def submit(self, model: str, function: str, request: Request) -> Json:
        """Start a training or an asynchronous prediction, and return its record."""
        async with self.send(model, function, request, is_async=function == "predict") as response:
            return _record(await response.json())

    # --- records

    async def records(self, model: str, kind: str = TRAININGS, *, limit: int = 0) -> list[Json]:
        """Return the records of a model, oldest first; with `limit`, only the newest."""
        query = [("limit", str(limit))] if limit else []
        async with self.open("GET", path_of(model, kind) + "/", query=query) as response:
            found = await response.json()
        return [_record(one) for one in (found if isinstance(found, list) else [found])]

    async def find(self, model: str, uuid: str) -> tuple[str, Json]:
        """Return the kind of a record (`train` or `jobs`), and the record."""
        try:
            return TRAININGS, await self.record(model, TRAININGS, uuid)
        except RefusedError as error:
            if error.status not in (402, 404, 501):
                raise
        try:
            return JOBS, await self.record(model, JOBS, uuid)
        except RefusedError as error:
            if error.status not in (402, 404, 501):
                raise
            raise RefusedError(404, f"the model {model} has no record {uuid}") from None

    async def record(self, model: str, kind: str, uuid: str) -> Json:
        async with self.open("GET", path_of(model, kind, uuid)) as response:
            return _record(await response.json())

    async def delete(self, model: str, kind: str, uuid: str) -> Json:
        """Cancel what runs or waits, or remove the record of what has ended."""
        async with self.open("DELETE", path_of(model, kind, uuid)) as response:
            return _record(await response.json())

    # --- HTTP

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        uploads: Sequence[Upload] = (),
        **body: Any,
    ) -> AsyncIterator[Response]:
        """Send a request; `path` is relative to the URL of the server, and quoted.

        `timeout` replaces that of the client; 0 means no limit. Raises RuntimeError
        outside of the context manager.
        """
        if self._session is None:
            raise RuntimeError("use the client as an asynchronous context manager")
        seconds = self.timeout if timeout is None else timeout
        limits = aiohttp.ClientTimeout(
            total=None, sock_connect=self._connect_timeout, sock_read=seconds or None
        )
        with _translated(self.url, seconds):
            url = URL(self.url + path, encoded=True)
            sending = self._session.request(
                method,
                url.with_query(query) if query else url,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
                proxy=proxy_for(self.url),
                **body,
            )
            response = await self._watched(sending, seconds, uploads)
        async with response:

            async def chunks() -> AsyncIterator[bytes]:
                with _translated(self.url, seconds):
                    async for data in response.content.iter_any():
                        yield data

            opened = Response(response.content_type, chunks, str(url))
            if response.status >= 400:
                text = await opened.read(MAX_ERROR)
                raise refusal(response.status, text, response.headers.get("X-Request-ID", ""))
            if response.status >= 300:
                raise NotConnectedError(
                    f"{url} redirects to {response.headers.get('Location', 'another address')}; "
                    "give the address of the server itself"
                )
            yield opened

    async def _watched(
        self,
        sending: Coroutine[Any, Any, aiohttp.ClientResponse],
        seconds: float,
        uploads: Sequence[Upload],
    ) -> aiohttp.ClientResponse:
        """Wait for the response, and give up if the server does not read what is sent.

        aiohttp has no limit for that.
        """
        task = asyncio.ensure_future(sending)
        began = time.monotonic() + self._connect_timeout
        try:
            while True:
                await asyncio.wait([task], timeout=seconds or None)
                if task.done():
                    return task.result()
                active = max([began, *(upload.active for upload in uploads)])
                if time.monotonic() - active > seconds:
                    raise asyncio.TimeoutError
        finally:
            task.cancel()


class Upload(io.FileIO):
    """A file that is sent. `active` is when bytes of it were last read."""

    active = 0.0

    def read(self, size: int | None = -1, /) -> bytes:
        self.active = time.monotonic()
        return super().read(-1 if size is None else size) or b""


def without_envelope(body: Any) -> Any:
    """Return the predictions in the JSON of a response, or all of it if the model has a schema."""
    if isinstance(body, dict) and body.keys() == {"status", "predictions"}:
        return body["predictions"]
    return body


def _body_of(
    request: Request, files: contextlib.ExitStack, uploads: list[Upload]
) -> dict[str, Any]:
    """Return the body as an argument of aiohttp. `files` closes the files, and `uploads` gets
    them."""
    if not request.parts:
        return {} if request.json is None else {"json": request.json}
    form = aiohttp.FormData()
    for part in request.parts:
        if isinstance(part.value, File):
            file = part.value
            content: Any = file.data
            if file.path:
                with file.open() as opened:
                    content = files.enter_context(Upload(os.dup(opened.fileno())))
                uploads.append(content)
            form.add_field(part.name, content, filename=file.name, content_type=part.content_type)
        else:
            form.add_field(part.name, part.value, content_type=part.content_type or None)
    return {"data": form}


def _record(value: Any) -> Json:
    if isinstance(value, dict) and isinstance(value.get("uuid"), str) and value["uuid"].isascii():
        return value
    raise NotConnectedError("the server has sent no record; is it a DEEPaaS server?")


def _error_in(item: Any) -> RefusedError | None:
    """Return the error that ends a stream, or None."""
    if not isinstance(item, dict) or item.keys() != {"error"}:
        return None
    error = item["error"]
    if not isinstance(error, dict) or not {"message", "code"} <= error.keys():
        return None
    return RefusedError(
        0,
        str(error["message"]),
        code=str(error["code"]),
        request_id=str(error.get("request_id", "")),
    )


def _check_size(size: int, most: int = MAX_JSON) -> None:
    if size > most:
        raise NotConnectedError(
            f"the server has sent more than {most // 1024 // 1024} MiB where this is not expected; "
            "with --json and --output, a result of any size is saved"
        )


@contextlib.contextmanager
def _translated(address: str, timeout: float) -> Iterator[None]:
    """Convert the errors of aiohttp and of the socket to NotConnectedError."""
    parts = urlsplit(address)
    server = f"{parts.scheme}://{parts.netloc}"
    try:
        yield
    except aiohttp.ConnectionTimeoutError:
        raise NotConnectedError(
            f"{server} did not accept the connection in time; check the address, "
            "or raise --connect-timeout"
        ) from None
    except (aiohttp.ServerTimeoutError, asyncio.TimeoutError):
        raise NotConnectedError(
            f"{server} has sent nothing for {timeout:g} s; raise --timeout if it needs longer"
        ) from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise NotConnectedError(
            f"the certificate of {server} is not valid: {error.certificate_error}; "
            "SSL_CERT_FILE names a file with further authorities"
        ) from None
    except aiohttp.ClientSSLError as error:
        raise NotConnectedError(f"{server} does not speak TLS: {error}; is it http://?") from None
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno
        reason = os.strerror(number) if number and number > 0 else str(error.os_error)
        raise NotConnectedError(
            f"cannot connect to {server}: {reason}; check the address, and that the server runs"
        ) from None
    except (aiohttp.InvalidURL, ValueError) as error:
        raise NotConnectedError(f"{server} is no address of a server: {error}") from None
    except aiohttp.ClientResponseError as error:
        raise NotConnectedError(
            f"{server} does not answer in HTTP: {' '.join(error.message.split())[:200]}"
        ) from None
    except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
        raise NotConnectedError(
            f"the connection to {server} broke before the response was complete "
            f"({type(error).__name__}); the server may have ended"
        ) from None
