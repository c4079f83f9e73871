"""The directory for trained weights: `train` writes them, and `warm` reads them in every worker."""

from __future__ import annotations

import os
from pathlib import Path

from deepaas.training.reports import DIRECTORY

WEIGHTS = "DEEPAAS_MODEL_WEIGHTS"
"""The environment variable with the directory for the weights of the model in this process."""


def weights_directory() -> Path:
    """Return the directory for the trained weights of this model, which is private to the user.

    It is the same in every worker and every training of the model. It survives restarts of the
    server and a reinstallation of the package. `deepaas-run` and `deepaas-cli` choose it
    (`--weights-dir`) and set the variable `DEEPAAS_MODEL_WEIGHTS`; a script can set it itself.

    A missing directory is created. If that fails, a training or an asynchronous prediction raises
    OSError. A worker only reads, so it returns the path of the missing directory.

    Raises RuntimeError if the directory is unknown: in a script without the variable, and if the
    user of the server has no home directory and neither `--weights-dir` nor `--state-dir` is given.
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
