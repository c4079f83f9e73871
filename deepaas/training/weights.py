"""Where trained weights belong, so that `warm` finds in every worker what `train` has written."""

from __future__ import annotations

import os
from pathlib import Path

from deepaas.training.reports import DIRECTORY

WEIGHTS = "DEEPAAS_MODEL_WEIGHTS"
"""The variable that names the directory for the weights of the model in this process."""


def weights_directory() -> Path:
    """The directory for the trained weights of this model, which is private to the user.

    It is the same in every worker and every training of the model. It survives restarts of the
    server and a reinstallation of the package. `deepaas-run` chooses it (`--weights-dir`) and sets
    the variable `DEEPAAS_MODEL_WEIGHTS`; a script can set that variable itself.

    The directory is made if it is missing. If that fails, a training or an asynchronous prediction
    gets an OSError. A worker gets a path at which there is nothing, since it only wants to read.

    Raises RuntimeError if no directory is known: in a script without the variable, and if the user
    of the server has no home directory and has given neither `--weights-dir` nor `--state-dir`.
    """
    path = os.environ.get(WEIGHTS)
    if not path:
        raise RuntimeError(
            f"no directory for trained weights is known, because {WEIGHTS} is not set; start "
            "deepaas-run with --weights-dir or --state-dir if its user has no home directory, and "
            "set the variable to a directory in a script"
        )
    directory = Path(path)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        if os.environ.get(DIRECTORY):
            raise
    return directory
