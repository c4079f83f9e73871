"""How the processes of a job are started, and how its supervisor is asked to cancel it."""

from __future__ import annotations

import signal
import sys

CANCEL_SIGNAL = signal.SIGUSR1
"""Asks a supervisor to cancel its job when the record cannot be written; else `stop` does."""

# Unlike -m, this keeps the working directory from shadowing what is installed.
_BOOTSTRAP = """\
import gc, sys
gc.disable()  # the imports of this package make no garbage
if not getattr(sys.flags, "safe_path", False): del sys.path[0]
from deepaas.jobs.{process} import main
gc.freeze()  # else the next collection would look at all modules
gc.enable()
main.main(sys.argv[1:])
"""


def command(process: str, *arguments: str) -> list[str]:
    """The command that starts a process: "supervisor" or "child"."""
    return [sys.executable, "-c", _BOOTSTRAP.format(process=process), *arguments]
