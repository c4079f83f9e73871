"""Draws the answer of each example, as its README shows it: examples/<name>/answer.png.

`python examples/make_pictures.py` calls the models, which must be installed, and writes the
pictures; `--into DIRECTORY` writes them elsewhere, as <name>.png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

HERE = Path(__file__).resolve().parent
CALL_SECONDS = 300
INK, PALE = "#1f5fa8", "#c9d9ec"


def predict(model: str, **arguments: object) -> Any:
    """Return the answer of a model, which deepaas-cli saves as JSON."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "answer.json"
        program = Path(sys.executable).with_name("deepaas-cli")
        words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        subprocess.run(
            [
                *(str(program), "--model-name", model, f"--deepaas_method_output={file}"),
                *("predict", *words),
            ],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            timeout=CALL_SECONDS,
            check=True,
        )
        return json.loads(file.read_text())


def digits() -> Figure:
    """A picture of a digit, and the probability of each digit."""
    sample = HERE / "digits/samples/3.png"
    answer = predict("digits", image=sample)
    figure = _figure(3)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    left.imshow(np.asarray(Image.open(sample).convert("L")), cmap="gray")
    left.set_axis_off()
    left.set_title("samples/3.png")
    colours = [INK if digit == answer["label"] else PALE for digit in range(10)]
    right.bar(range(10), answer["probabilities"], color=colours)
    right.set(title=f"label: {answer['label']}", ylim=(0, 1), xticks=range(10))
    right.set(xlabel="digit", ylabel="probability")
    _plain(right)
    return figure


def filetype() -> Figure:
    """What the model says about four files, and how sure it is."""
    files = [
        "filetype/pyproject.toml",
        "digits/samples/3.png",
        "speech/samples/greeting.wav",
        "filetype/deepaas_filetype/samples/cities.csv",
    ]
    answers = [predict("filetype", file=HERE / file) for file in files]
    figure = _figure(2.6)
    axes = figure.subplots()
    axes.barh(range(len(files)), [one["score"] for one in answers], color=PALE)
    for row, one in enumerate(answers):
        axes.text(0.02, row, f"{one['description']} ({one['mime_type']})", va="center")
    axes.set(xlim=(0, 1), xlabel="score", yticks=range(len(files)))
    axes.set_yticklabels([Path(file).name for file in files])
    axes.invert_yaxis()
    _plain(axes)
    return figure


def language() -> Figure:
    """The most probable languages of a sentence."""
    text = "Oggi fa bel tempo e andiamo in spiaggia."
    answer = predict("language", text=text, k=5)
    figure = _figure(2.4)
    axes = figure.subplots()
    scores = [one["score"] for one in answer]
    bars = axes.barh([one["language"] for one in answer], scores, color=[INK] + 4 * [PALE])
    axes.bar_label(bars, [f"{score:.4f}" for score in scores], padding=4)
    axes.set(title=text, xlim=(0, 1.1), xlabel="score")
    axes.invert_yaxis()
    _plain(axes)
    return figure


def speech() -> Figure:
    """The waveform of a recording, with the segments of speech in it."""
    sample = HERE / "speech/samples/greeting.wav"
    with wave.open(str(sample)) as recording:
        rate = recording.getframerate()
        sound = np.frombuffer(recording.readframes(recording.getnframes()), "<i2") / 2**15
    figure = _figure(2.4)
    axes = figure.subplots()
    for segment in predict("speech", audio=sample):
        start, end = segment["start"], segment["end"]
        axes.axvspan(start, end, color=PALE)
        axes.text((start + end) / 2, 1.2, f"{start:g} to {end:g} s", ha="center", va="top")
    axes.plot(np.arange(len(sound)) / rate, sound, color=INK, linewidth=0.4)
    axes.set(title="samples/greeting.wav", xlabel="seconds", ylim=(-1, 1.3), yticks=[])
    axes.set_xlim(0, len(sound) / rate)
    _plain(axes)
    return figure


PICTURES = {"digits": digits, "filetype": filetype, "language": language, "speech": speech}


def _figure(height: float) -> Figure:
    return Figure(figsize=(7.2, height), dpi=100, layout="constrained")


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, metavar="DIRECTORY")
    into = parser.parse_args().into
    for name, draw in PICTURES.items():
        target = into / f"{name}.png" if into else HERE / name / "answer.png"
        # Without the version of matplotlib, so that a picture changes only with the answer.
        draw().savefig(target, metadata={"Software": None})


if __name__ == "__main__":
    main()
