"""The paths that exist, their responses, and which variants of them are accepted."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from tests.conftest import Serve
from tests.support import Server, predictions

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"echo": "zoo.echo"})


@pytest.fixture(scope="module")
def moved(serve_all: Serve) -> Server:
    return serve_all({"echo": "zoo.echo"}, "--base-path", "/x")


def test_root_lists_versions_and_links(server: Server) -> None:
    response = server.get("/")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == JSON
    assert response.json() == {
        "versions": [
            {
                "version": "stable",
                "id": "v2",
                "links": [{"rel": "self", "type": "application/json", "href": "/v2/"}],
            }
        ],
        "links": [
            {"rel": "help", "type": "text/html", "href": "/api"},
            {"rel": "describedby", "type": "application/json", "href": "/swagger.json"},
        ],
    }


def test_v2_says_its_version(server: Server) -> None:
    response = server.get("/v2/")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == JSON
    assert response.json() == {
        "version": "stable",
        "id": "v2",
        "links": [{"rel": "self", "type": "application/json", "href": "/v2/"}],
    }


def test_models_are_listed(server: Server) -> None:
    response = server.get("/v2/models/")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == JSON
    assert response.json() == {"models": [server.get("/v2/models/echo/").json()]}


def test_query_does_not_disturb_a_get(server: Server) -> None:
    assert server.get("/v2/models/echo/?a=b").json()["id"] == "echo"


def test_percent_encoded_letters_are_the_same_path(server: Server) -> None:
    assert server.raw_request("GET", "/v2/models/%65cho/").status == 200


def test_request_line_may_hold_the_whole_address(server: Server) -> None:
    assert server.raw_request("GET", f"{server.url}/v2/").status == 200


def test_http_1_0_is_answered(server: Server) -> None:
    answer = server.raw(b"GET / HTTP/1.0\r\n\r\n")
    assert answer.status == 200
    assert answer.header("Content-Type") == JSON


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v2/nope/",
        "/v2/models/nope/",
        "/v2/models/nope/predict/",
        "/v2/models/Echo/",
        "/V2/",
        "/v2/models/echo/predict/more/",
        "/v1/",
    ],
)
def test_unknown_path_is_404_in_plain_text(server: Server, path: str) -> None:
    response = server.get(path)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == TEXT
    assert response.text == "404: Not Found"


def test_post_to_an_unknown_model_is_404(server: Server) -> None:
    response = server.post("/v2/models/nope/predict/", json={"text": "a"})
    assert response.status_code == 404
    assert response.text == "404: Not Found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/models/echo/predict/", "POST"),
        ("DELETE", "/v2/models/echo/predict/", "POST"),
        ("PATCH", "/v2/models/echo/predict/", "POST"),
        ("POST", "/", "GET"),
        ("PUT", "/v2/", "GET"),
        ("POST", "/v2/", "GET"),
        ("DELETE", "/v2/models/", "GET"),
        ("PUT", "/v2/models/echo/", "GET"),
        ("POST", "/swagger.json", "GET"),
    ],
)
def test_wrong_method_is_405(server: Server, method: str, path: str, allowed: str) -> None:
    response = server.request(method, path)
    assert response.status_code == 405
    assert allowed in [name.strip() for name in response.headers["Allow"].split(",")]


@pytest.mark.mended("a redirect")
@pytest.mark.parametrize(
    ("target", "same_as"),
    [
        ("/v2", "/v2/"),
        ("//", "/"),
        ("//v2//", "/v2/"),
        ("/v2/models", "/v2/models/"),
        ("/v2//models//", "/v2/models/"),
        ("/v2/models/echo", "/v2/models/echo/"),
        ("/v2//models/echo//", "/v2/models/echo/"),
        ("//api", "/api"),
        ("//swagger.json", "/swagger.json"),
    ],
)
def test_slashes_make_no_difference_to_get(server: Server, target: str, same_as: str) -> None:
    answer = server.raw_request("GET", target)
    expected = server.raw_request("GET", same_as)
    assert (answer.status, answer.body) == (200, expected.body)
    assert answer.header("Content-Type") == expected.header("Content-Type")


@pytest.mark.mended("404")
def test_final_slash_is_taken_where_there_was_none(server: Server) -> None:
    answer = server.raw_request("GET", "/swagger.json/")
    assert (answer.status, answer.body) == (200, server.raw_request("GET", "/swagger.json").body)
    page = server.raw_request("GET", "/api/")  # its relative addresses begin with ../
    assert page.status == 200
    assert page.body.replace(b"../", b"") == server.raw_request("GET", "/api").body


@pytest.mark.mended("a redirect that loses the body")
@pytest.mark.parametrize(
    "target",
    [
        "/v2/models/echo/predict",
        "//v2//models//echo//predict",
        "/v2/models/echo//predict//",
        "//v2/models/echo/predict/?unused=a//b",
    ],
)
def test_post_with_other_slashes_keeps_its_body(server: Server, target: str) -> None:
    answer = server.raw_request(
        "POST", target, headers={"Content-Type": "application/json"}, body=b'{"text": "a//b"}'
    )
    assert answer.status == 200
    assert answer.body.replace(b" ", b"") == (
        b'{"status":"OK","predictions":{"text":["str","a//b"]}}'
    )


@pytest.mark.mended("a redirect")
def test_debug_answers_without_the_final_slash(server: Server) -> None:
    assert server.raw_request("GET", "/v2/debug").status == 204


def test_debug_is_empty_when_off(server: Server) -> None:
    response = server.get("/v2/debug/")
    assert response.status_code == 204
    assert response.content == b""


def test_ui_redirects_to_api(server: Server) -> None:
    answer = server.raw_request("GET", "/ui")
    assert answer.status == 302
    assert answer.header("Location") == "/api"


@pytest.mark.mended("404")
def test_ui_with_final_slash_redirects_to_api(server: Server) -> None:
    answer = server.raw_request("GET", "/ui/")
    assert answer.status == 302
    assert answer.header("Location") == "/api"


def test_api_is_an_html_page_that_shows_the_description(server: Server) -> None:
    response = server.get("/api")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "swagger-ui-bundle.js" in response.text
    assert re.search(r'"(/swagger|openapi)\.json"', response.text)


def test_api_has_no_outside_address(server: Server) -> None:
    page = server.get("/api").text
    assert "://" not in page
    assert not re.search(r"""(src|href)=["']?//""", page)


