"""The input and output of a model: a request and its response.

The server and the workers share these classes, so this module imports almost nothing.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple, TypeAlias

from deepaas.enums import TextEnum
from deepaas.file_part import FilePart

NOT_IMPLEMENTED = "Not implemented by underlying model"


class Unknown(NamedTuple):
    """The arguments of a request that were ignored because the model does not declare them.

    `others` is the number of those whose names are not shown.
    """

    names: list[str]
    others: int = 0
    is_json_sent_as_form: bool = False


@dataclass(slots=True)
class Call:
    """A request for a prediction or a training.

    `form` holds the parts of a multipart body in order; parts that are plain text are str. Any
    other body is in `body`, or in the file `body_path` if it is large. `headers` contains only the
    headers that the model's arguments need, with lower-case names. If `validate` is "train" or
    "predict", no function is called: the arguments for the function of that name are only
    validated. `unknown` is set when the arguments are loaded. `context` is what the model may ask
    about the request, in the form of `deepaas.context.packed`. It is not part of the meta data: the
    server sends it apart, because it differs for each call.
    """

    query: str = ""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    form: list[tuple[str, str | FilePart]] | None = None
    body_path: str = ""
    body: bytes = b""
    validate: str = ""
    unknown: Unknown | None = None
    context: str = ""


Measured: TypeAlias = tuple[float, float, float, float, float, int]
"""What a worker has measured of a call: when it took the call, on the clock of `time.monotonic`,
the seconds in which it validated the arguments, waited for the batch, predicted and encoded, and
the size of the batch.

The size is set only in the first reply of a batch; elsewhere it is 0. For a stream, the seconds are
those until its first item. This is a plain tuple, because a class takes longer to make.
"""

NOT_MEASURED: Measured = (0.0, 0.0, 0.0, 0.0, 0.0, 0)


def measured_now(taken: float, validated: float, predicted: float) -> Measured:
    """Return the measured times of a call, not in a batch, that is encoded now.

    `validated` and `predicted` are when these steps ended. A step that ends only now, because it
    fails, has 0.
    """
    now = monotonic()
    validated = validated or now
    predicted = predicted or now
    return taken, validated - taken, 0.0, predicted - validated, now - predicted, 0


@dataclass(slots=True)
class Reply:
    """The response to a call: HTTP status, headers and body.

    `fd` is the descriptor of a file to send as the body; if it is -1, `body` is sent. If `code` is
    set, the reply is an error, and `reason` describes it in one line.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] | None = None  # None: JSON, no other headers
    reason: str = ""
    code: str = ""
    fd: int = -1
    stream: AsyncIterator[bytes] | None = None  # chunks of the body; set only in the server
    unknown: Unknown | None = None  # arguments that the model does not declare
    measured: Measured = field(default=NOT_MEASURED, compare=False)

    @property
    def is_plain(self) -> bool:
        """Whether it is a JSON body with status 200 and nothing else."""
        return (
            self.headers is None
            and self.status == 200
            and not self.code
            and self.fd < 0
            and self.unknown is None
        )

    def discard(self) -> None:
        """Close the descriptor of a reply that will not be sent."""
        if self.fd >= 0:
            os.close(self.fd)


class CallingKind(TextEnum):
    """How a model is called."""

    SEQUENTIAL = "one"  # one at a time
    CONCURRENT = "many"  # concurrently on an event loop: predict is async
    BATCH = "batch"  # several in one call of predict_batch


@dataclass(frozen=True)
class Calling:
    """How a model is called: up to `at_once` calls at a time.

    A batch waits up to `wait` seconds for more calls.
    """

    kind: CallingKind
    at_once: int = 1
    wait: float = 0.0
