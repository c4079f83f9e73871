"""The values of labels: each is from a fixed set, so that no client can create time series."""

from __future__ import annotations

from collections.abc import Iterator

from deepaas.exceptions import RequestError

OTHER = "other"
"""The value of a label for everything that is not in its set."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

FURTHER_CODES = frozenset(
    {
        "",
        "cancelled",
        "client_closed",
        "impossible_header",
        "internal_error",
        "predict_failed",
        "refused_by_model",
        "result_not_encodable",
        "result_violates_schema",
        "train_failed",
    }
)
"""The codes of responses that are not made from a RequestError."""


def method_label(method: str) -> str:
    return method if method in METHODS else OTHER


def status_label(status: int) -> str:
    """Return the number as a text. A model can choose the status of an error."""
    return str(status) if 100 <= status <= 599 else OTHER


def code_label(code: str) -> str:
    return code if code in CODES else OTHER


def _codes_of(kind: type[RequestError]) -> Iterator[str]:
    if isinstance(kind.__dict__.get("code"), str):
        yield kind.code
    for one in kind.__subclasses__():
        yield from _codes_of(one)


CODES = FURTHER_CODES | frozenset(_codes_of(RequestError))
"""All codes of errors that a response of this server can have."""
