"""Callbacks: the server POSTs a record to the client's address each time its status changes.

Callbacks are signed as the Standard Webhooks specification says: `webhook-signature` is `v1,` and
the base64 of the HMAC-SHA256 of `<webhook-id>.<webhook-timestamp>.<body>`.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import functools
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import orjson
from aiohttp import web

from deepaas.exceptions import (
    BadRequestError,
    CallbackRefusedError,
    ConfigurationError,
    StorageError,
)
from deepaas.http.request_ids import HEADER as REQUEST_ID
from deepaas.jobs.changes import wait_until_set
from deepaas.jobs.notices import Notice
from deepaas.jobs.store import Record
from deepaas.protocol.call_files import write_private

if TYPE_CHECKING:
    import aiohttp

    from deepaas.api.app import App

logger = logging.getLogger("deepaas.api")

HEADER = "Callback-URL"
MAX_URL = 2000
LOOK_SECONDS = 5.0
"""Interval at which the sender looks for notices of which no event tells: those that it can take
over from a server that has exited."""

RETRY_SECONDS = 0.3
"""When the sender looks again after it could not read the notices."""

FIRST_DELAY = 1.0
MAX_DELAY = 600.0
UNWRITTEN_DELAY = 5.0
"""Seconds until a notice is tried again after the store could not be written."""

GONE = 410
"""The status with which a receiver says that it wants no more callbacks."""

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32


@dataclass(frozen=True)
class CallbackOptions:
    """The receivers that may be called (each a host, or host:port), the key, and the limits.

    `timeout` is in seconds; `attempts` is how often a callback is tried. `at_once` is the maximum
    number of concurrent callbacks: at most half of them go to one host, and at most `per_receiver`
    to one port of a host. If `secret` is empty, it is read from `secret_file` before the first
    callback; if that file does not exist, it is made.
    """

    hosts: frozenset[str] = frozenset()
    secret: bytes = b""
    secret_file: Path = Path()
    timeout: float = 10
    attempts: int = 12
    at_once: int = 64
    per_receiver: int = 4


def callback_of(request: web.BaseRequest, hosts: Collection[str]) -> str:
    """Return the address in the header Callback-URL, or "".

    Raises BadRequestError if the address is invalid, and CallbackRefusedError if this server does
    not call it.
    """
    url = request.headers.get(HEADER, "")
    if not url:
        return ""
    parts = _split(url)
    if parts is None:
        raise BadRequestError(
            f"{HEADER} must be an http or https address without spaces, user or password, of at "
            f"most {MAX_URL} characters"
        )
    if not _is_allowed(parts, hosts):
        raise CallbackRefusedError(
            f"This server does not call {parts.hostname}: its operator can allow that with "
            "--allow-callbacks"
        )
    return url


def _split(url: str) -> SplitResult | None:
    """Return the parts of an address, or None if it cannot be called."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not (url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_URL):
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return None
    return None if parts.username is not None or parts.password is not None else parts


def _is_allowed(parts: SplitResult, hosts: Collection[str]) -> bool:
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    return host in hosts or f"{host}:{_port(parts)}" in hosts


def _port(parts: SplitResult) -> int:
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


class NoSecretError(ConfigurationError):
    """The file with the secret cannot be read or made."""


def read_secret(path: Path, make: bool) -> bytes:
    """Return the key in a file. With `make`, make the file if it does not exist.

    The file contains `whsec_<base64>`. Raises ConfigurationError if its content is invalid, and
    NoSecretError if the file cannot be read or made.
    """
    try:
        if make and not path.exists():
            _make_secret(path)
        text = path.read_text().strip()
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except OSError as error:
        raise NoSecretError(
            f"the secret for callbacks in {path} cannot be read or made: {error.strerror}; "
            "give another file with --callback-secret-file"
        ) from None
    except ValueError as error:
        raise ConfigurationError(
            f"the secret for callbacks in {path} is not {SECRET_PREFIX} and base64: {error}"
        ) from None
    if len(secret) < SECRET_BYTES // 2:
        raise ConfigurationError(
            f"the secret for callbacks in {path} must be {SECRET_PREFIX} and the base64 of at "
            f"least {SECRET_BYTES // 2} bytes"
        )
    return secret


def _make_secret(path: Path) -> None:
    """Make a file with a new key, unless another server makes it first.

    The link appears with its whole content, because another server may read it at any moment.
    """
    key = base64.b64encode(secrets.token_bytes(SECRET_BYTES))
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    write_private(fresh, SECRET_PREFIX.encode() + key + b"\n")
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


@contextlib.asynccontextmanager
async def calling_back(app: App, options: CallbackOptions) -> AsyncIterator[None]:
    """Send callbacks while the block runs."""
    if app.trainings is None or not options.hosts:
        yield
        return
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=options.timeout)
    connector = aiohttp.TCPConnector(limit=0)  # `Calls` limits the connections
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        sender = _Sender(app, options, session)
        app.kernel.events.job_changed.listen(sender.look_soon)
        sending = asyncio.create_task(sender.run())
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


class CallbackLimiter:
    """The counts of callbacks in progress. Limits keep one receiver from delaying the others."""

    def __init__(self, at_once: int, per_receiver: int) -> None:
        self._free = at_once
        self._per_host = max(1, at_once // 2)
        self._per_receiver = per_receiver
        self._counts: collections.Counter[str] = collections.Counter()

    def begin(self, url: str) -> tuple[str, str] | None:
        """Count a call. Return the argument for `end`, or None if a limit is reached."""
        parts = _split(url)
        host = "" if parts is None else (parts.hostname or "")
        receiver = "" if parts is None else f"{host}:{_port(parts)}"
        is_free = (
            self._free
            and self._counts[host] < self._per_host
            and self._counts[receiver] < self._per_receiver
        )
        if not is_free:
            return None
        self._free -= 1
        self._counts.update((host, receiver))
        return host, receiver

    def end(self, call: tuple[str, str], _: object = None) -> None:
        self._free += 1
        for name in call:
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]


