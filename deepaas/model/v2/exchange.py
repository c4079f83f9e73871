"""What goes into a model and comes out of it: a request as it came, and its answer.

The server and the workers share these; nothing else is imported here.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from deepaas.enums import TextEnum

NOT_IMPLEMENTED = "Not implemented by underlying model"

UNNAMED = "unnamed"
"""The `original_filename` of a file if the client gave no name, or a name that cannot be used."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a form that the server has put into a file, with the client's name and type for it.

    `filename` is empty if the client gave no name, or an empty one; then it depends on the argument
    whether the part is a file. `content_type` is empty if the client gave no type. A part that is
    no file is held in memory; `max_in_memory` bounds the bytes of all such parts of a form, and 0
    is no limit.
    """

    path: str
    content_type: str
    filename: str
    max_in_memory: int = 0


class Unknown(NamedTuple):
    """The arguments of a request that were ignored, because the model does not have them.

    `others` counts those whose names are not shown.
    """

    names: list[str]
    others: int = 0
    is_json_sent_as_form: bool = False


@dataclass(slots=True)
class Call:
    """One request for a prediction or a training, as it came.

    `form` holds the parts of a multipart body in their order, those that are plain text as text;
    any other body is in `body`, or in the file `body_path` if it is large. `headers` has only those
    that the model's arguments need, with names in lower case. With `check`, "train" or "predict",
    nothing is called: all that is asked is whether these are arguments of the function of that
    name. `unknown` is set when the arguments are loaded.
    """

    query: str = ""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    form: list[tuple[str, str | FilePart]] | None = None
    body_path: str = ""
    body: bytes = b""
    check: str = ""
    unknown: Unknown | None = None


@dataclass(slots=True)
class Reply:
    """The answer to a call: HTTP status, headers and body.

    `fd` is a descriptor of a file to send as the body; -1 means that `body` is it.
    With a `code` it is an error, and `reason` says in one line what went wrong.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] | None = None  # None: JSON, and nothing else to say
    reason: str = ""
    code: str = ""
    fd: int = -1
    stream: AsyncIterator[bytes] | None = None  # what the body comes in, after the worker
    unknown: Unknown | None = None  # what the call had besides the model's arguments

    @property
    def is_plain(self) -> bool:
        """Whether it is a body of JSON, 200, and nothing else."""
        return (
            self.headers is None
            and self.status == 200
            and not self.code
            and self.fd < 0
            and self.unknown is None
        )

    def discard(self) -> None:
        """Let go of a reply that nobody wants."""
        if self.fd >= 0:
            os.close(self.fd)


class CallingKind(TextEnum):
    """How calls go into a model."""

    SEQUENTIAL = "one"  # one at a time
    CONCURRENT = "many"  # many at a time, on an event loop: the model is async
    BATCH = "batch"  # many at a time, in one call of predict_batch


@dataclass(frozen=True)
class Calling:
    """How calls go into a model: up to `at_once` at a time; a batch waits up to `wait` seconds for
    more of them."""

    kind: CallingKind
    at_once: int = 1
    wait: float = 0.0
