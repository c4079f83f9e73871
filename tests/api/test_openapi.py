"""/openapi.json is valid OpenAPI 3.1, and describes how each model is called."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from deepaas.api import ApiSettings, create_app
from deepaas.api.callbacks import _split
from deepaas.api.openapi import OPERATION_IDS, describe, operation_id
from deepaas.api.openapi_headers import add_headers
from deepaas.api.openapi_parts import request_body, schema_of, translated, with_components
from deepaas.api.operations import never
from deepaas.api.v2.predict import predict
from deepaas.http.routing import Access, Route
from tests.conftest import Serve
from tests.serving.inside import House
from tests.support import Server

Json = dict[str, Any]

BASE = "/some/where"
FORM, JSON = "multipart/form-data", "application/json"
MODELS = {
    "files": "zoo.files",
    "rich": "zoo.rich",
    "odd {name}": "zoo.media",
    "labels": "zoo.schema_class",
    "stream": "zoo.streaming:WithSchema",
}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--base-path", BASE)


@pytest.fixture(scope="module")
def document(server: Server) -> Json:
    response = server.get(f"{BASE}/openapi.json")
    assert response.status_code == 200
    found: Json = response.json()
    return found


def predict_of(document: Json, model: str) -> Json:
    found: Json = document["paths"][f"{BASE}/v2/models/{model}/predict/"]["post"]
    return found


def test_document_is_valid(document: Json) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_both_descriptions_have_the_same_operations(server: Server, document: Json) -> None:
    swagger = server.get(f"{BASE}/swagger.json").json()
    operations = [
        {
            (path, method, status)
            for path, operations in described["paths"].items()
            for method, operation in operations.items()
            for status in operation["responses"]
        }
        for described in (document, swagger)
    ]
    assert operations[0] == operations[1]
    assert all(path.startswith(f"{BASE}/") for path in document["paths"])


def test_operations_of_the_models_come_first(document: Json) -> None:
    tags = [one["tags"][0] for path in document["paths"].values() for one in path.values()]
    of_models = [tag in MODELS for tag in tags]
    assert of_models == sorted(of_models, reverse=True)
    assert set(MODELS) == {tag["name"] for tag in document["tags"][: len(MODELS)]}


def test_swagger_has_the_texts_of_the_models(server: Server) -> None:
    tags = {
        one["name"]: one["description"] for one in server.get(f"{BASE}/swagger.json").json()["tags"]
    }
    entries = server.get(f"{BASE}/v2/models/").json()["models"]
    assert len(entries) == len(MODELS)
    for entry in entries:
        assert f"{entry['name']}: {entry.get('description') or entry['name']}" in tags["models"]


def test_operation_ids(document: Json) -> None:
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))
    assert {"predict_rich", "predict_odd_name", "list_models", "describe_in_openapi"} <= set(ids)


async def test_every_route_has_an_id_that_does_not_depend_on_its_path() -> None:
    async with House("zoo.trains") as house:
        app = create_app([house.pool], ApiSettings(admin=True, metrics=True))
        (name,) = app.pools
        ids = {operation_id(route).removesuffix(f"_{name}") for route in app.routes}
        assert ids == {*OPERATION_IDS.values()}
        document = describe(app, app.routes, app.pools)
        assert document["info"]["title"] == name
        assert house.pool.description["interface"]["metadata"] == house.pool.description["metadata"]
        assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
        train = document["paths"][f"/v2/models/{name}/train/"]["post"]
        assert train["operationId"] == f"train_{name}"


def test_file_is_a_part_of_a_form(document: Json) -> None:
    content = predict_of(document, "files")["requestBody"]["content"]
    parts = content["multipart/form-data"]["schema"]["properties"]
    assert parts["data"]["format"] == "binary"
    assert "data" not in content["application/json"]["schema"]["properties"]


def test_form_comes_first_if_it_has_files(document: Json) -> None:
    """Some generators make clients that can send only the first type."""
    assert [*predict_of(document, "files")["requestBody"]["content"]] == [FORM, JSON]
    assert [*predict_of(document, "stream")["requestBody"]["content"]] == [FORM, JSON]
    assert [*predict_of(document, "labels")["requestBody"]["content"]][:2] == [JSON, FORM]


def test_file_of_a_training_has_a_type_with_a_name(document: Json) -> None:
    """Some generators leave out a response that has only */*."""
    path = f"{BASE}/v2/models/files/jobs/{{uuid}}/artifacts/{{path}}"
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    assert [*content] == ["application/octet-stream", "*/*"]


