"""The metrics of trainings and asynchronous predictions."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Serve
from tests.metrics.reading import read
from tests.support import Server, wait_until

ENDED = ("model", "kind", "status")


def begin(server: Server, path: str, **kwargs: object) -> str:
    response = server.post(f"/v2/models/timed/{path}", **kwargs)
    assert response.status_code in (200, 202), response.text
    uuid: str = response.json()["uuid"]
    return uuid


def test_jobs_are_counted_by_status_and_duration(serve: Serve, tmp_path: Path) -> None:
    server = serve({}, "zoo.timed")

    def present() -> dict[tuple[str, ...], int]:
        return dict(read(server.port).by("deepaas_jobs", "kind", "status"))

    def ended() -> dict[tuple[str, ...], int]:
        return dict(read(server.port).by("deepaas_jobs_ended_total", *ENDED))

    begin(server, "train/", params={"place": str(tmp_path)})
    wait_until((tmp_path / "begun").exists, within=30, what="the training")
    waiting = begin(server, "train/")
    wait_until(
        lambda: present() == {("train", "running"): 1, ("train", "queued"): 1},
        within=30,
        what="a running and a queued training",
    )
    assert server.request("DELETE", f"/v2/models/timed/train/{waiting}").status_code == 200
    (tmp_path / "gate").touch()
    begin(server, "predict/", headers={"Prefer": "respond-async"})
    wait_until(
        lambda: (
            ended()
            == {
                ("timed", "train", "done"): 1,
                ("timed", "train", "cancelled"): 1,
                ("timed", "predict", "done"): 1,
            }
        ),
        within=30,
        what="the ends of all jobs",
    )
    # The event of a change may come before the scheduler has seen the change.
    wait_until(lambda: present() == {}, within=30, what="no present job")
    durations = dict(read(server.port).by("deepaas_job_duration_seconds_count", *ENDED))
    assert durations == {("timed", "train", "done"): 1, ("timed", "predict", "done"): 1}
