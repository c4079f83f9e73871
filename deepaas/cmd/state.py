"""Directories that outlive the server: for its state, and for the weights of each model."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
from pathlib import Path

from deepaas.config.settings import TrainingSettings
from deepaas.exceptions import StorageError
from deepaas.model.loading import ModelSource
from deepaas.training.weights import WEIGHTS

MAX_NAME = 100
"""Characters of the name of a directory, before the digest."""


def state_dir(settings: TrainingSettings) -> Path:
    """The state directory. Raises StorageError if none is given and this user has no home."""
    given = settings.state_dir
    return Path(given).absolute() if given else _user_state_dir() / "deepaas"


def _user_state_dir() -> Path:
    """The directory for what programs of this user keep, as the XDG specification has it."""
    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):  # the specification says that another is to be ignored
        return Path(given)
    homes = [os.environ.get("HOME", "")]
    with contextlib.suppress(KeyError):
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    home = next(filter(os.path.isabs, homes), None)
    if home is None:
        raise StorageError(
            "this user has no home directory for a state directory to be in; give one with "
            "--state-dir"
        )
    return Path(home, ".local", "state")


def weights_variables(settings: TrainingSettings, source: ModelSource) -> dict[str, str]:
    """The environment variable by which the processes of a model know the directory.

    If there is no such directory, the value is empty: the processes must not inherit the directory
    of another model.
    """
    try:
        given = settings.weights_dir
        base = Path(given).absolute() if given else state_dir(settings) / "weights"
    except StorageError:
        return {WEIGHTS: ""}
    return {WEIGHTS: str(base / directory_name(source))}


def directory_name(source: ModelSource) -> str:
    """A file name for this model: its name and where it comes from.

    For an installed model it does not depend on where the package is installed. Another model of
    the same name gets another directory, such as `model.py` in another folder. The name consists of
    letters, digits and `._@-`, and is bounded. Where that loses something, a digest follows.
    """
    whole = f"{source.name}@{source.origin}"
    shown = f"{source.name}@{os.path.basename(source.origin)}"
    safe = re.sub(r"^[^A-Za-z0-9]|[^A-Za-z0-9._@-]", "_", shown)[:MAX_NAME]
    if safe == whole:
        return safe
    return f"{safe}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]}"