def test_objects_of_unknown_form_take_any_property(document: Json) -> None:
    """Otherwise generators make types without any property."""
    body = predict_of(document, "rich")["requestBody"]["content"]
    schemas = document["components"]["schemas"]
    training = schemas["Training"]["properties"]
    for schema in (
        *(content["schema"]["properties"]["mapping"] for content in body.values()),
        schemas["ModelMeta"],
        training["args"],
        training["metrics"]["items"],
    ):
        assert schema["additionalProperties"] is True


def test_arguments_stand_where_clients_send_them(document: Json) -> None:
    predict = predict_of(document, "rich")
    places = {one["name"]: one["in"] for one in predict["parameters"] if "$ref" not in one}
    assert places == {"header": "header", "in_query": "query"}
    body = predict["requestBody"]
    assert body["required"] is True
    in_json = body["content"]["application/json"]["schema"]
    assert in_json["required"] == ["required"]
    assert in_json["properties"]["bounded"]["maximum"] == 10
    assert in_json["properties"]["nested"]["$ref"] == "#/components/schemas/Inner"
    assert "in_form" not in in_json["properties"]
    assert "in_json" not in body["content"]["multipart/form-data"]["schema"]["properties"]


def test_media_types_are_those_of_the_response(document: Json) -> None:
    predict = predict_of(document, "odd%20%7Bname%7D")
    content = predict["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Prediction"}
    assert content["image/png"]["schema"]["format"] == "binary"
    assert "*/*" not in content


def test_response_has_the_schema_of_the_model(document: Json) -> None:
    content = predict_of(document, "labels")["responses"]["200"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert "label" in document["components"]["schemas"][name]["properties"]


def test_stream_has_the_schema_of_its_items(document: Json) -> None:
    content = predict_of(document, "stream")["responses"]["200"]["content"]
    for media_type in ("application/x-ndjson", "text/event-stream"):
        assert "$ref" in content[media_type]["schema"]["x-item-schema"]


@pytest.mark.parametrize("path", ["openapi.json", "swagger.json"])
def test_description_has_an_etag(server: Server, path: str) -> None:
    first = server.get(f"{BASE}/{path}")
    again = server.get(f"{BASE}/{path}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    other = server.get(f"{BASE}/{path}", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize("path", ["openapi.json", "swagger.json"])
@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("identity", False)],
)
def test_description_is_compressed_if_the_client_accepts_it(
    server: Server, path: str, accepted: str, compressed: bool
) -> None:
    with httpx.stream(
        "GET", f"{server.url}{BASE}/{path}", headers={"Accept-Encoding": accepted}
    ) as response:
        raw = b"".join(response.iter_raw())
    assert (response.headers.get("Content-Encoding") == "gzip") is compressed
    assert "paths" in json.loads(gzip.decompress(raw) if compressed else raw)
    assert "Accept-Encoding" in response.headers["Vary"]


# --- the parts


@pytest.mark.parametrize(
    ("swagger", "expected"),
    [
        ({"type": "string", "x-nullable": True}, {"type": ["string", "null"]}),
        ({"x-nullable": True}, {}),
        ({"type": "file"}, {"type": "string", "format": "binary"}),
        (
            {"type": "array", "items": {"$ref": "#/definitions/A"}},
            {"type": "array", "items": {"$ref": "#/components/schemas/A"}},
        ),
    ],
)
def test_schema_of_swagger(swagger: Json, expected: Json) -> None:
    assert schema_of(swagger) == expected


def test_operation_of_a_plug_in() -> None:
    made = translated(
        {
            "tags": ["greetings"],
            "parameters": [
                {"in": "path", "name": "name", "type": "string", "required": True},
                {"in": "formData", "name": "picture", "type": "file", "required": True},
            ],
            "responses": {"200": {"description": "Text", "schema": {"type": "object"}}},
        }
    )
    assert made == {
        "tags": ["greetings"],
        "parameters": [
            {"in": "path", "name": "name", "required": True, "schema": {"type": "string"}}
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"picture": {"type": "string", "format": "binary"}},
                        "required": ["picture"],
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "Text",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    }


def described(name: str, **more: Any) -> Json:
    locations = ["query", "form", "json"]
    return {
        "name": name,
        "locations": locations,
        "kind": "string",
        "schema": {"type": "string"},
        "required": False,
        "choices": [],
        "notes": [],
        "description": "",
        "file": None,
        **more,
    }


