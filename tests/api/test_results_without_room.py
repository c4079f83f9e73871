"""Large results and large bodies on a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DISK_BYTES, Disk, Serve
from tests.support import UPLOAD_LOCK, Part, Server, multipart, predictions, wait_until

LARGE = {"params": {"do": "json", "size": str(2 * DISK_BYTES)}}


def _files(disk: Disk) -> list[Path]:
    return [path for path in disk.path.rglob("*") if path.is_file() and path.name != UPLOAD_LOCK]


def _predicts(server: Server) -> bool:
    return len(predictions(server.predict("sized", params={"do": "json", "size": "9"}))) == 9


def test_result_for_which_there_is_no_room_is_507(serve: Serve, disk: Disk) -> None:
    server = serve({"sized": "zoo.sized"}, "--upload-dir", str(disk.path))
    answer = server.predict("sized", **LARGE)
    assert answer.status_code == 507
    assert answer.json()["code"] == "storage_failed"
    assert answer.json()["message"].startswith("There is no room for the response of ")
    assert str(disk.path) in server.log()
    assert _predicts(server)


@pytest.mark.parametrize("kind", ["form", "JSON"])
def test_upload_for_which_there_is_no_room_is_507(serve: Serve, disk: Disk, kind: str) -> None:
    """No file remains, and the next request succeeds."""
    server = serve({"sized": "zoo.sized"}, "--upload-dir", str(disk.path))
    content = bytes(2 * DISK_BYTES)
    sent = multipart(Part("files", content, "a")) if kind == "form" else {"content": content}
    answer = server.predict("sized", **sent)
    assert answer.status_code == 507
    assert answer.json()["code"] == "storage_failed"
    wait_until(lambda: not _files(disk), within=10, what="that the file is removed")
    assert _predicts(server)


def test_result_has_room_again_when_the_last_one_is_sent(serve: Serve, disk: Disk) -> None:
    server = serve({"sized": "zoo.sized"}, "--upload-dir", str(disk.path))
    half = {"params": {"do": "json", "size": str(DISK_BYTES // 2)}}
    for _ in range(5):
        assert len(predictions(server.predict("sized", **half))) == DISK_BYTES // 2


def test_without_an_upload_directory_results_lie_in_the_temporary_one(
    serve: Serve, disk: Disk
) -> None:
    server = serve({"sized": "zoo.sized"}, env={"TMPDIR": str(disk.path)})
    assert server.predict("sized", **LARGE).status_code == 507
