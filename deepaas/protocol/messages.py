"""The messages between the server and a worker, and their encoding.

Three sockets connect the two processes:

    requests  server -> worker   SOCK_SEQPACKET   one packet for each `Call`
    replies   worker -> server   SOCK_STREAM      `Reply`; or `Opened`, `Part`s and `Closed` for a
                                                  stream; each after a header of fixed size,
                                                  which has the measured times
    control   both directions    SOCK_STREAM      JSON lines: `Start` to the worker; `Phase`, then
                                                  `Ready` or `Failed` from it; then `Taken` and
                                                  `Cancel` to it

The server also keeps the worker's end of `requests` open, and can read back packets that the worker
has not read. So it knows which calls the worker had started when it died. A packet has at most
`MAX_PACKET` bytes; a larger `Call` is stored in a file that the packet names. A reply with a large
body or a file sends a descriptor of that file instead.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import orjson

from deepaas import exact_json
from deepaas.enums import TextEnum
from deepaas.file_part import FilePart
from deepaas.model.v2.exchange import NOT_MEASURED, Call, Measured, Reply, Unknown

MAX_PACKET = 128 * 1024
MAX_INLINE = 1024 * 1024
"""Maximum bytes of a body in a reply; a larger body is sent as a file."""

MAX_REPLY = 16 * 1024 * 1024  # a worker sends far less: large bodies are in files
MAX_LINE = 16 * 1024 * 1024
"""Maximum bytes of a control line; the longest is the description of a model."""

_CALL = struct.Struct("<IIHH")  # id, length of the meta data, concurrency, length of the context
_CONCURRENCY = struct.Struct("<H")
_CONCURRENCY_AT = 8
_HEAD, _MEASURED = "<IIHI", "dddddI"
_REPLY_HEAD = struct.Struct(_HEAD)  # length of what follows, id, status, length of the meta data
_REPLY_MEASURED = struct.Struct("<" + _MEASURED)  # see `Measured`
_REPLY = struct.Struct(_HEAD + _MEASURED)
_IN_FILE = 0xFFFFFFFF
CALL_HEADER = _CALL.size
_PART, _CLOSED = 1, 2  # instead of a status

ALONE = 0
"""The concurrency of a call that must not share its batch with another call."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The start of a streamed reply, with status 200 and these headers."""

    headers: Mapping[str, str]
    unknown: Unknown | None = None
    measured: Measured = field(default=NOT_MEASURED, compare=False)


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a streamed reply."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of a streamed reply. If `code` is set, it has failed, and `reason` says why."""

    reason: str = ""
    code: str = ""


ReplyMessage = Reply | Opened | Part | Closed


def encode_meta(call: Call) -> bytes:
    """Return all of a call except its body, as one line of JSON."""
    meta: list[object] = [call.query, call.content_type]
    if call.headers or call.form is not None or call.body_path or call.validate:
        meta += [call.headers, call.form, call.body_path]
    if call.validate:
        meta.append(call.validate)
    try:
        return orjson.dumps(meta)
    except TypeError:  # a lone surrogate, such as in a path that is not UTF-8
        return json.dumps(meta, default=asdict).encode()


def decode_meta(data: bytes | memoryview, body: bytes) -> Call:
    """Return the call with this body; `data` is the result of `encode_meta`. Raises ValueError."""
    try:
        meta = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            meta = json.loads(bytes(data))
        except RecursionError as error:
            raise ValueError(f"the meta data of a call are not JSON: {error}") from None
    if len(meta) == 2:
        return Call(meta[0], meta[1], body=body)
    query, content_type, headers, form, body_path, *validate = meta
    if form is not None:
        form = [(n, FilePart(**v) if isinstance(v, dict) else v) for n, v in form]
    return Call(query, content_type, headers, form, body_path, body, *validate)


def encode_call(call_id: int, meta: bytes, body: bytes, context: bytes = b"") -> bytes:
    """Return the packet of a call, with a concurrency of 1; see `with_concurrency`."""
    return b"".join((_CALL.pack(call_id, len(meta), 1, len(context)), context, meta, body))


def call_in_file(call_id: int, path: str) -> bytes:
    """Return a packet that refers to a file with the real packet."""
    return _CALL.pack(call_id, _IN_FILE, 1, 0) + path.encode()


def spill(call_id: int, packet: bytes, folder: str) -> tuple[bytes, str]:
    """Write a packet to a file in `folder`; return a packet that refers to it, and its path.

    If `folder` is empty, the system's directory for temporary files is used. Raises OSError.
    """
    fd, path = tempfile.mkstemp(dir=folder or None)
    try:
        with open(fd, "wb") as file:
            file.write(packet)
    except OSError:  # the disk is full
        os.unlink(path)
        raise
    return call_in_file(call_id, path), path


def with_concurrency(packet: bytes, concurrency: int) -> bytes:
    """Return the packet with the number of calls that are likely to arrive together, or ALONE.

    The number includes this call.
    """
    at = _CONCURRENCY_AT
    return (
        packet[:at] + _CONCURRENCY.pack(min(concurrency, 0xFFFF)) + packet[at + _CONCURRENCY.size :]
    )