def test_required_file_needs_a_form() -> None:
    file = described("a", required=True, file={"accept": ["image/png", "image/jpeg"]})
    content = request_body([file, described("b")])["content"]
    assert set(content) == {"multipart/form-data"}
    encoding = content["multipart/form-data"]["encoding"]
    assert encoding == {"a": {"contentType": "image/png, image/jpeg"}}


def test_texts_of_validators_and_labels_are_in_the_description() -> None:
    choices = [{"value": "s", "label": "small"}, {"value": "l", "label": "l"}]
    one = described("a", description="Size", notes=["Even"], choices=choices)
    schema = request_body([one])["content"]["application/json"]["schema"]
    assert schema["properties"]["a"]["description"] == "Size\n\nEven\n\ns: small"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["integer", "null"], "default": None}, {"type": "integer"}),
        ({"type": ["string", "null"], "enum": ["a", None]}, {"type": "string", "enum": ["a"]}),
        ({"anyOf": [{"$ref": "#/a"}, {"type": "null"}]}, {"$ref": "#/a"}),
        ({"not": {"type": "null"}}, {}),
        ({"enum": ["a", 1]}, {"enum": ["a"]}),
        ({"type": "array"}, {"type": "array", "minItems": 1}),
        ({"type": "array", "minItems": 2}, {"type": "array", "minItems": 2}),
    ],
)
def test_form_has_what_a_text_can_say(schema: Json, expected: Json) -> None:
    one = described("a", required=True, schema=schema, locations=["form"])
    content = request_body([one])["content"]
    assert content["multipart/form-data"]["schema"]["properties"] == {"a": expected}


def test_argument_that_no_text_can_give_is_only_in_json() -> None:
    content = request_body([described("a", schema={"enum": [1, 2]})])["content"]
    assert set(content) == {"application/json"}


def test_record_is_linked_with_the_request_that_makes_it(document: Json) -> None:
    links = predict_of(document, "files")["responses"]["202"]["links"]
    assert set(links) == {"record", "cancel", "logs", "artifacts", "result"}
    path = f"{BASE}/v2/models/files/jobs/{{uuid}}/result".replace("/", "~1")
    assert links["result"]["operationRef"] == f"#/paths/{path}/get"
    assert path.replace("~1", "/") in document["paths"]


def test_headers_of_requests_are_described(document: Json) -> None:
    references = {one.get("$ref", "") for one in predict_of(document, "files")["parameters"]}
    names = ("Prefer", "X-Request-Timeout", "Callback-URL", "X-Request-ID")
    assert {f"#/components/parameters/{name}" for name in names} <= references
    assert {*names} <= set(document["components"]["parameters"])


def test_argument_in_a_header_replaces_the_header_of_the_server() -> None:
    made: Json = {
        "parameters": [{"in": "header", "name": "x-request-id"}],
        "responses": {"200": {"description": ""}},
    }
    route = Route("POST", "/v2/models/a/predict/", predict, Access.PREDICT, never)
    add_headers(made, route, schema_of, function="predict")
    names = [one.get("name") or one["$ref"].rpartition("/")[2] for one in made["parameters"]]
    assert names == ["x-request-id", "Prefer", "X-Request-Timeout", "Callback-URL"]


@pytest.mark.parametrize(
    ("address", "is_valid"),
    [
        ("", True),
        ("http://example.org", True),
        ("HTTPS://a.b:65535/x?y#z", True),
        ("http://[::1]:80/", True),
        ("http://[fe80::1:2:3]", True),
        ("http://a:65536", False),
        ("http://[2d]", False),
        ("http://a@b", False),
        ("ftp://a", False),
        ("http://a b", False),
    ],
)
def test_description_of_callbacks_agrees_with_the_server(
    document: Json, address: str, is_valid: bool
) -> None:
    schema = document["components"]["parameters"]["Callback-URL"]["schema"]
    assert Draft202012Validator(schema).is_valid(address) is is_valid
    assert (not address or _split(address) is not None) is is_valid


def test_values_of_an_author_are_no_schemas() -> None:
    schema = {"type": "object", "default": None, "examples": [{"default": None}]}
    assert with_components(schema) == {"type": "object", "examples": [{"default": None}]}


def test_references_of_a_discriminator_lead_to_the_components() -> None:
    schema = {"oneOf": [{"$ref": "#/$defs/A"}], "discriminator": {"mapping": {"a": "#/$defs/A"}}}
    made = with_components(schema)
    assert made["discriminator"]["mapping"]["a"] == made["oneOf"][0]["$ref"] != "#/$defs/A"


def test_function_without_arguments_has_no_body() -> None:
    assert request_body([]) == {}
