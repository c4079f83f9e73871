"""The training of the digits example: its results, its weights, and its failures."""

import csv
import functools
import inspect
import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from examples.digits.deepaas_digits import api, training, weights
from examples.digits.deepaas_digits.classifier import built_in, digits, grids
from tests.support import wait_until

DEFAULTS: dict[str, Any] = {"epochs": 30, "learning_rate": 0.001, "seed": 0}
SHORT = DEFAULTS | {"epochs": 2}


made_once = functools.cache(built_in)
"""The built-in classifier: it is always the same, and takes much processor time to make."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty directory for weights, and an API without a loaded network."""
    monkeypatch.setenv("DEEPAAS_MODEL_WEIGHTS", str(tmp_path / "home"))
    monkeypatch.delenv("DEEPAAS_TRAINING_DIR", raising=False)
    monkeypatch.setattr(api, "_classifier", None)
    monkeypatch.setattr(api, "built_in", made_once)
    artefacts = tmp_path / "artefacts"
    artefacts.mkdir()
    monkeypatch.chdir(artefacts)
    return tmp_path / "home"


def network(value: float, units: int = 4) -> weights.Network:
    """Return a network whose numbers are all the same."""
    shapes = [(64, units), (units,), (units, 10), (10,)]
    first, second, third, fourth = (np.full(shape, value) for shape in shapes)
    return weights.Network(first, second, third, fourth, "2026-01-01T00:00:00+00:00", 7, 0.5)


def test_the_defaults_are_those_of_this_test() -> None:
    parameters = inspect.signature(api.train).parameters
    assert {name: one.default for name, one in parameters.items()} == DEFAULTS


# --- results of a training -------------------------------------------------------------------


def test_a_training_of_the_usual_length_is_worth_it(home: Path) -> None:
    figures = api.train(**DEFAULTS)
    assert figures["epochs"] == 30
    assert figures["accuracy"] > 0.95
    assert 0 < figures["loss"] < 0.3
    assert figures["seconds"] > 0
    learned = weights.load()
    assert learned is not None
    images, labels = digits(held_out=True)
    right = learned.predict_proba(grids(images)).argmax(axis=1) == labels
    assert round(float(right.mean()), 4) == figures["accuracy"]


def test_the_curve_and_the_weights_are_artefacts(home: Path) -> None:
    figures = api.train(**SHORT)
    rows = list(csv.DictReader(io.StringIO(Path("learning-curve.csv").read_text())))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["loss"]) == figures["loss"]
    assert float(rows[-1]["accuracy"]) == figures["accuracy"]
    assert Path("weights.npz").read_bytes() == (home / "weights.npz").read_bytes()


def test_the_seed_decides_the_weights(home: Path) -> None:
    first, again, other = (
        api.train(**SHORT | {"seed": seed}) and weights.load() for seed in (1, 1, 2)
    )
    assert first
    assert again
    assert other
    assert all(np.array_equal(*pair) for pair in zip(first[:4], again[:4], strict=True))
    assert not np.array_equal(first.weights, other.weights)


def test_the_network_predicts_as_scikit_learn_does() -> None:
    images, labels = digits()
    inputs = weights.scaled(grids(images))
    classifier = MLPClassifier(20, random_state=0)
    classifier.partial_fit(inputs, labels, classes=np.arange(10))
    learned = training.network_of(classifier, 1, 0.5)
    wanted = classifier.predict_proba(inputs)
    assert np.allclose(learned.predict_proba(list(grids(images))), wanted, atol=1e-12)


def test_held_out_digits_are_no_part_of_the_training() -> None:
    seen, unseen = digits()[0], digits(held_out=True)[0]
    assert (len(seen), len(unseen)) == (1437, 360)
    assert np.array_equal(unseen[1], load_digits().images[5] / 16)
    assert not {image.tobytes() for image in seen} & {image.tobytes() for image in unseen}


def test_variants_of_a_digit_differ_and_stay_in_range() -> None:
    chance = np.random.RandomState(0)
    image = digits()[0][0]
    variants = [training.distorted(image, chance) for _ in range(50)]
    assert all(one.shape == (16, 16) and one.min() >= 0 and one.max() <= 1 for one in variants)
    assert len({one.tobytes() for one in variants}) == 50


# --- choosing the weights --------------------------------------------------------------------


def test_without_a_training_it_is_the_built_in_classifier(home: Path) -> None:
    api.warm()
    assert api.get_metadata()["weights"] == "built-in"
    images, labels = digits(held_out=True)
    assert np.mean(api._classifier.predict(grids(images)) == labels) == pytest.approx(
        0.986, abs=1e-3
    )


def test_the_metadata_tell_of_the_training(home: Path) -> None:
    figures = api.train(**SHORT)
    before_warm = api.get_metadata()["weights"]
    api.warm()
    assert api.get_metadata()["weights"] == before_warm
    assert set(before_warm) == {"date", "epochs", "accuracy"}
    assert before_warm["epochs"] == 2
    assert before_warm["accuracy"] == figures["accuracy"]


