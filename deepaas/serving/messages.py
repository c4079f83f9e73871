"""Every message between the server and a worker, and its form on the wire.

Three sockets join them:

    requests  server -> worker   SOCK_SEQPACKET   `Call`, one packet each
    replies   worker -> server   SOCK_STREAM      `Reply`, each after a fixed header
    control   both ways          SOCK_STREAM      JSON lines: `Start` to the worker; `Phase`, then
                                                  `Ready` or `Failed` from it

A packet that the worker has not read yet can be read back by the server, which keeps the worker's
end of `requests` open too: so it always knows which calls had begun when a worker died.
A packet is at most `MAX_PACKET` bytes; a larger `Call` lies in a file that the packet names.
A reply whose body is large or a file carries a descriptor of that file instead.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from deepaas.model.v2.exchange import Call, FilePart, Reply

MAX_PACKET = 128 * 1024
MAX_REPLY = 16 * 1024 * 1024  # far above what a worker ever sends: large bodies are in files

_CALL = struct.Struct("<II")  # id, length of the meta data
_REPLY = struct.Struct("<IIHI")  # length of what follows, id, status, length of the meta data
_IN_FILE = 0xFFFFFFFF
CALL_HEADER = _CALL.size


def encode_call(call_id: int, call: Call) -> bytes:
    meta: list[object] = [call.query, call.content_type]
    if call.headers or call.form is not None or call.body_path:
        meta += [call.headers, call.form, call.body_path]
    head = orjson.dumps(meta)
    return b"".join((_CALL.pack(call_id, len(head)), head, call.body))


def call_in_file(call_id: int, path: str) -> bytes:
    """The packet that names the file with the real one."""
    return _CALL.pack(call_id, _IN_FILE) + path.encode()


def call_id_of(packet: bytes) -> int:
    return int(_CALL.unpack_from(packet)[0])


def decode_call(packet: memoryview) -> tuple[int, Call]:
    call_id, length = _CALL.unpack_from(packet)
    if length == _IN_FILE:
        with open(bytes(packet[CALL_HEADER:]), "rb") as file:
            return call_id, decode_call(memoryview(file.read()))[1]
    start = CALL_HEADER + length
    meta = orjson.loads(packet[CALL_HEADER:start])
    body = bytes(packet[start:])
    if len(meta) == 2:
        return call_id, Call(meta[0], meta[1], body=body)
    query, content_type, headers, form, body_path = meta
    if form is not None:
        form = [(n, FilePart(**v) if isinstance(v, dict) else v) for n, v in form]
    return call_id, Call(query, content_type, headers, form, body_path, body)


def encode_reply(call_id: int, reply: Reply) -> bytes:
    """The bytes of a reply; its descriptor, if it has one, must go along with them."""
    if reply.headers is None and not reply.code and reply.fd < 0:
        meta = b""
    else:
        meta = orjson.dumps([reply.headers, reply.reason, reply.code, reply.fd >= 0])
    length = len(meta) + len(reply.body)
    return b"".join((_REPLY.pack(length, call_id, reply.status, len(meta)), meta, reply.body))


class ReplyReader:
    """Cuts the stream of replies into replies."""

    def __init__(self) -> None:
        self._buffer = b""
        self._fds: list[int] = []

    def feed(self, data: bytes, fds: list[int]) -> Iterator[tuple[int, Reply]]:
        """Yield each whole reply with the id of its call. Descriptors are the caller's to close."""
        if fds:
            self._fds += fds
        if self._buffer:
            data = self._buffer + data
        position, end, header = 0, len(data), _REPLY.size
        while end - position >= header:
            length, call_id, status, meta_length = _REPLY.unpack_from(data, position)
            if length > MAX_REPLY:
                raise ValueError(f"a reply of {length} bytes is none")
            start = position + header
            if end - start < length:
                break
            position = start + length
            if not meta_length:
                yield call_id, Reply(status, data[start:position])
                continue
            body = start + meta_length
            headers, reason, code, has_fd = orjson.loads(data[start:body])
            fd = self._fds.pop(0) if has_fd else -1
            yield call_id, Reply(status, data[body:position], headers, reason, code, fd)
        self._buffer = data[position:]

    def take_fds(self) -> list[int]:
        """Descriptors that came without their reply, when the worker has died in between."""
        fds, self._fds = self._fds, []
        return fds


@dataclass(frozen=True)
class Start:
    """The first word to a worker: what it is to serve, and how."""

    name: str
    target: str  # module, module:attribute or path/to/file.py[:attribute]
    folder: str  # where a module that is not installed is looked for
    index: int
    warm: bool
    log: dict[str, object]


@dataclass(frozen=True)
class Phase:
    """The worker has come to `phase`: importing, describing, warming."""

    phase: str


@dataclass(frozen=True)
class Ready:
    """The worker takes calls from now on."""

    description: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The worker ends: `phase` went wrong because of `cause`, one line."""

    phase: str
    cause: str


ControlMessage = Start | Phase | Ready | Failed
_KINDS = {kind.__name__: kind for kind in (Start, Phase, Ready, Failed)}


def encode_control(message: ControlMessage) -> bytes:
    return orjson.dumps([type(message).__name__, vars(message)], default=repr) + b"\n"


def decode_control(line: bytes) -> ControlMessage:
    kind, values = orjson.loads(line)
    message: ControlMessage = _KINDS[kind](**values)
    return message
