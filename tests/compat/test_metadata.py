"""The metadata of a model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import Server, predictions

MODELS = {
    "bare": "zoo.bare",
    "echo": "zoo.echo",
    "odd": "zoo.metadata",
    "links": "zoo.metadata_links",
    "a-b_c.1": "zoo.named_arguments",
}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS)


@pytest.fixture(scope="module")
def failing(serve_all: Serve) -> Server:
    return serve_all({"fails": "zoo.metadata_fails", "good": "zoo.echo"})


def metadata(server: Server, name: str) -> Any:
    response = server.get(f"/v2/models/{name}/")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    return response.json()


def test_without_get_metadata_there_is_a_stock_description(server: Server) -> None:
    found = metadata(server, "bare")
    assert found.pop("description")
    assert found == {
        "id": "0",
        "name": "bare",
        "links": [{"rel": "self", "href": "/v2/models/bare"}],
    }


def test_metadata_is_merged_over_id_name_and_links(server: Server) -> None:
    assert metadata(server, "echo") == {
        "id": "echo",
        "name": "echo",
        "links": [{"rel": "self", "href": "/v2/models/echo"}],
        "description": "Answers with what it was given.",
    }


def test_metadata_may_override_id_and_name_and_hold_anything(server: Server) -> None:
    assert metadata(server, "odd") == {
        "id": "another-id",
        "name": "Another name",
        "links": [{"rel": "self", "href": "/v2/models/odd"}],
        "author": ["A. Author", "B. Author"],
        "author-email": {"A. Author": "a@example.org"},
        "license": None,
        "help-train": {"nested": [1, 2.5, None, True]},
        "description": "Overrides the stock text with ünïcode.",
        "any key": "any value",
        "3": 3,
    }


def test_metadata_may_override_links(server: Server) -> None:
    assert metadata(server, "links") == {
        "id": "links",
        "name": "links",
        "links": "https://example.org/",
        "version": "1.2.3",
    }


def test_entry_point_names_with_dashes_and_dots_are_paths(server: Server) -> None:
    assert metadata(server, "a-b_c.1")["links"] == [{"rel": "self", "href": "/v2/models/a-b_c.1"}]
    response = server.predict("a-b_c.1", params={"text": "x"})
    assert predictions(response) == "xx"


def test_all_models_are_listed_with_the_same_metadata(server: Server) -> None:
    listed = server.get("/v2/models/").json()["models"]
    by_link = {str(one["links"]): one for one in listed}
    assert len(by_link) == len(listed) == len(MODELS)
    for name in MODELS:
        alone = metadata(server, name)
        assert by_link[str(alone["links"])] == alone


@pytest.mark.mended("the list and the model are 500")
def test_dates_and_paths_in_metadata_harm_nothing(serve: Serve) -> None:
    server = serve({"dates": "zoo.metadata_dates", "good": "zoo.echo"})
    assert metadata(server, "dates")["date"] == "2024-02-29"
    assert metadata(server, "dates")["path"] == "/a/b"
    assert len(server.get("/v2/models/").json()["models"]) == 2


@pytest.mark.mended("the list is 500")
def test_failing_get_metadata_does_not_harm_the_list(failing: Server) -> None:
    response = failing.get("/v2/models/")
    assert response.status_code == 200
    links = [model["links"] for model in response.json()["models"]]
    assert [{"rel": "self", "href": "/v2/models/good"}] in links


def test_failing_get_metadata_harms_neither_predict_nor_others(failing: Server) -> None:
    assert predictions(failing.predict("fails")) == "predicted"
    assert metadata(failing, "good")["name"] == "echo"
