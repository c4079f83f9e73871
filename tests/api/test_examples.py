"""What a model declares about itself: examples, their files, and the version of its weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator.schemas import openapi_v2_schema_validator

from tests.api.described import Described
from tests.conftest import Serve
from tests.declared import send_examples
from tests.support import Part, Server, multipart, predictions
from tests.zoo import exemplary

Json = dict[str, Any]

LETTER = Path(exemplary.__file__).with_name("samples") / "letter.txt"
MODEL = "/v2/models/exemplary"
ONE_FILE = """\
from webargs import fields

class Model:
    weights = ["a.txt"]

    def get_metadata(self):
        return {"weights_version": "mine"}

    def get_predict_args(self):
        return {"x": fields.Raw(required=True, metadata={"type": "file"})}

    def predict(self, x):
        return x.original_filename

    examples = [{"x": "a.txt"}]
"""
SHOWN = {"file": "samples/letter.txt", "media_type": "text/plain", "size": LETTER.stat().st_size}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the model `one_file`, whose example has the file a.txt."""
    folder = tmp_path_factory.mktemp("one_file")
    (folder / "one_file.py").write_text(ONE_FILE)
    (folder / "a.txt").write_text("a")
    return folder


@pytest.fixture(scope="module")
def server(serve_all: Serve, trained: Path, folder: Path) -> Server:
    flags = ["--admin-endpoint", "--weights-dir", str(trained)]
    targets = ["zoo.exemplary", "zoo.echo", f"{folder}/one_file.py:Model"]
    return serve_all({}, *flags, *targets)


@pytest.fixture(scope="module")
def described(server: Server) -> Described:
    return Described(server)


def examples_in(content: Json) -> Json:
    return {name: one["value"] for name, one in content.get("examples", {}).items()}


def test_no_mistake_is_told(server: Server) -> None:
    assert " WARNING " not in server.log()


def test_openapi_shows_each_example_where_a_client_can_send_it(described: Described) -> None:
    predict = described.openapi["paths"][f"{MODEL}/predict/"]["post"]
    content = predict["requestBody"]["content"]
    with_files = {"letter": "samples/letter.txt", "others": ["samples/letter.txt"]}
    in_json = {
        "example_2": {"text": "a", "count": 3, "options": {"deep": [1, None]}},
        "example_3": {"text": "b"},
    }
    assert examples_in(content["multipart/form-data"]) == {"example_1": with_files, **in_json}
    assert examples_in(content["application/json"]) == in_json
    (mode,) = [one for one in predict["parameters"] if one.get("in") == "query"]
    assert examples_in(mode) == {"example_1": "fast"}


def test_openapi_shows_the_examples_of_a_training(described: Described) -> None:
    train = described.openapi["paths"][f"{MODEL}/train/"]["post"]
    for media_type in ("application/json", "application/x-www-form-urlencoded"):
        body = train["requestBody"]["content"][media_type]
        assert examples_in(body) == {"example_1": {"epochs": 1}}


def test_swagger_shows_the_examples_as_an_extension(described: Described) -> None:
    paths = described.document["paths"]
    assert paths[f"{MODEL}/predict/"]["post"]["x-examples"] == [
        {"letter": SHOWN, "others": [SHOWN], "mode": "fast"},
        {"text": "a", "count": 3, "options": {"deep": [1, None]}, "accept": "text/plain"},
        {"text": "b"},
        {"text": "b", "accept": "text/plain"},
    ]
    assert paths[f"{MODEL}/train/"]["post"]["x-examples"] == [{"epochs": 1}]


def test_descriptions_are_valid_and_tell_no_directory(described: Described) -> None:
    assert list(OpenAPIV31SpecValidator(described.openapi).iter_errors()) == []
    swagger = copy.deepcopy(described.document)
    parameters = swagger["paths"][f"{MODEL}/predict/"]["post"]["parameters"]
    not_in_2_0 = ("others", "options")  # lists of files, and objects outside of JSON
    parameters[:] = [one for one in parameters if one["name"] not in not_in_2_0]
    assert list(openapi_v2_schema_validator.iter_errors(swagger)) == []
    for text in (str(described.openapi), str(described.document)):
        assert "samples/letter.txt" in text
        assert str(LETTER.parent) not in text


def test_model_without_examples_has_no_such_parts(described: Described) -> None:
    paths = described.document["paths"]
    assert f"{MODEL}/examples/{{path}}" in paths
    assert "/v2/models/echo/examples/{path}" not in paths
    assert "x-examples" not in paths["/v2/models/echo/predict/"]["post"]
    assert "examples" not in str(described.openapi["paths"]["/v2/models/echo/predict/"])


@pytest.mark.parametrize("slash", ["/", "%2F"])  # generated clients encode it
def test_file_of_an_example_is_sent(described: Described, slash: str) -> None:
    path = f"{MODEL}/examples/{{path}}"
    response = described.ask("get", path, 200, place={"path": f"samples{slash}letter.txt"})
    assert response.content == LETTER.read_bytes()
    assert response.headers["Content-Type"] == "text/plain"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="letter.txt"')


@pytest.mark.parametrize(
    "path",
    ["exemplary.py", "samples", "samples/", "../plain.py", "samples%2f..%2fplain.py", "%2fetc"],
)
def test_no_other_file_is_sent(server: Server, path: str) -> None:
    assert server.get(f"{MODEL}/examples/{path}").status_code == 404


def test_missing_file_is_described(described: Described) -> None:
    described.ask("get", f"{MODEL}/examples/{{path}}", 404, place={"path": "plain.py"})


def test_model_accepts_its_examples(server: Server) -> None:
    letter = Part("letter", LETTER.read_bytes(), "letter.txt")
    others = Part("others", LETTER.read_bytes(), "letter.txt")
    first = server.predict("exemplary", params={"mode": "fast"}, **multipart(letter, others))
    size = SHOWN["size"]
    assert predictions(first) == {
        "letter": size,
        "others": [size],
        "mode": "fast",
        "count": 1,
        "accept": "application/json",
    }
    for example in exemplary.examples[1:]:
        assert server.predict("exemplary", json=example).status_code == 200


def version(server: Server) -> str | None:
    found: str | None = server.get(f"{MODEL}/").json()["weights_version"]
    return found


def test_version_of_the_weights_changes_with_a_reload(server: Server, trained: Path) -> None:
    first = version(server)
    assert first is not None
    assert first.startswith("sha256:")
    directory = trained / "exemplary@zoo.exemplary"
    directory.mkdir(exist_ok=True)
    (directory / "trained.bin").write_bytes(b"new weights")
    assert version(server) == first
    assert server.post(f"{MODEL}/reload").status_code == 200
    assert version(server) not in (None, first)
    assert "weights_version" not in server.get("/v2/models/echo/").json()
    assert server.get("/v2/models/one_file/").json()["weights_version"] == "mine"


def test_file_that_was_removed_is_gone_and_a_reload_tells_it(server: Server, folder: Path) -> None:
    path = "/v2/models/one_file/"
    assert predictions(send_examples(server, "one_file")[0]) == "a.txt"
    (folder / "a.txt").unlink()
    assert server.get(f"{path}examples/a.txt").status_code == 404
    assert server.post(f"{path}reload").status_code == 200
    assert (
        "x-examples" not in server.get("/swagger.json").json()["paths"][f"{path}predict/"]["post"]
    )
    assert "one_file.py:15: examples[0] names the file 'a.txt'" in server.log()
    assert server.predict("one_file", files={"x": ("b.txt", b"b")}).status_code == 200
