"""The API description is complete and correct: it covers every response and every route."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV31SpecValidator
from openapi_spec_validator.schemas import openapi_v2_schema_validator

from deepaas.api import ApiSettings, create_app
from deepaas.api.swagger import describe
from deepaas.http.routing import Route
from tests.api.described import Described
from tests.api.tour import (
    ASYNC,
    EVENTS,
    Ask,
    ask_model,
    ask_predictions,
    ask_server,
    ask_trainings,
    assert_all_succeeded,
    bad,
    begin_job,
    chosen,
    good,
    of_type,
    path_of,
    wait_for_end,
)
from tests.conftest import Serve
from tests.serving.inside import House
from tests.support import HOST, ZOO, Part, multipart
from tests.training.trainings import END_SECONDS, Place

JSON = {"Content-Type": "application/json"}

# --- predictions

NESTED = {"required": "a", "nested": {"zip_code": "x"}, "reals": [0.5, "x"]}
KINDS = ["none", "str", "bool", "int", "big-int", "float", "list", "dict", "nan", "date"]

PREDICTIONS: dict[str, tuple[str, list[Ask]]] = {
    "echo": (
        "zoo.echo",
        [
            good(text="a", number=1),
            bad(422, number="x"),
            Ask(422, {"json": [1]}),
            Ask(400, {"content": b"{", "headers": JSON}),
            Ask(
                400, {"content": b"{}", "headers": {"Content-Type": "application/json; charset=x"}}
            ),
            Ask(400, {"headers": {"X-Request-Timeout": "soon"}}),
            Ask(400, {"headers": {**ASYNC, "X-Request-Timeout": "0"}}),
            Ask(400, {"headers": {**ASYNC, "Callback-URL": "nowhere"}}),
            Ask(400, {"headers": {"Callback-URL": "nowhere"}}),
            Ask(403, {"headers": {"Callback-URL": "http://127.0.0.1:9/"}}),
            Ask(403, {"headers": {**ASYNC, "Callback-URL": "http://127.0.0.1:9/"}}),
        ],
    ),
    "files": (
        "zoo.files",
        [
            Ask(200, multipart(Part("data", b"a", "a.txt"), Part("text", b"t"))),
            Ask(400, multipart(Part("data", b"a", "a.txt")) | {"content": b"no form"}),
        ],
    ),
    "rich": ("zoo.rich", [good(required="a"), bad(422), Ask(422, {"json": NESTED})]),
    "plain": ("zoo.plain", [*(good(kind=kind) for kind in KINDS), bad(500, kind="object")]),
    "returns": (
        "zoo.returns",
        [
            good(kind="str"),
            Ask(200, {"params": {"kind": "none"}, "headers": {"Accept": "image/png"}}),
            Ask(200, {"params": {"kind": "file"}, "headers": {"Accept": "application/zip"}}),
        ],
    ),
    "labels": ("zoo.schema_class", [good(label="a"), bad(500)]),
    "dict": ("zoo.schema_dict", [good(kind="date"), bad(500, kind="wrong")]),
    "list": ("zoo.schema_list", [good()]),
    "mixed": ("zoo.schema_media", [of_type("application/json"), of_type("image/png")]),
    "media": (
        "zoo.media",
        [of_type("application/json"), of_type("image/png"), bad(422, accept="text/csv")],
    ),
    "pinned": ("zoo.media_header", [good(), Ask(200, {"headers": {"Accept": "text/csv"}})]),
    "free": ("zoo.media_free", [good(), of_type("text/plain"), of_type("image/png")]),
    "bare_stream": ("zoo.streaming:Bare", [good(), Ask(200, {"headers": EVENTS})]),
    "stream": (
        "zoo.streaming:WithSchema",
        [
            good(),
            Ask(200, {"headers": EVENTS}),
            good(kind="texts", accept="text/plain"),
            good(end="violation"),
            good(end="raise"),
            bad(500, count=0, end="raise"),
            bad(422, count="x"),
        ],
    ),
    "batched": (
        "zoo.batched:Batched",
        [good(id=1), good(id=1, accept="image/png"), bad(422, id=-1), bad(500, id=1, do="raise")],
    ),
    "async": (
        "zoo.asynchronous:Async",
        [good(id=1), bad(422), bad(500, id=1, do="exit"), chosen(409, id=1, do="http")],
    ),
    "raises": (
        "zoo.raises",
        [
            good(),
            bad(400, kind="aiohttp-reason"),
            bad(400, kind="werkzeug"),
            bad(422, kind="aiohttp-422"),
            bad(500, kind="value"),
            bad(503, kind="aiohttp-503"),
            chosen(404, kind="aiohttp-404"),
            chosen(404, kind="werkzeug-bare"),
        ],
    ),
    "odd_errors": (
        "zoo.odd_errors",
        [
            good(),
            chosen(302, kind="http-redirect"),
            chosen(204, kind="http-no-content"),
            chosen(405, kind="http-405"),
            bad(413, kind="http-413"),
            bad(500, kind="surrogate"),
        ],
    ),
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    directory = tmp_path / "place"
    directory.mkdir()
    return Place(directory)


@pytest.fixture(scope="module")
def predicting(serve_all: Serve) -> Described:
    models = {name: target for name, (target, _) in PREDICTIONS.items()}
    return Described(serve_all(models, "--max-jobs", "2"))


@pytest.mark.parametrize("model", PREDICTIONS)
def test_answers_about_predictions_are_described(predicting: Described, model: str) -> None:
    ask_model(predicting, model)
    ask_predictions(predicting, model, PREDICTIONS[model][1])
    path = path_of(predicting, model)
    # Artifacts need a model that writes a file.
    assert_all_succeeded(predicting, path, ("get", f"{path}jobs/{{uuid}}/artifacts/{{path}}"))


def test_answer_for_an_asynchronous_prediction_that_failed_is_described(
    predicting: Described,
) -> None:
    for kind, status in (("aiohttp-404", 404), ("werkzeug", 400), ("value", 500)):
        uuid = begin_job(predicting, "raises", good(kind=kind))
        path = f"{path_of(predicting, 'raises')}jobs/{{uuid}}"
        wait_for_end(predicting, path, uuid)
        predicting.ask("get", f"{path}/result", status, place={"uuid": uuid}, chosen=True)


# --- models: metadata, readiness and missing functions

BEING = {
    "echo": "zoo.echo",
    "metadata": "zoo.metadata",
    "links": "zoo.metadata_links",
    "dates": "zoo.metadata_dates",
    "metadata_fails": "zoo.metadata_fails",
    "bare": "zoo.bare",
    "train_args_fail": "zoo.train_args_fail",
    "odd {name} 100%": "zoo.echo",
    "odd_types": "zoo.metadata_types",
    "unloadable": "zoo.unloadable",
}


@pytest.fixture(scope="module")
def being(serve_all: Serve) -> Described:
    return Described(serve_all(BEING, "--admin-endpoint"))


@pytest.mark.parametrize("model", BEING)
def test_what_is_said_about_a_model_is_described(being: Described, model: str) -> None:
    ask_model(being, model, ready=503 if model == "unloadable" else 200)


def test_readiness_is_described_when_a_model_is_not_ready(being: Described) -> None:
    ask_server(being, ready=503)


def test_model_name_is_encoded_in_the_paths_and_in_the_links(being: Described) -> None:
    path = path_of(being, "odd {name} 100%")
    assert path == "/v2/models/odd%20%7Bname%7D%20100%25/"
    (link,) = being.ask("get", path, 200).json()["links"]
    assert link["href"] + "/" == path
    being.ask("post", f"{path}predict/", 200, params={"text": "a"})


def test_missing_predict_is_not_described_and_answers_501(being: Described) -> None:
    path = path_of(being, "bare")
    offered = {one for _, one in being.operations() if one.startswith(path)}
    assert offered == {path, f"{path}ready", f"{path}reload"}
    for function in ("predict", "train"):
        response = being.server.post(f"{path}{function}/")
        assert response.status_code == 501
        assert response.headers["Content-Type"].startswith("text/plain")


def test_model_that_is_not_loaded_has_only_its_state_described(being: Described) -> None:
    path = path_of(being, "unloadable")
    offered = {one for _, one in being.operations() if one.startswith(path)}
    assert offered == {path, f"{path}ready", f"{path}reload"}
    being.ask("post", f"{path}reload", 500)


def test_training_whose_arguments_cannot_be_read_is_described(being: Described) -> None:
    path = path_of(being, "train_args_fail")
    assert ("post", f"{path}train/") in being.operations()
    being.ask("post", f"{path}train/", 500)
    being.ask("get", f"{path}train/", 200)


# --- records, with a base path and all options on


@pytest.fixture(scope="module")
def recording(serve_all: Serve) -> Described:
    options = ("--admin-endpoint", "--debug-endpoint", "--base-path", "/below/here")
    server = serve_all({"leaves": "zoo.leaves", "trains": "zoo.trains"}, *options)
    return Described(server, "/below/here")


def test_answers_of_a_server_with_a_base_path_are_described(recording: Described) -> None:
    ask_server(recording, debug=200)
    for path in recording.document["paths"]:
        assert path.startswith("/below/here/")


def test_answers_about_records_are_described(recording: Described) -> None:
    path = path_of(recording, "leaves")
    ask_model(recording, "leaves")
    recording.ask("post", f"{path}reload", 200)
    ask_predictions(recording, "leaves", [good()])  # the model returns null
    form = multipart(Part("data", b"a", "a.csv", "text/csv"))
    callback = {"headers": {"Callback-URL": "http://127.0.0.1:9/"}}
    malformed = Ask(400, {"content": b"{", "headers": JSON})
    asks = [Ask(200, form), bad(422, epochs="x"), malformed, Ask(403, callback)]
    ask_trainings(recording, "leaves", asks)
    assert_all_succeeded(recording, path)


def test_record_of_each_status_is_described(recording: Described, place: Place) -> None:
    path = f"{path_of(recording, 'trains')}train/"

    def begin(**query: Any) -> dict[str, str]:
        begun = recording.ask("post", path, 200, params={"place": str(place), **query})
        return {"uuid": begun.json()["uuid"]}

    ends = [begin(do=do, size=9) for do in ("report", "raise", "kill", "_exit", "object")]
    waiting = begin(do="return")
    recording.ask("get", path, 200)
    recording.ask("delete", f"{path}{{uuid}}", 200, place=waiting)
    place.open_gate()
    for one in ends:
        wait_for_end(recording, f"{path}{{uuid}}", one["uuid"])
    listed = recording.ask("get", path, 200).json()
    assert {one["status"] for one in listed} >= {"done", "error", "cancelled"}


def test_result_that_is_not_there_yet_is_described(recording: Described, place: Place) -> None:
    uuid = begin_job(recording, "trains", good(place=str(place)))
    path = f"{path_of(recording, 'trains')}jobs/{{uuid}}"
    recording.ask("get", f"{path}/result", 409, place={"uuid": uuid})
    recording.ask("delete", path, 200, place={"uuid": uuid})
    wait_for_end(recording, path, uuid)
    recording.ask("get", f"{path}/result", 409, place={"uuid": uuid})


# --- options that disable routes


@pytest.mark.parametrize("which", ["predict", "train"])
def test_endpoint_that_is_switched_off_is_not_described_and_answers_402(
    serve: Serve, which: str
) -> None:
    described = Described(serve({"leaves": "zoo.leaves"}, f"--no{which}-endpoint"))
    segments = {"predict": ["predict", "jobs"], "train": ["train"]}
    path = path_of(described, "leaves")
    paths = set(described.document["paths"])
    for name, gone in segments.items():
        for segment in gone:
            offered = [one for one in paths if one.startswith(f"{path}{segment}/")]
            assert bool(offered) is (name != which)
    for method in ("GET", "POST"):
        assert described.server.request(method, f"{path}{which}/").status_code == 402
    assert f"{path}reload" not in paths
    assert described.server.post(f"{path}reload").status_code == 402


# --- an overloaded, slow or broken server


def test_body_that_is_too_large_too_slow_or_encoded_is_described(serve: Serve) -> None:
    options = ("--client-max-size", "1000", "--receive-timeout", "0.5")
    described = Described(serve({"leaves": "zoo.leaves"}, *options))
    for function in ("predict", "train"):
        path = f"{path_of(described, 'leaves')}{function}/"
        described.ask("post", path, 413, content=b"x" * 2000)
        described.ask("post", path, 415, content=b"x", headers={"Content-Encoding": "br"})
        host = f"{HOST}:{described.server.port}"
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\n\r\n"
        answer = described.server.raw(head.encode() + b"half")
        content_type = answer.header("Content-Type") or ""
        assert answer.status == 408
        described.check("post", path, 408, content_type, answer.body)


def test_refusal_of_what_is_too_much_is_described(serve: Serve, place: Place) -> None:
    options = ["--max-trainings", "1", "--max-queued-trainings", "0", "--train-exclusive"]
    options += ["--max-jobs", "1", "--max-queued-jobs", "0", "--admin-endpoint"]
    described = Described(serve({"trains": "zoo.trains"}, *options))
    path = path_of(described, "trains")
    timeout = {"X-Request-Timeout": "0.05"}
    described.ask("post", f"{path}predict/", 504, params={"seconds": "1"}, headers=timeout)
    params = {"place": str(place)}
    training = described.ask("post", f"{path}train/", 200, params=params).json()["uuid"]
    place.wait_for_attempt()
    for operation in ("train/", "predict/", "reload"):
        described.ask("post", f"{path}{operation}", 503)
    described.ask("get", f"{path}ready", 503)
    place.open_gate()
    wait_for_end(described, f"{path}train/{{uuid}}", training)
    begin_job(described, "trains", good(seconds=60))
    described.ask("post", f"{path}predict/", 503, headers=ASYNC)


def test_server_without_room_for_records_is_described(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = {"XDG_STATE_HOME": str(tmp_path / "file")}
    described = Described(serve({"leaves": "zoo.leaves"}, env=env))
    path = path_of(described, "leaves")
    described.ask("post", f"{path}predict/", 507, headers=ASYNC)
    described.ask("post", f"{path}train/", 507)
    for segment in ("train", "jobs"):
        one = f"{path}{segment}/{{uuid}}"
        place = {"uuid": "0" * 32, "path": "file"}
        described.ask("get", f"{path}{segment}/", 507)
        described.ask("delete", one, 507, place=place)
        for below in ("", "/logs", "/artifacts/", "/artifacts/{path}"):
            described.ask("get", f"{one}{below}", 507, place=place)
    described.ask("get", f"{path}jobs/{{uuid}}/result", 507, place=place)


def test_reload_that_fails_or_is_not_the_only_one_is_described(
    serve: Serve, tmp_path: Path
) -> None:
    file, gate = tmp_path / "changing.py", tmp_path / "gate"
    code = "def predict():\n    return 1\n"
    file.write_text(code)
    described = Described(serve({}, str(file), "--admin-endpoint"))
    path = f"{path_of(described, 'changing')}reload"
    file.write_text("raise RuntimeError('broken')\n")
    described.ask("post", path, 500)
    wait_for_gate = f"while not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n"
    file.write_text(f"import os, time\n{wait_for_gate}{code}")
    with ThreadPoolExecutor(2) as executor:
        begun = [executor.submit(described.server.post, path) for _ in range(2)]
        done, _ = wait(begun, timeout=END_SECONDS, return_when=FIRST_COMPLETED)
        refused = done.pop().result()
        gate.touch()
    content_type = refused.headers["Content-Type"]
    assert refused.status_code == 409
    described.check("post", path, 409, content_type, refused.content)


# --- the whole description


async def test_every_route_is_described_unless_it_is_switched_off() -> None:
    async with House("zoo.leaves") as house:
        for settings in (
            ApiSettings(),
            ApiSettings(admin=True, base_path="/x", doc=False, metrics=True),
            ApiSettings(predict=False),
            ApiSettings(train=False),
        ):
            app = create_app([house.pool], settings)
            described = {
                (method.upper(), path)
                for path, one in describe(app, app.routes, app.pools)["paths"].items()
                for method in one
            }
            expected = {
                (route.method, settings.base_path + route.path.replace("*}", "}"))
                for route in app.routes
                if not is_switched_off(route, settings)
            }
            assert described == expected


def is_switched_off(route: Route, settings: ApiSettings) -> bool:
    segment = (route.path.split("/") + [""] * 5)[4]
    on = {"predict": settings.predict, "jobs": settings.predict, "train": settings.train}
    # No model here has files of examples.
    return not {**on, "reload": settings.admin, "examples": False}.get(segment, True)


def test_description_is_valid_swagger(predicting: Described, being: Described) -> None:
    for described in (predicting, being):
        document = described.document
        # The nested and mixed arguments of `rich` have no valid form that existing clients know.
        paths = {path: one for path, one in document["paths"].items() if "/rich/" not in path}
        document = {**document, "paths": paths}
        assert [*openapi_v2_schema_validator.iter_errors(document)] == []
        known = known_to_the_validator(document)
        assert [str(error) for error in OpenAPIV2SpecValidator(known).iter_errors()] == []


def test_description_is_valid_openapi(
    predicting: Described, being: Described, recording: Described
) -> None:
    for described in (predicting, being, recording):
        assert_valid_openapi(described.openapi)


def assert_valid_openapi(document: Any) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.long
def test_description_of_every_model_is_valid(serve: Serve) -> None:
    names = [path.stem for path in sorted(ZOO.glob("*.py"))]
    described = Described(serve({name: f"zoo.{name}" for name in names}))
    functions = [path for path in described.openapi["paths"] if path.endswith("/predict/")]
    assert len(functions) > 60
    assert_valid_openapi(described.openapi)
    document = known_to_the_validator(described.document)
    paths = {path: one for path, one in document["paths"].items() if has_swagger_forms(one)}
    assert len(paths) > 0.9 * len(document["paths"])
    document = {**document, "paths": paths}
    assert [str(error) for error in OpenAPIV2SpecValidator(document).iter_errors()] == []


def has_swagger_forms(operations: Any) -> bool:
    """Return whether Swagger 2.0 has a form for all parameters.

    It has none for values of any type or with parts outside of the body; existing clients know
    them as they are.
    """
    simple = {"string", "integer", "number", "boolean", "array"}
    return all(
        parameter["in"] == "body" or parameter.get("type") in simple
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
    )


def test_descriptions_change_with_the_model(serve: Serve, tmp_path: Path) -> None:
    """A reload without a change leaves the ETags, which clients have stored, as they are."""
    file = tmp_path / "changing.py"
    code = """
