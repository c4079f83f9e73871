"""The files of a training over HTTP: their list and their contents, and no other files."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest

from tests.conftest import Serve
from tests.support import Server, wait_until
from tests.training.trainings import Place, Trainings

MODELS = {"trains": "zoo.trains"}
NOT_FOUND = (404, "404: Not Found")


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--notrain-warm", "--noreload-after-train")


@pytest.fixture(scope="module")
def uuid(server: Server) -> str:
    """The uuid of a training that has ended."""
    trainings = Trainings(server)
    uuid = trainings.begin(do="write", text="file.txt")
    trainings.wait(uuid)
    return uuid


@pytest.fixture
def files(server: Server, uuid: str) -> Iterator[Path]:
    """The directory of its files; whatever a test adds is removed."""
    directory = server.home / ".local/state/deepaas/work" / uuid / "artifacts"
    yield directory
    _empty(directory)
    (directory / "file.txt").write_text("artefact")


def _empty(directory: Path) -> None:
    for entry in os.scandir(os.fsencode(directory)):
        if entry.is_dir(follow_symlinks=False):
            _empty(Path(os.fsdecode(entry.path)))
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


def path_of(uuid: str) -> str:
    return f"/v2/models/trains/train/{uuid}/artifacts"


def listed(server: Server, uuid: str) -> Any:
    answer = server.get(f"{path_of(uuid)}/")
    assert answer.status_code == 200
    return answer.json()


def fetched(server: Server, uuid: str, target: str) -> tuple[int, str]:
    """Return the response to a path below the artifacts, which is sent unchanged."""
    answer = server.raw_request("GET", f"{path_of(uuid)}/{target}")
    return answer.status, answer.body.decode(errors="replace")


def test_they_are_listed_with_size_time_and_address(server: Server, uuid: str) -> None:
    (file,) = listed(server, uuid)["artifacts"]
    assert file.pop("modified").endswith("Z")
    assert file == {"path": "file.txt", "size": 8, "href": f"{path_of(uuid)}/file.txt"}
    assert listed(server, uuid)["truncated"] is False


def test_the_record_names_them(server: Server, uuid: str) -> None:
    record = Trainings(server).get(uuid)
    assert record["artifacts"] == listed(server, uuid)["artifacts"]
    links = {link["rel"]: link["href"] for link in record["links"]}
    assert server.get(links["artifacts"]).json() == listed(server, uuid)


def test_one_is_saved_and_not_shown(server: Server, uuid: str) -> None:
    answer = server.get(f"{path_of(uuid)}/file.txt")
    assert (answer.status_code, answer.content) == (200, b"artefact")
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers["Content-Length"] == "8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    disposition = "attachment; filename=\"file.txt\"; filename*=UTF-8''file.txt"
    assert answer.headers["Content-Disposition"] == disposition


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("page.html", "text/html"),
        ("model.bin", "application/octet-stream"),
        ("weights.tar.gz", "application/octet-stream"),
        ("none", "application/octet-stream"),
    ],
)
def test_its_name_tells_the_media_type(
    server: Server, uuid: str, files: Path, name: str, media_type: str
) -> None:
    (files / name).write_bytes(b"<p>")
    assert server.get(f"{path_of(uuid)}/{name}").headers["Content-Type"] == media_type


def test_they_may_lie_in_directories(server: Server, uuid: str, files: Path) -> None:
    (files / "a/b c").mkdir(parents=True)
    (files / "a/b c/d.txt").write_text("deep")
    (files / "a/empty").mkdir()
    paths = {file["path"]: file["href"] for file in listed(server, uuid)["artifacts"]}
    assert set(paths) == {"a/b c/d.txt", "file.txt"}
    assert paths["a/b c/d.txt"] == f"{path_of(uuid)}/a/b%20c/d.txt"
    assert server.get(paths["a/b c/d.txt"]).text == "deep"


@pytest.mark.parametrize("target", ["a%2Fb%20c%2Fd.txt", "a/b%20c%2fd.txt"])
def test_slashes_may_be_encoded(server: Server, uuid: str, files: Path, target: str) -> None:
    """Generated clients encode them."""
    (files / "a/b c").mkdir(parents=True)
    (files / "a/b c/d.txt").write_text("deep")
    answer = server.get(f"{path_of(uuid)}/{target}")
    assert answer.text == "deep"
    assert 'filename="d.txt"' in answer.headers["Content-Disposition"]


@pytest.mark.parametrize("target", ["a", "a/", "a/b", "file.txt/x", "nothing", "a/../file.txt"])
def test_what_is_no_file_is_not_found(server: Server, uuid: str, files: Path, target: str) -> None:
    (files / "a").mkdir()
    assert fetched(server, uuid, target) == NOT_FOUND


@pytest.mark.parametrize(
    "target",
    [
        "../arguments",
        "%2e%2e/arguments",
        "..%2farguments",
        "%2e%2e%2farguments",
        "..%5carguments",
        "%252e%252e/arguments",
        "a/../../arguments",
        "a/%2e%2e/%2e%2e/arguments",
        "../../../trainings.db",
        "./file.txt",
        "%2e/file.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "file.txt%00",
        "file.txt%2f",
        "a%2f%2e%2e%2f%2e%2e%2farguments",
        "a%2f..%2ffile.txt",
        "a%2f%2ffile",
        "%00",
        "%ff",
        "%",
        "a" * 300,
        "/".join("a" * 200),
    ],
)
def test_nothing_else_can_be_reached(server: Server, uuid: str, files: Path, target: str) -> None:
    (files / "a").mkdir()
    (files / "a/file").write_text("artefact")
    assert (files / "../arguments").exists()
    assert fetched(server, uuid, target) == NOT_FOUND


def test_links_lead_nowhere(server: Server, uuid: str, files: Path) -> None:
    (files / "passwd").symlink_to("/etc/passwd")
    (files / "etc").symlink_to("/etc")
    (files / "up").symlink_to("..")
    (files / "self").symlink_to("file.txt")
    (files / "circle").symlink_to("circle")
    for target in ("passwd", "etc/passwd", "etc", "up/arguments", "self", "circle"):
        assert fetched(server, uuid, target) == NOT_FOUND
    assert [file["path"] for file in listed(server, uuid)["artifacts"]] == ["file.txt"]


def test_what_is_no_regular_file_is_not_opened(
    server: Server, uuid: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(files / "fifo")
    monkeypatch.chdir(files)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
        for target in ("fifo", "socket"):
            assert fetched(server, uuid, target) == NOT_FOUND
        assert [file["path"] for file in listed(server, uuid)["artifacts"]] == ["file.txt"]


ODD_NAMES = [
    b'quote"and\\backslash.txt',
    b"new\r\nX-Evil: 1.txt",
    "größe 100%.txt".encode(),
    b"no utf-8 \xff\xfe.txt",
    b"%2e%2e",
    b"?query#fragment",
    b" blank ",
    b"data:text,x",
    b"...",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_whatever_its_name_it_is_fetched_by_its_address(
    server: Server, uuid: str, files: Path, name: bytes
) -> None:
    path = os.fsencode(files) + b"/" + os.fsencode(name)
    with open(path, "wb") as file:
        file.write(b"content")
    (found,) = [one for one in listed(server, uuid)["artifacts"] if one["path"] != "file.txt"]
    assert found["path"] == os.fsencode(name).decode("utf-8", "backslashreplace")
    assert found["href"] == f"{path_of(uuid)}/{quote_from_bytes(os.fsencode(name))}"
    answer = server.raw_request("GET", found["href"])
    assert (answer.status, answer.body) == (200, b"content")
    assert answer.header("X-Evil") is None
    disposition = answer.header("Content-Disposition")
    assert disposition is not None
    plain, _, extended = disposition.partition("; filename*=")
    assert extended == f"UTF-8''{quote_from_bytes(os.fsencode(name), safe='')}"
    assert plain.startswith('attachment; filename="')
    assert plain.count('"') == 2
    assert "\\" not in plain


def test_an_empty_one_is_empty(server: Server, uuid: str, files: Path) -> None:
    (files / "empty").touch()
    answer = server.get(f"{path_of(uuid)}/empty")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_large_one_comes_whole(server: Server, uuid: str, files: Path) -> None:
    content = os.urandom(1_000_003)
    (files / "large").write_bytes(content)
    assert server.get(f"{path_of(uuid)}/large").content == content


def test_a_record_names_a_hundred_and_the_list_has_all(
    server: Server, uuid: str, files: Path
) -> None:
    for number in range(150):
        (files / f"{number:03}").touch()
    assert len(Trainings(server).get(uuid)["artifacts"]) == 100
    assert len(listed(server, uuid)["artifacts"]) == 151


def test_they_are_there_while_it_trains(server: Server, place: Place) -> None:
    trainings = Trainings(server)
    running = trainings.begin(place=place)
    place.wait_for_attempt()
    assert listed(server, running) == {"artifacts": [], "truncated": False}
    directory = server.home / ".local/state/deepaas/work" / running / "artifacts"
    (directory / "half").write_text("half")
    assert [file["path"] for file in listed(server, running)["artifacts"]] == ["half"]
    assert fetched(server, running, "half") == (200, "half")
    (directory / "half").write_text("whole")
    assert fetched(server, running, "half") == (200, "whole")
    place.open_gate()
    trainings.wait(running)


def test_one_that_waits_has_none(server: Server, place: Place) -> None:
    trainings = Trainings(server)
    running, waiting = trainings.begin(place=place), trainings.begin()
    assert trainings.get(waiting)["status"] == "queued"
    assert listed(server, waiting)["artifacts"] == []
    place.open_gate()
    trainings.wait(running)
    trainings.wait(waiting)


def test_they_go_with_the_record(server: Server) -> None:
    trainings = Trainings(server)
    uuid = trainings.begin(do="write", text="file")
    trainings.wait(uuid)
    trainings.delete(uuid)
    assert fetched(server, uuid, "file") == NOT_FOUND
    assert fetched(server, uuid, "") == NOT_FOUND


def test_they_are_read_and_nothing_else(server: Server, uuid: str) -> None:
    for method in ("DELETE", "PUT", "POST"):
        assert server.request(method, f"{path_of(uuid)}/file.txt").status_code == 405
    assert server.get(f"{path_of(uuid)}/file.txt").text == "artefact"


def test_one_that_becomes_shorter_does_not_look_whole(
    server: Server, uuid: str, files: Path
) -> None:
    size = 64 * 1024 * 1024
    with open(files / "shrinks", "wb") as file:
        file.truncate(size)
    request = f"GET {path_of(uuid)}/shrinks HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request)
        received = len(connection.recv(1000))
        os.truncate(files / "shrinks", 1000)
        is_whole = True
        try:
            while chunk := connection.recv(1 << 20):
                received += len(chunk)
        except ConnectionResetError:
            is_whole = False
    assert not is_whole
    assert received < size


def test_addresses_lie_below_the_base_path(serve: Serve) -> None:
    server = serve(MODELS, "--base-path", "/x/y", "--notrain-warm", "--noreload-after-train")
    begun = server.post("/x/y/v2/models/trains/train/", params={"do": "write", "text": "a b"})
    path = f"/x/y/v2/models/trains/train/{begun.json()['uuid']}"
    wait_until(lambda: server.get(path).json()["status"] == "done", within=20)
    record = server.get(path).json()
    assert {link["href"] for link in record["links"]} == {path, f"{path}/logs", f"{path}/artifacts"}
    for link in record["links"]:
        assert server.get(link["href"]).status_code == 200
    (file,) = record["artifacts"]
    assert file["href"] == f"{path}/artifacts/{quote('a b')}"
    assert server.get(file["href"]).text == "artefact"


def test_many_are_fetched_at_once(server: Server, uuid: str, files: Path) -> None:
    content = os.urandom(3_000_000)
    (files / "large").write_bytes(content)
    answers: list[bytes] = []

    def fetch() -> None:
        answer = server.raw_request("GET", f"{path_of(uuid)}/large")
        answers.append(answer.body)

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [content] * 8