def test_what_api_refers_to_is_served_from_here(server: Server) -> None:
    targets = re.findall(r"""(?:src|href)=["']([^"']+)["']""", server.get("/api").text)
    assert [target for target in targets if target.endswith(".js")]
    assert [target for target in targets if target.endswith(".css")]
    for target in targets:
        target = urljoin("/api", target)
        assert target.startswith("/"), target
        response = server.get(target)
        assert response.status_code == 200, target
        assert response.content
        kind = response.headers["Content-Type"]
        suffix = target.rsplit(".", 1)[-1]
        assert {"js": "javascript", "css": "text/css", "png": "image/png"}[suffix] in kind


@pytest.mark.parametrize("up", ["../" * 8, "%2e%2e/" * 8, "..%2f" * 8])
def test_files_beside_the_assets_are_out_of_reach(server: Server, up: str) -> None:
    assets = urljoin("/api", re.findall(r'src="([^"]+/)[^"/]+"', server.get("/api").text)[0])
    answer = server.raw_request("GET", f"{assets}{up}etc/passwd")
    assert answer.status in (400, 403, 404)
    assert b"root:" not in answer.body


def test_base_path_moves_the_root_and_its_links(moved: Server) -> None:
    response = moved.get("/x")
    assert response.status_code == 200
    assert response.json() == {
        "versions": [
            {
                "version": "stable",
                "id": "v2",
                "links": [{"rel": "self", "type": "application/json", "href": "/x/v2/"}],
            }
        ],
        "links": [
            {"rel": "help", "type": "text/html", "href": "/x/api"},
            {"rel": "describedby", "type": "application/json", "href": "/x/swagger.json"},
        ],
    }


@pytest.mark.mended("404")
def test_base_path_with_final_slash_is_the_root_too(moved: Server) -> None:
    answer = moved.raw_request("GET", "/x/")
    assert answer.status == 200
    assert answer.body == moved.raw_request("GET", "/x").body


def test_base_path_moves_v2_and_its_link(moved: Server) -> None:
    response = moved.get("/x/v2/")
    assert response.status_code == 200
    assert response.json()["links"] == [
        {"rel": "self", "type": "application/json", "href": "/x/v2/"}
    ]


def test_base_path_moves_the_models_and_their_links(moved: Server) -> None:
    links = [{"rel": "self", "href": "/x/v2/models/echo"}]
    assert moved.get("/x/v2/models/echo/").json()["links"] == links
    assert [model["links"] for model in moved.get("/x/v2/models/").json()["models"]] == [links]


def test_base_path_moves_predict(moved: Server) -> None:
    response = moved.post("/x/v2/models/echo/predict/", json={"text": "a"})
    assert predictions(response) == {"text": ["str", "a"]}


def test_base_path_moves_ui_and_debug(moved: Server) -> None:
    assert moved.get("/x/ui").headers["Location"] == "/x/api"
    assert moved.get("/x/v2/debug/").status_code == 204


def test_base_path_moves_the_page_and_all_it_refers_to(moved: Server) -> None:
    page = moved.get("/x/api").text
    assert re.search(r'"(/x/swagger|openapi)\.json"', page)
    for target in re.findall(r"""(?:src|href)=["']([^"']+)["']""", page):
        target = urljoin("/x/api", target)
        assert target.startswith("/x/"), target
        assert moved.get(target).status_code == 200, target


@pytest.mark.parametrize(
    "path", ["/", "/v2/", "/v2/models/", "/v2/models/echo/", "/api", "/ui", "/swagger.json"]
)
def test_base_path_leaves_nothing_at_the_old_place(moved: Server, path: str) -> None:
    response = moved.get(path)
    assert response.status_code == 404
    assert response.text == "404: Not Found"


def test_base_path_may_end_with_a_slash_and_have_levels(serve: Serve) -> None:
    server = serve({"echo": "zoo.echo"}, "--base-path", "/x/y/")
    assert server.get("/x/y").json()["versions"][0]["links"][0]["href"] == "/x/y/v2/"
    assert server.get("/x/y/v2/").status_code == 200
