"""The description of the interface, `/swagger.json`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Serve, version_under_test
from tests.support import Server

MODELS = {
    "rich": "zoo.rich",
    "bound": "zoo.bound",
    "subclassed": "zoo.subclassed",
    "argless": "zoo.trained",
    "media": "zoo.media",
    "pinned": "zoo.media_header",
    "labels": "zoo.schema_class",
    "many": "zoo.many_files",
    "anywhere": "zoo.file_anywhere",
}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS)


@pytest.fixture(scope="module")
def description(server: Server) -> Any:
    response = server.get("/swagger.json")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    return response.json()


def operation(description: Any, model: str) -> Any:
    return description["paths"][f"/v2/models/{model}/predict/"]["post"]


def parameters(description: Any, model: str) -> dict[str, Any]:
    found = operation(description, model)["parameters"]
    by_name = {one["name"]: one for one in found}
    assert len(by_name) == len(found)
    return by_name


def test_it_is_swagger_2(description: Any) -> None:
    assert description["swagger"] == "2.0"
    assert description["info"]["title"]


def test_its_version_is_that_of_the_package(description: Any) -> None:
    assert description["info"]["version"] == version_under_test()


def test_it_has_no_base_path_and_no_host(description: Any) -> None:
    assert "basePath" not in description
    assert "host" not in description


def test_every_path_is_described_with_its_final_slash(description: Any) -> None:
    paths = set(description["paths"])
    assert {"/", "/v2/", "/v2/debug/", "/v2/models/"} <= paths
    for model in MODELS:
        assert {f"/v2/models/{model}/", f"/v2/models/{model}/predict/"} <= paths
        assert list(description["paths"][f"/v2/models/{model}/predict/"]) == ["post"]
        assert "get" in description["paths"][f"/v2/models/{model}/"]


def test_described_paths_answer(server: Server, description: Any) -> None:
    for path, operations in description["paths"].items():
        if "get" in operations and "{" not in path:
            assert server.get(path).status_code in (200, 204, 302), path


@pytest.fixture(scope="module")
def bare(serve_all: Serve) -> Any:
    """Return the description of a model that has none of the functions."""
    return serve_all({"bare": "zoo.bare", "echo": "zoo.echo"}).get("/swagger.json").json()


@pytest.mark.mended("both are described")
@pytest.mark.parametrize("function", ["predict", "train"])
def test_function_that_is_missing_is_not_described(bare: Any, function: str) -> None:
    assert f"/v2/models/bare/{function}/" not in bare["paths"]
    assert "/v2/models/bare/" in bare["paths"]
    assert "/v2/models/echo/predict/" in bare["paths"]
    assert "/v2/models/echo/train/" not in bare["paths"]


def test_location_is_described_by_what_it_has(description: Any) -> None:
    found = description["definitions"]["Location"]
    assert set(found["properties"]) == {"href", "rel", "type"}
    assert {"href", "rel"} <= set(found["required"])


@pytest.mark.mended("type is required, and most links have none")
def test_type_of_a_location_is_optional(server: Server, description: Any) -> None:
    (link,) = server.get("/v2/models/argless/").json()["links"]
    assert set(link) == set(description["definitions"]["Location"]["required"]) == {"href", "rel"}


@pytest.mark.mended("they are described as text")
def test_predictions_are_described_as_any_json(description: Any) -> None:
    found = description["definitions"]["Prediction"]["properties"]["predictions"]
    assert "type" not in found
    assert found["x-nullable"] is True


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere(description: Any) -> None:
    found = set(references(description))
    assert found
    for reference in found:
        assert reference.startswith("#/definitions/")
        assert reference.removeprefix("#/definitions/") in description["definitions"]


RICH: dict[str, dict[str, Any]] = {
    "text": {"in": "query", "type": "string", "description": "A text."},
    "number": {
        "in": "query",
        "type": "integer",
        "format": "int32",
        "default": 3,
        "description": "A number.",
    },
    "real": {"in": "query", "type": "number", "format": "float", "default": 0.5},
    "switch": {"in": "query", "type": "boolean", "default": True},
    "strings": {
        "in": "query",
        "type": "array",
        "collectionFormat": "multi",
        "items": {"type": "string"},
    },
    "reals": {
        "in": "query",
        "type": "array",
        "collectionFormat": "multi",
        "items": {"type": "number", "format": "float"},
    },
    "integers": {
        "in": "query",
        "type": "array",
        "collectionFormat": "multi",
        "default": [1, 2],
        "items": {"type": "integer", "format": "int32"},
    },
    "pair": {
        "in": "query",
        "type": "array",
        "collectionFormat": "multi",
        "minItems": 2,
        "maxItems": 2,
        "items": {"type": "number", "format": "float"},
    },
    "some": {
        "in": "query",
        "type": "array",
        "collectionFormat": "multi",
        "minItems": 1,
        "maxItems": 3,
        "items": {"type": "string"},
    },
    "link": {"in": "query", "type": "string", "format": "url"},
    "day": {"in": "query", "type": "string", "format": "date"},
    "moment": {"in": "query", "type": "string", "format": "date-time"},
    "key": {"in": "query", "type": "string", "format": "uuid"},
    "exact": {"in": "query", "type": "number"},
    "nested": {"in": "query", "$ref": "#/definitions/Inner"},
    "mapping": {"in": "query", "type": "object"},
    "anything": {"in": "query"},
    "file": {"in": "formData", "type": "file", "description": "A file."},
    "raw_file": {"in": "formData", "type": "file"},
    "bounded": {
        "in": "query",
        "type": "integer",
        "format": "int32",
        "default": 5,
        "minimum": 1,
        "maximum": 10,
    },
    "bounded_list": {
        "in": "query",
        "type": "integer",
        "format": "int32",
        "minimum": 1,
        "maximum": 10,
    },
    "choice": {"in": "query", "type": "string", "default": "a", "enum": ["a", "b"]},
    "choice_tuple": {"in": "query", "type": "string", "enum": ["a", "b"]},
    "choice_enum": {"in": "query", "type": "string", "default": "x", "enum": ["x", "y"]},
    "choice_both": {
        "in": "query",
        "type": "string",
        "default": "x",
        "description": "Both ways.",
        "enum": ["x", "y"],
    },
    "contains": {
        "in": "query",
        "type": "array",
        "collectionFormat": "multi",
        "enum": ["p", "q"],
        "items": {"type": "string"},
    },
    "nothing": {"in": "query", "type": "string", "default": None, "x-nullable": True},
    "nothing_new": {
        "in": "query",
        "type": "integer",
        "format": "int32",
        "default": None,
        "x-nullable": True,
    },
    "called": {"in": "query", "type": "integer", "format": "int32"},
    "required": {"in": "query", "type": "string", "required": True, "description": "Needed."},
    "loud": {"in": "query", "type": "string", "default": "quiet"},
    "on-the-wire": {"in": "query", "type": "string"},
    "write": {"in": "query", "type": "string"},
    "demo-int": {"in": "query", "type": "integer", "format": "int32", "default": 1},
    "bbox(N,W,S,E)": {"in": "query", "type": "string"},
    "header": {"in": "header", "type": "string", "description": "In a header."},
    "body": {
        "in": "body",
        "schema": {
            "type": "object",
            "properties": {
                "in_json": {"type": "object", "description": "In the body."},
                "in_json_too": {"type": "string"},
            },
        },
    },
    "in_query": {"in": "query", "type": "string"},
    "in_form": {"in": "formData", "type": "string"},
    "formatted": {"in": "query", "type": "string", "format": "password"},
    "meta_type": {"in": "query", "type": "integer", "format": "int64"},
}


@pytest.mark.parametrize("name", RICH)
def test_argument_is_described_flat(description: Any, name: str) -> None:
    expected = {"name": name, "required": False, **RICH[name]}
    assert parameters(description, "rich")[name] == expected


def test_nothing_else_is_described_and_the_order_is_the_modules(description: Any) -> None:
    assert list(parameters(description, "rich")) == list(RICH)


def test_nested_schema_is_defined(description: Any) -> None:
    assert description["definitions"]["Inner"] == {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "zip_code": {"type": "integer", "format": "int32"},
        },
        "required": ["city"],
    }


def test_bound_fields_are_described_by_their_wire_names(description: Any) -> None:
    found = parameters(description, "bound")
    assert set(found) == {"number", "texts", "wire-name", "file"}
    assert found["texts"]["required"] is True
    assert found["number"] == {
        "in": "query",
        "name": "number",
        "required": False,
        "type": "integer",
        "format": "int32",
        "default": 3,
        "minimum": 1,
    }


def test_fields_of_the_modules_own_are_described(description: Any) -> None:
    found = parameters(description, "subclassed")
    assert found["letter"] == {
        "in": "query",
        "name": "letter",
        "required": False,
        "default": None,
        "x-nullable": True,
        "description": "A letter.",
    }
    assert found["noted"]["type"] == "string"
    assert found["messages"]["required"] is True
    assert found["constant"]["default"] == 5


def test_list_of_files_is_in_the_form(description: Any) -> None:
    found = parameters(description, "many")["files"]
    assert found["in"] == "formData"
    assert found["required"] is True


@pytest.mark.mended("in: query")
def test_file_without_a_location_is_in_the_form(description: Any) -> None:
    found = parameters(description, "anywhere")["data"]
    assert found == {"in": "formData", "name": "data", "required": True, "type": "file"}


def test_model_without_arguments_has_no_parameters(description: Any) -> None:
    assert operation(description, "argless")["parameters"] == []


def test_without_accept_json_is_produced(description: Any) -> None:
    assert operation(description, "rich")["produces"] == ["application/json"]
    assert operation(description, "argless")["produces"] == ["application/json"]


def test_choices_of_accept_are_produced(description: Any) -> None:
    assert operation(description, "media")["produces"] == [
        "application/json",
        "image/png",
        "image/jpeg",
        "application/pdf",
        "*/*",
    ]
    assert operation(description, "pinned")["produces"] == ["image/png", "text/csv", "*/*"]


def test_first_choice_of_accept_is_its_default(description: Any) -> None:
    found = parameters(description, "media")["accept"]
    assert found["default"] == "application/json"
    assert found["type"] == "string"
    assert found["in"] == "query"
    assert found["description"] == "Media type of the answer."
    assert parameters(description, "pinned")["accept"]["default"] == "image/png"


def test_accept_lists_its_choices(description: Any) -> None:
    found = parameters(description, "media")["accept"]["enum"]
    assert found == ["application/json", "image/png", "image/jpeg", "application/pdf", "*/*"]


def test_accept_pinned_to_the_headers_is_described_there(description: Any) -> None:
    assert parameters(description, "pinned")["accept"]["in"] == "header"


def response_schema(description: Any, model: str) -> Any:
    return operation(description, model)["responses"]["200"]["schema"]


def test_answer_without_a_schema_is_a_prediction(description: Any) -> None:
    assert response_schema(description, "rich") == {"$ref": "#/definitions/Prediction"}
    found = description["definitions"]["Prediction"]
    assert set(found["properties"]) == {"status", "predictions"}
    assert found["required"] == ["predictions", "status"]


def test_answer_with_a_schema_class_has_its_name(description: Any) -> None:
    assert response_schema(description, "labels") == {"$ref": "#/definitions/Labels"}
    assert description["definitions"]["Labels"] == {
        "type": "object",
        "properties": {
            "label": {"type": "string"},
            "score": {"type": "number", "format": "float", "default": 1.0},
        },
        "required": ["label"],
    }


def test_answer_with_a_dict_schema_is_a_model_prediction_response(serve: Serve) -> None:
    description = serve({"model": "zoo.schema_dict"}).get("/swagger.json").json()
    reference = {"$ref": "#/definitions/ModelPredictionResponse"}
    assert response_schema(description, "model") == reference
    assert description["definitions"]["ModelPredictionResponse"] == {
        "type": "object",
        "properties": {
            "labels": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The labels.",
            },
            "score": {"type": "number", "format": "float"},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["score"],
    }


def test_two_dict_schemas_are_kept_apart(serve: Serve) -> None:
    server = serve({"one": "zoo.schema_dict", "two": "zoo.schema_media"})
    description = server.get("/swagger.json").json()
    properties = []
    for model in ("one", "two"):
        name = response_schema(description, model)["$ref"].removeprefix("#/definitions/")
        properties.append(set(description["definitions"][name]["properties"]))
    assert properties == [{"labels", "score", "day"}, {"label"}]


def test_base_path_is_part_of_every_path(serve: Serve) -> None:
    server = serve({"echo": "zoo.echo"}, "--base-path", "/x")
    description = server.get("/x/swagger.json").json()
    assert "basePath" not in description
    for path in description["paths"]:
        assert path.startswith("/x"), path
    expected = {"/x/v2/", "/x/v2/models/", "/x/v2/models/echo/", "/x/v2/models/echo/predict/"}
    assert expected <= set(description["paths"])


@pytest.mark.mended("it does not start")
def test_accept_of_any_make_is_described(serve: Serve) -> None:
    server = serve({"tuple": "zoo.media_tuple", "list": "zoo.media_list"})
    description = server.get("/swagger.json").json()
    for model in ("tuple", "list"):
        found = operation(description, model)
        assert found["produces"] == ["image/png", "application/json", "*/*"]
        assert found["parameters"][0]["default"] == "image/png"