def concurrency_of(packet: memoryview) -> int:
    return int(_CONCURRENCY.unpack_from(packet, _CONCURRENCY_AT)[0])


def call_id_of(packet: bytes) -> int:
    return int(_CALL.unpack_from(packet)[0])


def decode_call(packet: memoryview) -> tuple[int, Call]:
    """Return the id of the call and the call. Raises OSError if its file cannot be read."""
    call_id, length, _, context_length = _CALL.unpack_from(packet)
    if length == _IN_FILE:
        with open(bytes(packet[CALL_HEADER:]), "rb") as file:
            return call_id, decode_call(memoryview(file.read()))[1]
    meta = CALL_HEADER + context_length
    body = meta + length
    call = decode_meta(packet[meta:body], bytes(packet[body:]))
    call.context = str(packet[CALL_HEADER:meta], "ascii")
    return call_id, call


def encode_reply(call_id: int, reply: Reply) -> bytes:
    """Return the bytes of a reply. The caller must send its descriptor, if any, with them."""
    if reply.headers is None and not reply.code and reply.fd < 0 and reply.unknown is None:
        meta = b""
    else:
        parts = [reply.headers, reply.reason, reply.code, reply.fd >= 0]
        meta = orjson.dumps(parts if reply.unknown is None else [*parts, list(reply.unknown)])
    length = len(meta) + len(reply.body)
    header = _REPLY.pack(length, call_id, reply.status, len(meta), *reply.measured)
    return b"".join((header, meta, reply.body))


def encode_stream(call_id: int, message: Opened | Part | Closed) -> bytes:
    """Return the bytes of one message of a streamed reply."""
    match message:
        case Part(data):
            return _REPLY.pack(len(data), call_id, _PART, 0, *NOT_MEASURED) + data
        case Closed(reason, code):
            meta = orjson.dumps([reason, code])
            return _REPLY.pack(len(meta), call_id, _CLOSED, len(meta), *NOT_MEASURED) + meta
        case Opened(headers, unknown, measured):
            meta = orjson.dumps([headers] if unknown is None else [headers, list(unknown)])
            return _REPLY.pack(len(meta), call_id, 200, len(meta), *measured) + meta


def _are_headers(headers: object) -> bool:
    if type(headers) is not dict:
        return False
    for value in headers.values():  # noqa: SIM110  # all() takes longer
        if type(value) is not str:
            return False
    return True


def _unknown(parts: list[Any]) -> Unknown | None:
    """Return the ignored arguments from the end of the meta data, or None. Raises ValueError."""
    if not parts:
        return None
    match parts:
        case [[list(names), int(others), bool(is_json)]] if all(type(n) is str for n in names):
            return Unknown(names, others, is_json)
    raise ValueError("a reply has ignored arguments of a wrong type")


class ReplyReader:
    """Splits the stream of replies into messages."""

    def __init__(self) -> None:
        self._buffer = b""
        self._fds: list[int] = []

    def feed(self, data: bytes, fds: list[int]) -> Iterator[tuple[int, ReplyMessage]]:
        """Yield each complete message with the id of its call. The caller must close the
        descriptors.

        Raises ValueError for data that no worker sends. That includes a descriptor that belongs to
        no reply: otherwise the next reply would use it.
        """
        if fds:
            self._fds += fds
        if self._buffer:
            data = self._buffer + data
        position, end, header = 0, len(data), _REPLY.size
        while end - position >= header:
            length, call_id, status, meta_length = _REPLY_HEAD.unpack_from(data, position)
            if length > MAX_REPLY or meta_length > length:
                raise ValueError(
                    f"a reply cannot have {length} bytes and {meta_length} of meta data"
                )
            start = position + header
            if end - start < length:
                break
            position = start + length
            if not meta_length:
                body_bytes = data[start:position]
                if status == _PART:
                    yield call_id, Part(body_bytes)
                elif 200 <= status <= 599:
                    reply = Reply(status, body_bytes)
                    reply.measured = _REPLY_MEASURED.unpack_from(data, start - _REPLY_MEASURED.size)
                    yield call_id, reply
                else:
                    raise ValueError(f"a reply cannot have the status {status}")
                continue
            body = start + meta_length
            meta = data[start:body]
            measured = _REPLY_MEASURED.unpack_from(data, start - _REPLY_MEASURED.size)
            yield call_id, self._with_meta(status, meta, data[body:position], measured)
        self._buffer = data[position:]
        if self._fds and (not self._buffer or len(self._fds) > 1):
            raise ValueError("a descriptor that belongs to no reply")

    def _with_meta(self, status: int, data: bytes, body: bytes, measured: Measured) -> ReplyMessage:
        """Return the message with these meta data. Patterns of `match` would take three times as
        long."""
        meta = orjson.loads(data)
        if type(meta) is list:
            size = len(meta)
            if size in (4, 5):
                headers, reason, code, has_fd, *unknown = meta
                if (
                    200 <= status <= 599
                    and type(reason) is type(code) is str
                    and (headers is None or _are_headers(headers))
                    and (has_fd is False or (has_fd is True and self._fds))
                ):
                    ignored = _unknown(unknown)
                    fd = self._fds.pop(0) if has_fd else -1
                    reply = Reply(status, body, headers, reason, code, fd)
                    reply.unknown = ignored
                    reply.measured = measured
                    return reply
            elif size in (1, 2) and status == 200 and _are_headers(meta[0]):
                return Opened(meta[0], _unknown(meta[1:]), measured)
            elif size == 2 and status == _CLOSED and type(meta[0]) is type(meta[1]) is str:
                return Closed(*meta)
        raise ValueError("a reply has meta data of a wrong type, or its descriptor is missing")

    def take_fds(self) -> list[int]:
        """Return the descriptors that arrived without their reply because the worker died."""
        fds, self._fds = self._fds, []
        return fds


