"""A model that writes garbage to every socket of its process."""

import contextlib
import os
import socket
import stat
from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {"garble": fields.Bool(load_default=False)}


def predict(garble: bool) -> Any:
    if garble:
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.fstat(int(entry)).st_mode):
                    with socket.socket(fileno=os.dup(int(entry))) as sock:
                        sock.send(b"\xff" * 4096, socket.MSG_DONTWAIT)
    return os.getpid()
