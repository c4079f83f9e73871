"""Tests of the digits example over HTTP, with a real `deepaas-run`."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_digits

from examples.digits.deepaas_digits.picture import read_digit
from examples.digits.deepaas_digits.weights import read
from tests.declared import send_examples
from tests.support import Server, wait_until

SAMPLE = Path(__file__).parents[1] / "samples" / "3.png"
HELD_OUT = range(0, 1797, 45)  # 40 of the digits that are not in the training data


def run(*args: str) -> Server:
    """Start a server without PYTHONPATH, which would hide the installed package."""
    args = ("--model-name", "digits", *args)
    env = {"PYTHONPATH": None}
    return Server(args=args, env=env, ready_seconds=60)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run() as server:
        yield server


def predict(server: Server, image: bytes, **kwargs: Any) -> httpx.Response:
    return server.predict("digits", files={"image": ("digit", image)}, **kwargs)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def test_metadata_is_that_of_the_package(server: Server) -> None:
    metadata = server.get("/v2/models/digits/").json()
    assert metadata["version"] == "1.0.0"
    assert metadata["license"] == "Apache-2.0"
    assert metadata["weights"] == "built-in"


def test_the_sample_is_a_three(server: Server) -> None:
    answer = predict(server, SAMPLE.read_bytes())
    assert answer.status_code == 200
    predictions = answer.json()["predictions"]
    assert predictions["label"] == 3
    assert len(predictions["probabilities"]) == 10
    assert predictions["probabilities"][3] == max(predictions["probabilities"])
    assert sum(predictions["probabilities"]) == pytest.approx(1, abs=1e-3)


def test_it_accepts_its_examples(server: Server) -> None:
    in_json, chart = send_examples(server, "digits")
    assert in_json.json()["predictions"]["label"] == 7
    assert chart.headers["Content-Type"] == "image/png"


def test_held_out_digits_are_recognised(server: Server) -> None:
    digits = load_digits()
    assert set(digits.target[HELD_OUT]) == set(range(10))
    right = 0
    for index in HELD_OUT:
        picture = Image.fromarray((digits.images[index] * 15).astype("uint8")).resize((50, 50))
        answer = predict(server, encoded(picture)).json()
        right += answer["predictions"]["label"] == digits.target[index]
    assert right / len(HELD_OUT) > 0.95


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_every_format_is_read(server: Server, kind: str) -> None:
    answer = predict(server, encoded(Image.open(SAMPLE), kind))
    assert answer.json()["predictions"]["label"] == 3


def cut_out(picture: Image.Image) -> Image.Image:
    """Return black ink on a transparent background: only the alpha channel shows the digit."""
    ink = Image.new("LA", picture.size, 0)
    ink.putalpha(ImageOps.invert(picture))
    return ink


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(ImageOps.invert, id="light on dark"),
        pytest.param(lambda p: ImageOps.colorize(p, "#802020", "#f0e0c0"), id="colour"),
        pytest.param(lambda p: ImageOps.expand(p, (300, 10, 20, 150), 255), id="off centre"),
        pytest.param(lambda p: p.resize((1500, 1500)), id="large"),
        pytest.param(lambda p: p.resize((9, 9)), id="tiny"),
        pytest.param(
            lambda p: p.convert("I").point(lambda v: v * 257).convert("I;16"), id="16 bit"
        ),
        pytest.param(cut_out, id="transparent"),
    ],
)
def test_the_looks_of_a_picture_play_no_part(
    server: Server, change: Callable[[Image.Image], Image.Image]
) -> None:
    answer = predict(server, encoded(change(Image.open(SAMPLE).convert("L"))))
    assert answer.json()["predictions"]["label"] == 3


@pytest.mark.parametrize("how", ["header", "query", "form"])
def test_a_chart_can_be_asked_for(server: Server, how: str) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "header": {"headers": {"Accept": "image/png"}},
        "query": {"params": {"accept": "image/png"}},
        "form": {"data": {"accept": "image/png"}},
    }
    answer = predict(server, SAMPLE.read_bytes(), **wanted[how])
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")
    assert Image.open(BytesIO(answer.content)).size == (480, 320)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param(b"no picture", "not a readable PNG", id="text"),
        pytest.param(SAMPLE.read_bytes()[:100], "not a readable PNG", id="cut off"),
        pytest.param(encoded(Image.new("L", (20, 20), 200)), "all of one colour", id="blank"),
        pytest.param(encoded(Image.new("1", (5001, 5000))), "25 megapixels", id="too large"),
        pytest.param(b"", "not a readable PNG", id="empty"),
    ],
)
def test_a_bad_picture_is_refused_with_the_reason(
    server: Server, image: bytes, message: str
) -> None:
    answer = predict(server, image)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("image ")
    assert message in answer.json()["message"]
    assert predict(server, SAMPLE.read_bytes()).status_code == 200


def test_text_in_place_of_the_picture_is_refused(server: Server) -> None:
    answer = server.predict("digits", data={"image": "3"}, files={"other": b"x"})
    assert answer.status_code == 422
    assert "-F image=@file" in answer.json()["image"][0]


def test_a_missing_picture_is_named(server: Server) -> None:
    answer = server.predict("digits", data={"accept": "application/json"})
    assert answer.status_code == 422
    assert list(answer.json()) == ["image"]


def test_it_predicts_without_being_warmed() -> None:
    with run("--nowarm") as server:
        assert predict(server, SAMPLE.read_bytes()).json()["predictions"]["label"] == 3


def test_a_training_changes_the_predictions_without_a_restart(tmp_path: Path) -> None:
    with run() as server:

        def weights() -> Any:
            return server.get("/v2/models/digits/").json()["weights"]

        def version() -> Any:
            return server.get("/v2/models/digits/").json()["weights_version"]

        assert weights() == "built-in"
        assert version() is None
        before = predict(server, SAMPLE.read_bytes()).json()["predictions"]
        begun = server.post("/v2/models/digits/train/", params={"epochs": 3, "seed": 5}).json()
        assert begun["args"] == {"epochs": 3, "learning_rate": 0.001, "seed": 5}
        training = f"/v2/models/digits/train/{begun['uuid']}"

        def has_ended() -> bool:
            return server.get(training).json()["status"] not in ("queued", "running")

        wait_until(has_ended, within=60, what="the end of the training")
        record = server.get(training).json()
        assert record["status"] == "done"
        figures = record["result"]["output"]
        assert set(figures) == {"epochs", "loss", "accuracy", "seconds"}
        assert [report["epoch"] for report in record["metrics"]] == [1, 2, 3]
        last = record["metrics"][-1]
        assert last["progress"] == 1
        assert round(last["accuracy"], 4) == figures["accuracy"]
        assert round(last["loss"], 6) == figures["loss"]

        artefacts = server.get(f"{training}/artifacts/").json()["artifacts"]
        assert [file["path"] for file in artefacts] == ["learning-curve.csv", "weights.npz"]
        curve = server.get(f"{training}/artifacts/learning-curve.csv").text
        assert curve.count("\n") == 4
        file = tmp_path / "weights.npz"
        file.write_bytes(server.get(f"{training}/artifacts/weights.npz").content)

        wait_until(lambda: weights() != "built-in", within=60, what="the use of the new weights")
        assert weights()["accuracy"] == figures["accuracy"]
        assert version().startswith("sha256:")
        after = predict(server, SAMPLE.read_bytes()).json()["predictions"]
        assert after != before
        wanted = read(file).predict_proba([read_digit(str(SAMPLE)).ravel()])[0]
        assert after["label"] == wanted.argmax()
        assert after["probabilities"] == pytest.approx(list(wanted), abs=1e-4)

        paths = server.get("/swagger.json").json()["paths"]
        (example,) = paths["/v2/models/digits/train/"]["post"]["x-examples"]
        again = server.post("/v2/models/digits/train/", json=example)
        assert again.status_code == 200
        assert again.json()["args"]["epochs"] == example["epochs"] == 2
