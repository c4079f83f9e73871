"""The paths of the state directory and of the weights directory of each model."""

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
"""The most characters of a directory name, without the digest."""


def state_dir(settings: TrainingSettings) -> Path:
    """Return the state directory.

    Raises StorageError if the option is not set and this user has no home directory.
    """
    given = settings.state_dir
    return Path(given).absolute() if given else _user_state_dir() / "deepaas"


def _user_state_dir() -> Path:
    """Return the directory of the XDG specification for the state of this user's programs."""
    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):  # the specification: ignore relative paths
        return Path(given)
    homes = [os.environ.get("HOME", "")]
    with contextlib.suppress(KeyError):
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    home = next(filter(os.path.isabs, homes), None)
    if home is None:
        raise StorageError(
            "this user has no home directory for the state directory; give a directory with "
            "--state-dir"
        )
    return Path(home, ".local", "state")


def weights_variables(settings: TrainingSettings, source: ModelSource) -> dict[str, str]:
    """Return the environment variable that gives the processes of a model its weights directory.

    If there is no weights directory, the value is empty, so that the processes do not inherit the
    directory of another model.
    """
    try:
        given = settings.weights_dir
        base = Path(given).absolute() if given else state_dir(settings) / "weights"
    except StorageError:
        return {WEIGHTS: ""}
    return {WEIGHTS: str(base / directory_name(source))}


def directory_name(source: ModelSource) -> str:
    """Return a directory name for this model, made from its name and its origin.

    For an installed model, it does not depend on where the package is installed. Another model of
    the same name, such as `model.py` in another folder, gets another directory. The name has a
    bounded length and consists of letters, digits and `._@-`. If characters of the name or origin
    are replaced or cut off, a digest of both follows.
    """
    whole = f"{source.name}@{source.origin}"
    shown = f"{source.name}@{os.path.basename(source.origin)}"
    safe = re.sub(r"^[^A-Za-z0-9]|[^A-Za-z0-9._@-]", "_", shown)[:MAX_NAME]
    if safe == whole:
        return safe
    return f"{safe}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]}"
