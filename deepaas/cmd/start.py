"""The entry point of `deepaas-run`: it sets up signals before the slow imports.

The imports take a good part of a second. During them, Python would raise KeyboardInterrupt for a
SIGINT inside an imported module, which may swallow it. And in a container the server is process 1,
for which the kernel drops signals that have no handler.
"""

from __future__ import annotations

import gc
import os
import signal

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""The signals that end the server."""


def main() -> None:
    """Run the server."""
    gc.disable()  # it would take an eighth of the start; ServerProcess.run enables it
    end_by_signals()
    from deepaas.cmd.run import main as run

    run()


def end_by_signals() -> None:
    """Make SIGTERM and SIGINT end this process at once, until the server sets its handlers.

    Until then, SIGHUP, which reloads the models, has no effect.
    """
    for signum in STOPPING:
        signal.signal(signum, _exit if os.getpid() == 1 else signal.SIG_DFL)
    signal.signal(signal.SIGHUP, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOPPING, signal.SIGHUP))


def _exit(signum: int, _: object) -> None:
    os._exit(128 + signum)
