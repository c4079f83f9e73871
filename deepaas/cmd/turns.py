"""How soon, and for how long, the kernel lets the server run."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

TURN_SECONDS = 0.1e-3

_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}  # sched_setattr, by machine
_RESET_ON_FORK = 1
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, ...


def ask_for_short_turns() -> bool:
    """Ask to be let run soon, for short turns; whether the kernel agrees.

    The server has something to do very often, for microseconds: its answers should not wait for
    others to use up their turns, and who is woken by one should not push it aside. Processes that
    it starts have turns of the usual length. Linux honours it since 6.12; older ones take no
    notice.
    """
    number = _SET_ATTRIBUTES.get(platform.machine())
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if number is None or nice < 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False  # an operator has seen to it, for the workers too
    turn = int(TURN_SECONDS * 1e9)
    attributes = _ATTRIBUTES.pack(
        _ATTRIBUTES.size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, turn, 0, 0
    )
    failed: int = ctypes.CDLL(None).syscall(number, 0, attributes, 0)
    return not failed