def test_without_a_directory_for_weights_it_is_the_built_in_classifier(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("DEEPAAS_MODEL_WEIGHTS")
    with caplog.at_level(logging.WARNING):
        api.warm()
    assert "DEEPAAS_MODEL_WEIGHTS is not set" in caplog.text
    assert api.get_metadata()["weights"] == "built-in"


def test_without_a_directory_for_weights_no_training_begins(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEEPAAS_MODEL_WEIGHTS")
    with pytest.raises(RuntimeError, match="no directory for trained weights"):
        api.train(**DEFAULTS)
    assert list(Path.cwd().iterdir()) == []


def npz(**changes: Any) -> bytes:
    """Return a weights file with some arrays changed, or left out if they are None."""
    arrays = {"format": weights.FORMAT, **network(0.1)._asdict(), **changes}
    file = io.BytesIO()
    np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
    return file.getvalue()


class Trap:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path("trapped").touch, ()


def one_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((64, 10)))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"weights", id="text"),
        pytest.param(pickle.dumps(Trap()), id="a pickle"),
        pytest.param(npz(weights=np.array([Trap()])), id="a pickle in an array"),
        pytest.param(one_array(), id="one array"),
        pytest.param(npz()[:500], id="cut off"),
        pytest.param(npz().replace(np.float64(0.1).tobytes(), bytes(8)), id="damaged"),
        pytest.param(npz(format=2), id="another format"),
        pytest.param(npz(format=None), id="no format"),
        pytest.param(npz(biases=None), id="an array is missing"),
        pytest.param(npz(hidden_weights=np.zeros((100, 4))), id="another shape"),
        pytest.param(npz(biases=np.zeros(())), id="no shape"),
        pytest.param(npz(biases=np.full(10, np.nan)), id="not a number"),
        pytest.param(npz(biases=np.array(["a"] * 10)), id="words"),
        pytest.param(npz(epochs=np.zeros(3)), id="no number of epochs"),
    ],
)
def test_weights_that_are_of_no_use_are_passed_over(
    home: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    home.mkdir()
    (home / "weights.npz").write_bytes(data)
    with caplog.at_level(logging.WARNING):
        api.warm()
    assert "built-in" in caplog.text
    assert api.get_metadata()["weights"] == "built-in"
    assert not Path("trapped").exists()


def test_a_folder_in_the_place_of_the_weights_is_passed_over(home: Path) -> None:
    (home / "weights.npz").mkdir(parents=True)
    assert weights.load() is None


# --- no weights are lost ---------------------------------------------------------------------


def test_a_training_that_fails_leaves_the_old_weights(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.prepare()
    weights.install(weights.to_bytes(network(1)))
    monkeypatch.setattr(training, "distorted", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        api.train(**SHORT)
    assert [file.name for file in home.iterdir()] == ["weights.npz"]
    kept = weights.load()
    assert kept
    assert kept.epochs == 7


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written to"):
        api.train(**DEFAULTS)
    assert list(Path.cwd().iterdir()) == []


def child(code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_is_stopped_leaves_the_old_weights(
    home: Path, number: signal.Signals
) -> None:
    weights.prepare()
    weights.install(weights.to_bytes(network(1)))
    curve = Path("learning-curve.csv")
    with child(
        f"from deepaas_digits.api import train; train(**{DEFAULTS | {'epochs': 1000}})"
    ) as trains:
        try:
            wait_until(
                lambda: curve.exists() and curve.read_text().count("\n") > 2,
                within=60,
                what="epochs",
            )
        finally:
            trains.send_signal(number)
    assert trains.returncode == -number
    assert [file.name for file in home.iterdir()] == ["weights.npz"]
    kept = weights.load()
    assert kept
    assert kept.epochs == 7


INSTALLS = """
import os, resource, signal, sys
import numpy as np
from deepaas_digits import weights

def filled(value):
    shapes = (64, 500), (500,), (500, 10), (10,)
    return weights.to_bytes(
        weights.Network(*(np.full(shape, value) for shape in shapes), "", value, 0.5)
    )

def kill_before_step(number):
    steps = iter(range(number))
    def trace(frame, event, argument):
        if frame.f_code.co_filename != weights.__file__:
            return None
        if event == "line" and next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

def kill_in_write_beyond(size):
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

def installs(prepare, number):
    "Install new weights in a child that is killed; return the signal, and the present weights."
    weights.install(old)
    child = os.fork()
    if not child:
        prepare(number)
        weights.install(new)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    read = weights.read(weights.weights_directory() / weights.FILE)
    assert all((array == read.epochs).all() for array in read[:4])
    return os.WTERMSIG(status), read.epochs

old, new = filled(1), filled(2)
"""


def results(code: str) -> list[tuple[int, int]]:
    """Return the child's output: the signal and the weights for each killed installation."""
    with child(INSTALLS + code) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [(int(number), int(epochs)) for number, epochs in map(str.split, output.splitlines())]


def test_whole_weights_are_there_whichever_step_of_an_installation_is_killed(home: Path) -> None:
    """The child is killed before its first line of code, then before its second, and so on."""
    found = results("""
number = 0
killed = True
while killed:
    killed, epochs = installs(kill_before_step, number)
    print(killed, epochs)
    number += 1
""")
    *killed, finished = found
    assert finished == (0, 2)
    assert {number for number, _ in killed} == {signal.SIGKILL}
    epochs = [value for _, value in killed]
    assert epochs == sorted(epochs)
    assert epochs.count(1) >= 6
    assert epochs.count(2) >= 3


def test_whole_weights_are_there_wherever_the_write_of_an_installation_is_cut_off(
    home: Path,
) -> None:
    found = results("""
for size in (0, 1, 4096, len(new) // 2, len(new) - 1):
    print(*installs(kill_in_write_beyond, size))
""")
    assert found == [(signal.SIGXFSZ, 1)] * 5


def test_what_a_killed_installation_has_left_is_removed_in_time(home: Path) -> None:
    home.mkdir()
    for name, age in (("old.tmp", 7200), ("new.tmp", 10), ("weights.npz", 7200)):
        (home / name).touch()
        os.utime(home / name, (time.time() - age, time.time() - age))
    weights.prepare()
    assert sorted(file.name for file in home.iterdir()) == ["new.tmp", "weights.npz"]
