"""A server serves models whose arguments come from type hints, and describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator.schemas import openapi_v2_schema_validator

from tests.conftest import Serve
from tests.support import Server, predictions, program, run_program, wait_until

MODELS = {
    "hinted": "zoo.hinted",
    "steps": "zoo.hinted:Steps",
    "batch": "zoo.hinted:Batch",
}
END_SECONDS = 60.0


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS)


def test_defaults_have_their_types(server: Server) -> None:
    found = predictions(server.predict("hinted"))
    assert {name: (one["type"], one["value"]) for name, one in found.items()} == {
        "others": ("list", []),
        "threshold": ("float", 0.5),
        "mode": ("Mode", "fast"),
        "size": ("str", "s"),
    }


def test_values_have_their_types(server: Server) -> None:
    sent = {
        "threshold": 0.9,
        "mode": "exact",
        "day": "2026-11-27",
        "box": {"left": 3},
        "pixels": [[1, 2], [3, 4.5]],
    }
    found = predictions(server.predict("hinted", json=sent))
    assert {name: (found[name]["type"], found[name]["value"]) for name in sent} == {
        "threshold": ("float", 0.9),
        "mode": ("Mode", "exact"),
        "day": ("date", "2026-11-27"),
        "box": ("Box", {"left": 3, "width": 10}),
        "pixels": ("ndarray", [[1.0, 2.0], [3.0, 4.5]]),
    }


def test_files_come_as_the_types_that_the_hints_ask_for(server: Server) -> None:
    files = [
        ("image", ("a.txt", b"one")),
        ("path", ("b.txt", b"two")),
        ("content", ("c.txt", b"three")),
        ("others", ("d.txt", b"four")),
        ("others", ("e.txt", b"five")),
    ]
    found = predictions(server.predict("hinted", files=files, data={"threshold": "0.25"}))
    assert (found["image"]["type"], found["image"]["value"]) == ("UploadedFile", "one")
    assert found["path"]["value"] == "two"
    assert (found["content"]["type"], found["content"]["value"]) == ("bytes", 5)
    assert [one[3] for one in found["others"]["value"]] == ["d.txt", "e.txt"]
    assert found["threshold"]["value"] == 0.25
    assert server.uploads() == []


def test_mistakes_of_clients_stand_beside_the_argument(server: Server) -> None:
    sent = {
        "threshold": 2,
        "mode": "slow",
        "size": "m",
        "box": {"left": "x", "width": 0, "top": 1},
        "pixels": [[1, 2], [3]],
    }
    refused = server.predict("hinted", json=sent)
    assert refused.status_code == 422
    assert refused.json() == {
        "threshold": [
            "Must be greater than or equal to 0 and less than or equal to 1.",
        ],
        "mode": ["Must be one of: fast, exact."],
        "size": ["Must be one of: s, l."],
        "box": {
            "left": ["Not a valid integer."],
            "width": ["Must be greater than or equal to 1."],
            "top": ["Unknown field."],
        },
        "pixels": [
            "The lists at depth 1 have unequal lengths, from 1 to 2; an array needs equal ones."
        ],
    }
    refused = server.predict("hinted", data={"path": "/etc/passwd"}, files={"image": b"1"})
    assert refused.status_code == 422
    assert "Not a file" in refused.json()["path"][0]


def test_batch_takes_the_keys_of_its_typed_dict(server: Server) -> None:
    assert predictions(server.predict("batch", json={"text": "abc", "times": "2"})) == 6
    assert server.predict("batch", json={"times": "x"}).status_code == 422


def test_training_has_the_types_and_its_record_hides_the_path(server: Server) -> None:
    path = "/v2/models/hinted/train/"
    refused = server.post(path, data={"epochs": "0"})
    assert refused.status_code == 422
    begun = server.post(path, files={"rows": ("rows.csv", b"1,2")}, data={"mode": "exact"})
    assert begun.status_code == 200, begun.text
    record = begun.json()
    box = {"left": 1, "width": 10}
    args = record["args"]
    rows = args.pop("rows")
    assert rows.endswith(".csv")
    assert "/" not in rows
    assert args == {"epochs": 2, "mode": "exact", "box": box}

    def ended() -> Any:
        found = server.get(f"{path}{record['uuid']}").json()
        return found if found["status"] in ("done", "error") else None

    wait_until(ended, within=END_SECONDS, what="the training has ended")
    assert ended()["result"]["output"] == ["1,2", 2, "exact", box]


def test_swagger_describes_the_arguments(server: Server) -> None:
    described = server.get("/swagger.json").json()
    post = described["paths"]["/v2/models/hinted/predict/"]["post"]
    train = described["paths"]["/v2/models/hinted/train/"]["post"]["parameters"]
    by_name = {one["name"]: one for one in post["parameters"]}
    image = by_name["image"]
    assert (image["in"], image["type"]) == ("formData", "file")
    assert image["description"] == "The image, as a file"
    assert by_name["threshold"]["default"] == 0.5
    assert (by_name["threshold"]["minimum"], by_name["threshold"]["maximum"]) == (0, 1)
    assert by_name["threshold"]["description"] == "The least score of a letter"
    assert by_name["mode"]["enum"] == ["fast", "exact"]
    assert by_name["mode"]["default"] == "fast"
    assert by_name["day"]["format"] == "date"
    assert by_name["others"]["collectionFormat"] == "multi"
    assert post["responses"]["200"]["schema"] == {"$ref": "#/definitions/Prediction"}
    epochs = next(one for one in train if one["name"] == "epochs")
    assert epochs["description"] == "How often each row is seen"
    # Swagger 2.0 has no form for lists of files, and for objects outside of JSON.
    for parameters in (post["parameters"], train):
        not_in_2_0 = ("others", "box", "pixels")
        parameters[:] = [one for one in parameters if one["name"] not in not_in_2_0]
    assert list(openapi_v2_schema_validator.iter_errors(described)) == []


def test_openapi_describes_the_arguments_and_the_result(server: Server) -> None:
    described = server.get("/openapi.json").json()
    OpenAPIV31SpecValidator(described).validate()
    schemas = described["components"]["schemas"]
    post = described["paths"]["/v2/models/hinted/predict/"]["post"]
    body = post["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert body["threshold"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 0.5,
        "description": "The least score of a letter",
    }
    assert body["pixels"]["type"] == ["array", "null"]
    assert schemas["Box"]["properties"]["width"]["minimum"] == 1
    assert schemas["Box"]["required"] == ["left"]
    answer = post["responses"]["200"]["content"]["application/json"]["schema"]
    reference = "#/components/schemas/Answer"
    assert answer["properties"]["predictions"] == {
        "type": "object",
        "additionalProperties": {"$ref": reference},
    }
    assert set(schemas["Answer"]["properties"]) == {"type", "value", "labels"}
    content = described["paths"]["/v2/models/steps/predict/"]["post"]["responses"]["200"]["content"]
    assert content["application/x-ndjson"]["schema"]["x-item-schema"]["$ref"].startswith(reference)
    batch = described["paths"]["/v2/models/batch/predict/"]["post"]
    answer = batch["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["properties"]["predictions"] == {"type": "integer"}


def test_deepaas_cli_calls_the_model(tmp_path: Path) -> None:
    cli = program().with_name("deepaas-cli")
    (tmp_path / "rows.csv").write_text("1,2")
    words = ["train", "--rows", "rows.csv", "--mode", "exact", "--box", "{'left': 4}"]
    ran = run_program(tmp_path, words, models={"hinted": MODELS["hinted"]}, executable=cli)
    assert ran.code == 0, ran.output
    record = json.loads(ran.stdout.splitlines()[-1].partition(" return: ")[2])
    assert record["args"]["mode"] == "exact"
    assert Path(record["args"]["rows"]).name == record["args"]["rows"]
    assert record["result"]["output"] == ["1,2", 2, "exact", {"left": 4, "width": 10}]
    shown = run_program(
        tmp_path, ["train", "--help"], models={"hinted": MODELS["hinted"]}, executable=cli
    ).stdout
    assert "How often each row is seen" in shown
    assert "Default: fast" in shown
    assert "Choices: ['fast', 'exact']" in shown
    assert "{'left': 1, 'width': 10}" in shown
