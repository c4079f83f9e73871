"""A client that openapi-python-client has generated calls every function of a server."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Described
from tests.clients.generating import Load, generate, importable, needs_openapi_python_client
from tests.support import wait_until
from tests.training.trainings import END_SECONDS

PACKAGE = "made_by_openapi_python_client"

pytestmark = needs_openapi_python_client


@pytest.fixture(scope="module")
def load(described: Described, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """Generate the client. A response or a body that it leaves out is a warning in the output."""
    folder = tmp_path_factory.mktemp("client")
    output = generate(
        ["openapi-python-client", "generate", "--path", described.file]
        + ["--meta", "none", "--output-path", PACKAGE],
        folder,
    )
    assert output == f"Generating {PACKAGE}\n"
    with importable(folder, PACKAGE) as load:
        yield load


@pytest.fixture(scope="module")
def client(described: Described, load: Load) -> Iterator[Any]:
    signed_in = load("client").AuthenticatedClient(
        base_url=described.server.url, token=described.token, verify_ssl=False
    )
    with signed_in as client:
        yield client


class Operations:
    """The operations of the client by their ids."""

    def __init__(self, load: Load, client: Any) -> None:
        self._load = load
        self._client = client
        self.models = load("models")

    def __call__(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        module = self._load(f"api.{operation.rpartition('_')[2]}.{operation}")
        return module.sync_detailed(*args, client=self._client, **kwargs)

    def file(self, name: str, text: str) -> Any:
        return self._load("types").File(payload=BytesIO(text.encode()), file_name=name)


@pytest.fixture(scope="module")
def ask(load: Load, client: Any) -> Operations:
    return Operations(load, client)


def test_predict_with_nested_json(ask: Operations) -> None:
    models = ask.models
    corners = [models.Point(x=1.0, y=2.0), models.Point(x=3.0)]
    body = models.PredictRegionsJsonBody(
        region=models.Region(name="a", corners=corners), scale=2.0, tags=["t"]
    )
    body.notes = models.PredictRegionsJsonBodyNotes.from_dict({"any": [1]})
    answer = ask("predict_regions", body=body)
    assert answer.status_code == 200
    assert answer.parsed.predictions.to_dict() == {
        "name": "a",
        "corners": [[2.0, 4.0], [6.0, 0.0]],
        "tags": ["t"],
        "notes": {"any": [1]},
    }


def test_predict_with_nested_parts_of_a_form(ask: Operations) -> None:
    models = ask.models
    region = models.Region(name="a", corners=[models.Point(x=1.0)])
    answer = ask("predict_regions", body=models.PredictRegionsFilesBody(region=region, tags=["t"]))
    assert answer.parsed.predictions["corners"] == [[1.0, 0.0]]
    assert answer.parsed.predictions["tags"] == ["t"]


def test_predict_with_files(ask: Operations) -> None:
    image = ask.file("größe.txt", "first")
    others = [ask.file("b.txt", "second"), ask.file("c.txt", "third")]
    body = ask.models.PredictPicturesBody(image=image, others=others, comment="c")
    answer = ask("predict_pictures", body=body)
    assert answer.parsed.predictions == {
        "files": [["größe.txt", "first"], ["b.txt", "second"], ["c.txt", "third"]],
        "comment": "c",
    }
    alone = ask.models.PredictPicturesBody(image=ask.file("a.txt", "first"))
    assert ask("predict_pictures", body=alone).parsed.predictions["files"] == [["a.txt", "first"]]


def test_choose_the_media_type(ask: Operations, client: Any, load: Load) -> None:
    body = ask.models.PredictPicturesBody(image=ask.file("a.txt", "first"))
    kwargs = load("api.pictures.predict_pictures")._get_kwargs(body=body)
    kwargs["headers"]["Accept"] = "text/csv"
    answer = client.get_httpx_client().request(**kwargs)
    assert (answer.status_code, answer.text) == (200, "a.txt,first\n")


def test_predict_asynchronously(ask: Operations, described: Described, load: Load) -> None:
    body = ask.models.PredictPicturesBody(image=ask.file("a.txt", "first"))
    with load("client").AuthenticatedClient(
        base_url=described.server.url,
        token=described.token,
        verify_ssl=False,
        headers={"Prefer": "respond-async"},
    ) as later:
        begun = load("api.pictures.predict_pictures").sync_detailed(client=later, body=body)
    assert begun.status_code == 202
    uuid = begun.parsed.uuid

    def status() -> Any:
        return ask("show_prediction_pictures", uuid).parsed.status

    wait_until(lambda: status() == "done", within=END_SECONDS, what="the end of the prediction")
    result = ask("get_prediction_result_pictures", uuid).parsed
    assert result.predictions["files"] == [["a.txt", "first"]]


def test_errors_have_types(ask: Operations, described: Described, load: Load) -> None:
    models = ask.models
    body = models.PredictRegionsJsonBody(region=models.Region(name="a"), scale=-1.0)
    answer = ask("predict_regions", body=body)
    assert answer.status_code == 422
    assert answer.parsed["scale"] == ["Must be greater than or equal to 0."]
    assert ask("show_training_pictures", "0" * 32).status_code == 404
    with load("client").AuthenticatedClient(
        base_url=described.server.url, token="wrong", verify_ssl=False
    ) as stranger:
        refused = load("api.pictures.show_pictures").sync_detailed(client=stranger)
    assert (refused.status_code, refused.parsed.code) == (401, "bad_token")


def test_train_until_the_artefact(ask: Operations) -> None:
    models = ask.models
    begun = ask("train_pictures", body=models.TrainPicturesJsonBody(epochs=3)).parsed

    def status() -> Any:
        return ask("show_training_pictures", begun.uuid).parsed.status

    wait_until(lambda: status() == "done", within=END_SECONDS, what="the end of the training")
    record = ask("show_training_pictures", begun.uuid).parsed
    assert record.result.output == {"epochs": 3}
    assert record.args.to_dict() == {"epochs": 3, "gate": ""}
    assert [one["loss"] for one in record.metrics] == [1.0, 0.5, 1 / 3]
    logs = ask("get_training_logs_pictures", begun.uuid).parsed
    assert "epoch 3 of 3\n" in logs
    (artifact,) = ask("list_training_artifacts_pictures", begun.uuid).parsed.artifacts
    assert artifact.path == "weights/final.txt"
    file = ask("get_training_artifact_pictures", begun.uuid, artifact.path)
    assert file.parsed.payload.read() == b"after 3 epochs"
    listed = ask("list_trainings_pictures", status=[status()], limit=10).parsed
    assert begun.uuid in [one.uuid for one in listed]


def test_cancel_a_training(ask: Operations, tmp_path: Path) -> None:
    body = ask.models.TrainPicturesJsonBody(gate=str(tmp_path / "never"))
    begun = ask("train_pictures", body=body).parsed
    assert ask("cancel_training_pictures", begun.uuid).parsed.status == "cancelled"


def test_show_the_models(ask: Operations, client: Any, load: Load) -> None:
    listed = load("api.models.list_models").sync(client=client)
    assert {one.name for one in listed.models} == {"regions", "pictures"}
    assert ask("check_ready_regions").parsed.ready is True
