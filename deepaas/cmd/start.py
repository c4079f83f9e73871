"""The entry point of `deepaas-run`: it sees to signals before anything else is imported.

Importing takes a good part of a second. Python would turn a SIGINT into an exception in whatever is
being imported, which may lose it; and the kernel drops signals to process 1, which the server is in
a container, if there is no handler for them.
"""

from __future__ import annotations

import os
import signal

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""The signals that end the server."""


def main() -> None:
    """Run the server."""
    end_by_signals()
    from deepaas.cmd.run import main as run

    run()


def end_by_signals() -> None:
    """Let the signals that end the server end this process at once, until it has handlers for them.

    SIGHUP, which reloads the models, has no effect until models are being loaded.
    """
    for signum in STOPPING:
        signal.signal(signum, _exit if os.getpid() == 1 else signal.SIG_DFL)
    signal.signal(signal.SIGHUP, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOPPING, signal.SIGHUP))


def _exit(signum: int, _: object) -> None:
    os._exit(128 + signum)
