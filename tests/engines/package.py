"""A package with a model that keeps weights, whose steps wait for files in its home directory."""

from pathlib import Path

PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "counting"
version = "1.0"
dependencies = ["deepaas>=2.7"]

[project.entry-points."deepaas.v2.model"]
counting = "counting.api"

[tool.setuptools]
packages = ["counting"]
"""

CODE = """\
import os
import time
from pathlib import Path

from webargs import fields

from deepaas import training

weights = 0


def wait_for(name):
    while not (Path.home() / name).exists():
        time.sleep(0.02)


def warm():
    global weights
    if "WARM_WAITS_FOR" in os.environ:
        wait_for(os.environ["WARM_WAITS_FOR"])
    file = training.weights_directory() / "weights"
    weights = int(file.read_text()) if file.exists() else 0


def get_predict_args():
    return {"waits_for": fields.Str()}


def predict(waits_for=None):
    if waits_for is not None:
        (Path.home() / "begun").touch()
        wait_for(waits_for)
    return {"weights": weights, "uid": os.getuid(), "gid": os.getgid()}


def get_train_args():
    return {"weights": fields.Int(required=True)}


def train(weights):
    (training.weights_directory() / "weights").write_text(str(weights))
    (training.directory() / "curve.csv").write_text("1")
"""


def write_package(folder: Path) -> Path:
    """Write the package `counting` to a folder, and return the folder."""
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "counting").mkdir()
    (folder / "counting" / "__init__.py").touch()
    (folder / "counting" / "api.py").write_text(CODE)
    return folder