from webargs import fields


def get_predict_args():
    return {"%s": fields.Int()}


def predict(**kwargs):
    return 1
"""
    file.write_text(code % "old_argument")
    server = serve({}, str(file), "--admin-endpoint")
    paths = ("/openapi.json", "/swagger.json")
    tags = {path: server.get(path).headers["ETag"] for path in paths}
    assert server.post("/v2/models/changing/reload").status_code == 200
    for path in paths:
        assert server.get(path, headers={"If-None-Match": tags[path]}).status_code == 304
    # Python takes its cached code if a file has changed in the same second to the same size.
    file.write_text(code % "another_argument")
    assert server.post("/v2/models/changing/reload").status_code == 200
    for path in paths:
        changed = server.get(path, headers={"If-None-Match": tags[path]})
        assert changed.status_code == 200
        assert changed.headers["ETag"] != tags[path]
        assert "another_argument" in changed.text
        assert "old_argument" not in changed.text


def known_to_the_validator(value: Any) -> Any:
    """Return the value without what the validator rejects: null as a default, and file types."""
    if isinstance(value, list):
        return [known_to_the_validator(item) for item in value]
    if not isinstance(value, dict):
        return "string" if value == "file" else value
    return {
        key: known_to_the_validator(item)
        for key, item in value.items()
        if (key, item) != ("default", None)
    }


def test_request_for_another_site_or_with_a_large_head_is_described(serve: Serve) -> None:
    described = Described(serve({"trains": "zoo.trains"}, "--admin-endpoint"))
    path = path_of(described, "trains")
    foreign = {"Origin": "https://evil.test"}
    uuid = described.server.post(f"{path}train/").json()["uuid"]
    for operation in ("predict/", "train/", "reload"):
        described.ask("post", f"{path}{operation}", 403, headers=foreign)
    one = f"{path}train/{{uuid}}"
    described.ask("delete", one, 403, place={"uuid": uuid}, headers=foreign)
    for other in ("/", "/v2/models/", path, "/v2/health/ready"):
        described.ask("get", other, 421, headers={"Host": "evil.test"})
        described.ask("get", other, 431, headers={f"X-{n}": "x" * 7000 for n in range(10)})
    wait_for_end(described, one, uuid)