@dataclass(frozen=True)
class CallOptions:
    """Options for calling the model; if one is not set, the attribute of the model applies."""

    max_batch_size: int = 0  # 0: not set
    max_batch_wait_ms: int = -1  # -1: not set
    max_concurrency: int = 0  # 0: not set
    stream_buffer: int = 64 * 1024  # bytes of a stream that the client has not yet received


@dataclass(frozen=True)
class Start:
    """The first message to a worker: which model to serve, and how."""

    name: str
    target: str  # module, module:attribute or path/to/file.py[:attribute]
    folder: str  # searched for a module that is not installed
    index: int
    warm: bool
    log: dict[str, object]
    options: dict[str, int] = field(default_factory=dict)  # the fields of `CallOptions`
    open_files: int = 0  # limit of open files; 0: unchanged
    result_dir: str = ""  # for large results; empty: the system's directory for temporary files
    variables: dict[str, str] = field(default_factory=dict)  # added to its environment

    @property
    def worker(self) -> str:
        """The name of the worker."""
        return f"{self.name}[{'validation' if self.index < 0 else self.index}]"


class WorkerPhase(TextEnum):
    """The phases of a worker. The worker itself reports IMPORTING to READING_METADATA."""

    STARTING = "starting"
    IMPORTING = "importing"
    READING_ARGUMENTS = "reading arguments"
    WARMING = "warming"
    READING_METADATA = "reading metadata"
    READY = "ready"
    STOPPING = "stopping"
    DISCONNECTED = "disconnected"
    DEAD = "dead"


@dataclass(frozen=True)
class Phase:
    """The worker has entered this WorkerPhase."""

    phase: str


@dataclass(frozen=True)
class Ready:
    """The worker accepts calls from now on."""

    description: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The worker exits: `phase` failed because of `cause`, one line.

    `lines`, for the log, contain each cause and its place; `calls` is the traceback.
    """

    phase: str
    cause: str
    lines: list[str]
    calls: str


@dataclass(frozen=True)
class Taken:
    """`size` bytes of the stream that answers call `id` have been sent to the client."""

    id: int
    size: int


@dataclass(frozen=True)
class Cancel:
    """No client waits for the response to call `id` any more: end its stream, or its task."""

    id: int


ControlMessage = Start | Phase | Ready | Failed | Taken | Cancel
_KINDS = {kind.__name__: kind for kind in (Start, Phase, Ready, Failed, Taken, Cancel)}
_JSON_TYPES = {"str": str, "int": int, "bool": bool, "list[str]": list}
_FIELDS = {
    kind: [(one.name, _JSON_TYPES.get(str(one.type), dict)) for one in fields(kind)]
    for kind in _KINDS.values()
}
"""The JSON types of the fields of each kind of message."""


def encode_control(message: ControlMessage) -> bytes:
    return exact_json.dumps([type(message).__name__, vars(message)], repr) + b"\n"


def decode_control(line: bytes) -> ControlMessage:
    """Return the message in a line. Raises ValueError if the line is not a message."""
    value = exact_json.loads(line)
    if type(value) is not list or len(value) != 2 or type(value[0]) is not str:
        raise ValueError("not a control message")
    name, values = value
    if name not in _KINDS or type(values) is not dict:
        raise ValueError("not a control message")
    kind = _KINDS[name]
    try:
        message: ControlMessage = kind(**values)
    except TypeError:
        raise ValueError(f"a {name} message has missing or unknown fields") from None
    for field_name, type_ in _FIELDS[kind]:
        if type(getattr(message, field_name)) is not type_:
            raise ValueError(f"{field_name} of a {name} message has a wrong type")
    return message


def cut_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the complete lines, and the incomplete rest. Raises ValueError if the rest is too
    long."""
    *lines, rest = data.split(b"\n")
    if len(rest) > MAX_LINE:
        raise ValueError(f"a line of more than {MAX_LINE} bytes")
    return lines, rest