class _Sender:
    def __init__(self, app: App, options: CallbackOptions, session: aiohttp.ClientSession) -> None:
        assert app.trainings is not None
        self._app = app
        self._trainings = app.trainings
        self._options = options
        self._session = session
        self._under_way: dict[str, asyncio.Task[None]] = {}  # by record: one callback at a time
        self._secret = options.secret
        self._calls = CallbackLimiter(options.at_once, options.per_receiver)
        self._due: dict[int, float] = {}  # when a notice is sent again, in monotonic time
        self._settled: set[int] = set()  # numbers of notices that are still to be dropped
        self._last_error = ""  # of the store
        self._wake = asyncio.Event()

    def look_soon(self, _: object = None) -> None:
        """Look for notices to send: a record has changed, or a callback has ended."""
        self._wake.set()

    async def run(self) -> None:
        try:
            while True:
                seconds = RETRY_SECONDS
                try:
                    await self._send_due_notices()
                    seconds = self._seconds_to_next()
                except StorageError:  # logged elsewhere
                    pass
                except Exception:
                    logger.exception("Sending callbacks failed")
                await wait_until_set(self._wake, seconds)
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _seconds_to_next(self) -> float:
        """Return when the next notice is due, unless a callback that ends makes room before."""
        now = time.monotonic()
        return min([LOOK_SECONDS, *(due - now for due in self._due.values() if due > now)])

    async def _send_due_notices(self) -> None:
        self._under_way = {u: task for u, task in self._under_way.items() if not task.done()}
        notices = await self._trainings.notices()
        numbers = {notice.number for notice in notices}
        self._due = {n: due for n, due in self._due.items() if n in numbers}
        self._settled &= numbers
        now = time.monotonic()
        for notice in notices:
            if notice.uuid in self._under_way or self._due.get(notice.number, 0) > now:
                continue
            if call := self._calls.begin(notice.callback):
                task = asyncio.create_task(self._send(notice))
                task.add_done_callback(functools.partial(self._calls.end, call))
                task.add_done_callback(self.look_soon)
                self._under_way[notice.uuid] = task

    def _make_secret(self) -> bytes:
        try:
            return read_secret(self._options.secret_file, make=True)
        except ConfigurationError as error:
            raise StorageError(str(error)) from None

    def _postpone(self, notice: Notice, error: StorageError) -> None:
        if str(error) != self._last_error:
            self._last_error = str(error)
            logger.error("%s", error)
        self._due[notice.number] = time.monotonic() + UNWRITTEN_DELAY

    async def _send(self, notice: Notice) -> None:
        try:
            await self._try_to_send(notice)
        except StorageError as error:
            self._postpone(notice, error)
        except Exception:
            logger.exception("The callback for %s failed", notice.uuid)
            self._due[notice.number] = time.monotonic() + UNWRITTEN_DELAY

    async def _try_to_send(self, notice: Notice) -> None:
        self._secret = self._secret or await asyncio.to_thread(self._make_secret)
        record = await self._trainings.noticed(notice)
        if record is None or notice.number in self._settled:
            await self._drop(notice)
            return
        parts = _split(notice.callback)
        if parts is None or not _is_allowed(parts, self._options.hosts):
            logger.warning("%s: no callback is sent: its address is not allowed now", notice.uuid)
            await self._drop(notice)
            return
        why = await self._post(notice, record)
        if not why:
            await self._drop(notice)
        elif why == str(GONE) or notice.attempts + 1 >= self._options.attempts:
            logger.warning(
                "%s: gave up the callback to %s for the status %s: %s",
                *(notice.uuid, parts.hostname, record.status, why),
            )
            await self._drop(notice)
        else:
            delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(notice.attempts, 30))
            logger.info("%s: calling %s again in %g s: %s", notice.uuid, parts.hostname, delay, why)
            self._due[notice.number] = time.monotonic() + delay
            await self._trainings.count_attempt(notice)

    async def _drop(self, notice: Notice) -> None:
        """Drop a notice. It is not sent again, even if the store cannot be written now."""
        self._settled.add(notice.number)
        await self._trainings.drop_notice(notice)

    async def _post(self, notice: Notice, record: Record) -> str:
        """Send a notice once. Return the reason of the failure, or "" for success."""
        from aiohttp import ClientError

        from deepaas.api.v2.records import view

        body = orjson.dumps(view(self._app, record, self._app.settings.base_path))
        message_id = f"{notice.uuid}-{notice.number}"
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._secret, message_id, timestamp, body),
        }
        if record.request_id:
            headers[REQUEST_ID] = record.request_id
        try:
            async with self._session.post(
                notice.callback, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return "" if 200 <= answer.status < 300 else str(answer.status)
        except (ClientError, OSError, asyncio.TimeoutError, ValueError) as error:
            return _without_address(error)


def _without_address(error: Exception) -> str:
    """Return why a callback failed, without its address: the query may contain a secret."""
    from aiohttp import ClientConnectorError, ClientResponseError

    if isinstance(error, ClientConnectorError):  # its text has only the host and the port
        return str(error)
    if isinstance(error, ClientResponseError):
        return f"invalid response (status {error.status})"
    return type(error).__name__
