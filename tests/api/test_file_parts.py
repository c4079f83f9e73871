"""Files reach a model unchanged: in predictions, trainings and jobs."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.serving.processes import MEGABYTE, Growth
from tests.support import HOST, Part, Server, multipart, predictions, wait_until
from tests.training.trainings import Trainings

IMAGE = b"\x89PNG\xff\xfe"
NOT_A_FILE = {
    "file": ["Not a file. Send it as a part of a multipart form, as curl does with -F file=@file"]
}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"sources": "zoo.sources"})


@pytest.fixture(autouse=True)
def _no_upload_stays(server: Server) -> Iterator[None]:
    yield
    wait_no_upload(server)


def wait_no_upload(server: Server) -> None:
    uploads = server.home / "tmp"
    wait_until(lambda: not list(uploads.rglob("tmp*")), within=3, what="removal of all uploads")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- predictions, trainings and jobs


def predict(server: Server, **kwargs: Any) -> httpx.Response:
    return server.predict("sources", **kwargs)


def train(server: Server, **kwargs: Any) -> httpx.Response:
    return server.post("/v2/models/sources/train/", **kwargs)


def predict_later(server: Server, **kwargs: Any) -> httpx.Response:
    headers = {**kwargs.pop("headers", {}), "Prefer": "respond-async"}
    return server.predict("sources", headers=headers, **kwargs)


def seen(server: Server, response: httpx.Response) -> Any:
    """Return the model's description of its arguments, from a prediction, a training or a job."""
    assert response.status_code in (200, 202), response.text
    if "predictions" in response.json():
        return predictions(response)
    segment = "jobs" if response.status_code == 202 else "train"
    record = Trainings(server, "sources", segment).wait(response.json()["uuid"], "done")
    if segment == "train":
        return record["result"]["output"]
    return predictions(server.get(f"{response.headers['Location']}/result"))


Ask = Callable[..., httpx.Response]
every_way = pytest.mark.parametrize("ask", [predict, train, predict_later])


@every_way
def test_part_without_a_file_name_reaches_a_file_argument_exactly(server: Server, ask: Ask) -> None:
    parts = [Part("file", IMAGE, None, "image/png"), Part("form_file", IMAGE, "")]
    assert seen(server, ask(server, **multipart(*parts))) == {
        "file": ["UploadedFile", sha256(IMAGE), "image/png", "unnamed", ""],
        "form_file": [
            "UploadedFile",
            sha256(IMAGE),
            "application/octet-stream",
            "unnamed",
            "",
        ],
    }


@every_way
def test_path_keeps_the_extension_of_the_name(server: Server, ask: Ask) -> None:
    parts = [Part("file", IMAGE, "scan.nii.gz"), Part("form_file", IMAGE, "../x y.PNG")]
    got = seen(server, ask(server, **multipart(*parts)))
    assert got["file"][3:] == ["scan.nii.gz", "nii.gz"]
    assert got["form_file"][3:] == ["x y.PNG", "PNG"]


@every_way
def test_other_parts_are_read_as_their_fields_need_them(server: Server, ask: Ask) -> None:
    parts = [
        Part("mapping", b'{"a": %d}' % (2**80 + 1), None, "application/json"),
        Part("anything", IMAGE, None, "image/png"),
        Part("text", "ä".encode("utf-16"), None, "text/csv; charset=utf-16"),
    ]
    assert seen(server, ask(server, **multipart(*parts))) == {
        "mapping": ["dict", f'{{"a": {2**80 + 1}}}'],
        "anything": ["bytes", repr(IMAGE)],
        "text": ["str", "'ä'"],
    }


@every_way
@pytest.mark.parametrize("place", ["part", "query", "form", "json"])
def test_forgotten_at_sign_of_curl_is_explained(server: Server, ask: Ask, place: str) -> None:
    sent: dict[str, Any] = {
        "part": multipart(Part("file", b"cat.png"), Part("number", b"x")),
        "query": {"params": {"file": "cat.png", "number": "x"}},
        "form": {"data": {"file": "cat.png", "number": "x"}},
        "json": {"json": {"file": "cat.png", "number": "x"}},
    }
    response = ask(server, **sent[place])
    assert response.status_code == 422
    assert response.json() == {**NOT_A_FILE, "number": ["Not a valid integer."]}


@every_way
def test_malformed_json_part_is_refused(server: Server, ask: Ask) -> None:
    parts = [Part("mapping", b"{", None, "application/json"), Part("file", b"cat.png")]
    response = ask(server, **multipart(*parts))
    assert response.status_code == 422
    assert set(response.json()) == {"mapping", "file"}
    assert response.json()["file"] == NOT_A_FILE["file"]


