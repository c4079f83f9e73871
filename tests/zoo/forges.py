"""A model that sends messages on the socket of its worker, as if the worker had sent them."""

import sys
from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {"messages": fields.List(fields.Str(), missing=[])}


def _send(messages: list[str]) -> None:
    """Send messages given in hexadecimal; the call id 0 is replaced by the id of this call."""
    frame: Any = sys._getframe()
    while "call_id" not in frame.f_locals:
        frame = frame.f_back
    number = frame.f_locals["call_id"].to_bytes(4, "little")
    for message in map(bytes.fromhex, messages):
        own = message[4:8] == bytes(4)
        data = message[:4] + number + message[8:] if own else message
        frame.f_locals["self"]._replies._socket.sendall(data)


def predict(messages: list[str]) -> bool:
    _send(messages)
    return True
