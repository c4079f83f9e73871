"""The media type that a model receives in its `accept` argument."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.conftest import Serve
from tests.support import Part, RawAnswer, Server, multipart

CHOICES = "application/json, image/png, image/jpeg, application/pdf"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(
        {
            "media": "zoo.media",
            "pinned": "zoo.media_header",
            "required": "zoo.media_required",
            "wild": "zoo.media_wild",
            "star": "zoo.media_star",
            "plain": "zoo.plain",
        }
    )


def asked(kind: str, response: httpx.Response | RawAnswer) -> None:
    """Fail unless the module received this type and the response has it."""
    if isinstance(response, RawAnswer):
        status, found, body = response.status, response.header("Content-Type"), response.body
    else:
        status, found = response.status_code, response.headers["Content-Type"]
        body = response.content
    assert status == 200, body
    text = f"accept={kind!r}"
    if kind == "application/json":
        assert found == "application/json; charset=utf-8"
        assert json.loads(body) == {"status": "OK", "predictions": text}
    else:
        assert found == kind
        assert body == text.encode()


def without_header(server: Server, model: str) -> RawAnswer:
    return server.raw_request("POST", f"/v2/models/{model}/predict/")


def with_header(server: Server, model: str, accept: str) -> httpx.Response:
    return server.predict(model, headers={"Accept": accept})


def test_first_choice_counts_when_nothing_is_said(server: Server) -> None:
    asked("application/json", without_header(server, "media"))


def test_first_choice_counts_when_no_choice_is_json(server: Server) -> None:
    asked("image/png", without_header(server, "pinned"))


@pytest.mark.parametrize("accept", ["*/*", "", "application/json"])
def test_first_choice_counts_when_all_is_accepted(server: Server, accept: str) -> None:
    asked("application/json", with_header(server, "media", accept))


@pytest.mark.parametrize("header", ["image/jpeg", "*/*", "text/html"])
@pytest.mark.parametrize("chosen", ["image/png", "application/pdf", "application/json"])
def test_value_in_the_query_comes_before_the_header(
    server: Server, chosen: str, header: str
) -> None:
    response = server.predict("media", params={"accept": chosen}, headers={"Accept": header})
    asked(chosen, response)


def test_value_in_a_form_comes_before_the_header(server: Server) -> None:
    form = multipart(Part("accept", b"image/png"))
    form["headers"]["Accept"] = "image/jpeg"
    asked("image/png", server.predict("media", **form))


def test_value_in_an_urlencoded_form_counts(server: Server) -> None:
    asked("image/png", server.predict("media", data={"accept": "image/png"}))


def test_value_in_a_json_body_counts(server: Server) -> None:
    asked("image/png", server.predict("media", json={"accept": "image/png"}))


@pytest.mark.parametrize("chosen", ["text/html", "", "image/*", "IMAGE"])
def test_value_that_is_no_choice_is_422(server: Server, chosen: str) -> None:
    response = server.predict("media", params={"accept": chosen})
    assert response.status_code == 422
    assert response.json() == {"accept": [f"Must be one of: {CHOICES}."]}


@pytest.mark.parametrize("chosen", ["image/png", "text/csv"])
def test_header_that_is_a_choice_counts_when_pinned_there(server: Server, chosen: str) -> None:
    asked(chosen, with_header(server, "pinned", chosen))


@pytest.mark.mended("the header is not looked at")
@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("image/png", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/*", "image/png"),
        ("image/png;q=0.5, image/jpeg", "image/jpeg"),
        ("image/png;q=0.5, image/jpeg;q=0.8", "image/jpeg"),
        ("text/html;q=0.9, image/png;q=0.1", "image/png"),
        ("text/html, application/pdf;q=0.9, */*;q=0.8", "application/pdf"),
        ("IMAGE/PNG", "image/png"),
    ],
)
def test_header_is_matched_by_quality(server: Server, accept: str, chosen: str) -> None:
    asked(chosen, with_header(server, "media", accept))


@pytest.mark.mended("422")
@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("image/*", "image/png"),
        ("text/*", "text/csv"),
        ("image/png;q=0.5, text/csv", "text/csv"),
        ("text/html, application/xhtml+xml, text/csv;q=0.1", "text/csv"),
    ],
)
def test_pinned_header_is_matched_by_quality(server: Server, accept: str, chosen: str) -> None:
    asked(chosen, with_header(server, "pinned", accept))


@pytest.mark.mended("`*/*` reaches the module")
@pytest.mark.parametrize("accept", ["*/*", "text/html, */*;q=0.8"])
def test_pinned_header_that_takes_all_gives_the_first_choice(server: Server, accept: str) -> None:
    asked("image/png", with_header(server, "pinned", accept))


@pytest.mark.mended("422")
@pytest.mark.parametrize("accept", ["application/json", "text/html", "garbage"])
def test_header_that_fits_no_choice_gives_the_first(server: Server, accept: str) -> None:
    asked("image/png", with_header(server, "pinned", accept))


@pytest.mark.parametrize("accept", ["text/html", "audio/*", "garbage", "image/png;q=0"])
def test_header_is_never_refused(server: Server, accept: str) -> None:
    asked("application/json", with_header(server, "media", accept))


@pytest.mark.parametrize("accept", ["image/png", "text/html", "garbage", "application/json;q=0"])
def test_header_means_nothing_to_a_model_without_accept(server: Server, accept: str) -> None:
    response = server.predict("plain", params={"kind": "int"}, headers={"Accept": accept})
    assert response.status_code == 200
    assert response.json() == {"status": "OK", "predictions": 5}


@pytest.mark.mended("`*/*` reaches the module")
@pytest.mark.parametrize("model", ["media", "wild"])
def test_star_in_the_query_gives_the_first_choice(server: Server, model: str) -> None:
    asked("application/json", server.predict(model, params={"accept": "*/*"}))


@pytest.mark.parametrize("accept", ["*/*", "text/html, */*;q=0.8"])
def test_star_among_the_choices_is_never_chosen(server: Server, accept: str) -> None:
    asked("application/json", with_header(server, "wild", accept))


def test_required_accept_may_be_given(server: Server) -> None:
    asked("image/png", server.predict("required", params={"accept": "image/png"}))


@pytest.mark.mended("422")
def test_required_accept_is_filled_like_any_other(server: Server) -> None:
    asked("application/json", with_header(server, "required", "*/*"))


@pytest.mark.mended("it does not start")
@pytest.mark.parametrize("model", ["media_tuple", "media_list"])
def test_choices_are_found_in_a_tuple_and_among_validators(serve: Serve, model: str) -> None:
    server = serve({model: f"zoo.{model}"})
    asked("image/png", without_header(server, model))
    asked("application/json", server.predict(model, params={"accept": "application/json"}))


@pytest.mark.mended("it does not start")
def test_accept_without_choices_keeps_its_default(serve: Serve) -> None:
    server = serve({"free": "zoo.media_free"})
    asked("application/json", with_header(server, "free", "*/*"))
    asked("image/png", server.predict("free", params={"accept": "image/png"}))


def picture(response: httpx.Response, kind: str) -> None:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == kind
    assert response.content == b"\x89PNG"


def test_choice_of_all_subtypes_is_chosen_by_name_and_sent_as_it_is(server: Server) -> None:
    picture(server.predict("star", params={"accept": "image/*"}), "image/*")


@pytest.mark.mended("the header is not looked at")
@pytest.mark.parametrize("accept", ["image/*", "image/png", "text/html, image/webp, */*;q=0.8"])
def test_choice_of_all_subtypes_is_chosen_by_header(server: Server, accept: str) -> None:
    picture(with_header(server, "star", accept), "image/*")


@pytest.mark.mended("it is sent as the choice for all of them")
def test_name_of_the_result_tells_its_type(server: Server) -> None:
    query = {"accept": "image/*", "name": "chart.png"}
    picture(server.predict("star", params=query), "image/png")


@pytest.mark.parametrize("accept", ["*/*", "", "text/html", "application/json"])
def test_choice_of_all_subtypes_does_not_come_before_the_first(server: Server, accept: str) -> None:
    asked("application/json", with_header(server, "star", accept))


def test_choice_of_all_subtypes_is_described(server: Server) -> None:
    description = server.get("/swagger.json").json()
    operation = description["paths"]["/v2/models/star/predict/"]["post"]
    assert operation["produces"] == ["application/json", "image/*", "*/*"]