@every_way
def test_encoded_file_is_decoded(server: Server, ask: Ask) -> None:
    content = os.urandom(300_000)
    head = 'form-data; name="file"; filename="a.bin"\r\nContent-Transfer-Encoding: base64'
    body = f"--b\r\nContent-Disposition: {head}\r\n\r\n".encode() + base64.encodebytes(content)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = ask(server, content=body + b"\r\n--b--\r\n", headers=headers)
    assert seen(server, response)["file"][1] == sha256(content)


# --- forms as other programs send them


def test_form_of_a_mail_library_is_read(server: Server) -> None:
    """Ansible sends such a form: with mail headers and a preamble, and with all parts encoded."""
    body = (
        b"This is a multi-part message in MIME format.\r\n"
        b"--===1==\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\n"
        b"Content-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: form-data; name="file"; filename="cat.png"\r\n\r\n'
        + base64.encodebytes(IMAGE * 50)
        + b'\r\n--===1==\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset="utf-8"\r\n'
        b'Content-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name="text"\r\n\r\n'
        + base64.encodebytes("größe".encode())
        + b"\r\n--===1==--\r\n"
    )
    headers = {"Content-Type": 'multipart/form-data; boundary="===1=="'}
    got = predictions(server.predict("sources", content=body, headers=headers))
    assert got == {
        "file": ["UploadedFile", sha256(IMAGE * 50), "image/png", "cat.png", "png"],
        "text": ["str", "'größe'"],
    }


def test_form_of_a_browser_without_a_chosen_file_has_no_file(server: Server) -> None:
    kind = "application/octet-stream"
    parts = [Part("file", b"", "", kind), Part("files", b"", "", kind), Part("text", b"x")]
    assert predictions(server.predict("sources", **multipart(*parts))) == {
        "file": ["str", "''"],
        "files": ["list", "[]"],
        "text": ["str", "'x'"],
    }


# --- limits


def test_file_without_a_name_is_not_bound_as_text_is(serve: Serve) -> None:
    server = serve({"sources": "zoo.sources"}, "--client-max-text", "1000")
    content = b"x" * 1001
    file = Part("file", content, None, "image/png")
    got = predictions(server.predict("sources", **multipart(file, Part("text", b"x" * 1000))))
    assert got["file"][1] == sha256(content)
    response = server.predict("sources", **multipart(file, Part("text", content)))
    assert response.status_code == 413
    assert "more than 1000 bytes" in response.json()["message"]


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("text/html", "text"),
        ("image/png", "text"),
        ("application/json", "json"),
        ("a/b+json", "json"),
    ],
)
def test_parts_that_are_values_are_bound_together(serve: Serve, kind: str, option: str) -> None:
    """A worker holds them in memory, unless they are for an argument that accepts files."""
    server = serve({"sources": "zoo.sources"}, f"--client-max-{option}", "1000")
    half, more = (Part("texts", b'"%b"' % (b"x" * size), None, kind) for size in (498, 499))
    file = Part("files", b"x" * 1001, None, kind)
    assert server.predict("sources", **multipart(half, half, file)).status_code == 200
    response = server.predict("sources", **multipart(half, more))
    assert response.status_code == 422
    assert response.json() == {
        "texts": [
            "The values of the form have more than 1000 bytes. "
            "Send less, or send it to an argument that takes a file."
        ]
    }


@pytest.mark.parametrize("where", ["preamble", "epilogue"])
def test_preamble_and_epilogue_are_not_held_in_memory(server: Server, where: str) -> None:
    form = multipart(Part("text", b"x"))
    filler = b"\r\n--deepaas-test" * (50 * MEGABYTE // 16) + b"\r\n"
    content = form["content"]
    body = filler + content if where == "preamble" else content + filler
    with Growth(server.pid) as growth:
        response = server.predict("sources", content=body, headers=form["headers"])
    assert predictions(response) == {"text": ["str", "'x'"]}
    assert growth.bytes < 20 * MEGABYTE


def test_other_requests_are_answered_while_many_parts_are_read(server: Server) -> None:
    form = multipart(*[Part("files", b"x", None, "image/png") for _ in range(1000)])
    head = (
        b"POST /v2/models/sources/predict/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
        + form["headers"]["Content-Type"].encode()
        + b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(form["content"])
    )
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(head + form["content"])
        assert predictions(server.predict("sources", json={"number": 1}))
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.count(sha256(b"x").encode()) == 1000
