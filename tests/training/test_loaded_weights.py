"""The times in a record: loading, `train`, and when the workers use the new weights."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.support import Server, predictions, wait_until
from tests.training.trainings import END_SECONDS, Trainings, kill_server, of_training
from tests.training.trainings import Site as PlainSite

MODELS = {"weights": "zoo.weights"}


class Site(PlainSite):
    """Servers of one model that share a state directory and the files of the model."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "state", MODELS, reloads=True)
        self.files = directory / "files"
        self.files.mkdir()

    def serve(self, *args: str, **kwargs: Any) -> Trainings:
        trainings = super().serve(*args, cwd=self.files, **kwargs)
        return Trainings(trainings.server, "weights")

    @property
    def warming(self) -> int:
        """The number of processes that have been held while they warmed the model."""
        path = self.files / "warming"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def wait_for_warming(self, number: int) -> None:
        wait_until(lambda: self.warming >= number, within=END_SECONDS, what="a process that warms")

    def let_go(self, number: int) -> None:
        """Release the process with this number."""
        (self.files / f"go-{number}").touch()


@pytest.fixture
def site(tmp_path: Path) -> Any:
    site = Site(tmp_path)
    try:
        yield site
    finally:
        (site.files / "held").unlink(missing_ok=True)
        for number in range(1, 10):
            site.let_go(number)
        site.close()


def answer(server: Server) -> Any:
    return predictions(server.predict("weights"))["weights"]


def seconds(duration: str) -> float:
    clock = datetime.strptime(duration, "%H:%M:%S.%f" if "." in duration else "%H:%M:%S")
    return (clock - datetime(1900, 1, 1)).total_seconds()


def wait_for_weights(trainings: Trainings, uuid: str) -> Any:
    """Wait until the record says that the workers use the weights; return the record."""
    record: dict[str, Any] = {}

    def loaded() -> bool:
        record.update(trainings.get(uuid))
        return record["weights_loaded_utc"] is not None

    wait_until(loaded, within=END_SECONDS, what="weights that are loaded")
    return record


# --- durations -------------------------------------------------------------------------------


def test_loading_and_training_are_measured_apart(site: Site) -> None:
    trainings = site.serve()
    (site.files / "held").touch()
    asked = time.monotonic()
    uuid = trainings.begin(gate="gate")
    site.wait_for_warming(1)
    assert trainings.get(uuid)["load_seconds"] is None
    site.let_go(1)
    (site.files / "held").unlink()
    wait_until(
        lambda: trainings.get(uuid)["load_seconds"] is not None, within=END_SECONDS, what="loading"
    )
    assert trainings.get(uuid)["duration"] is None
    (site.files / "gate").touch()
    record = trainings.wait(uuid)
    seen = time.monotonic()
    times = record["result"]["output"]
    assert record["load_seconds"] >= times["warm_ended"] - times["warm_began"]
    assert record["load_seconds"] <= times["entered"] - asked
    assert record["duration"] == record["result"]["duration"]
    # A duration is rounded to microseconds.
    assert seconds(record["duration"]) >= times["left"] - times["entered"] - 1e-6
    assert seconds(record["duration"]) <= seen - times["warm_ended"] + 1e-6


def test_training_that_fails_while_it_loads_has_no_duration(site: Site) -> None:
    trainings = site.serve()
    (site.files / "broken").touch()
    record = trainings.wait(trainings.begin())
    assert (record["status"], record["message"]) == ("error", "ValueError: the weights are broken")
    assert (record["load_seconds"], record["duration"]) == (None, None)


def test_training_that_is_cancelled_has_the_duration_until_then(site: Site) -> None:
    trainings = site.serve()
    uuid = trainings.begin(gate="gate")
    wait_until(
        lambda: trainings.get(uuid)["load_seconds"] is not None, within=END_SECONDS, what="loading"
    )
    record = trainings.delete(uuid).json()
    assert record["status"] == "cancelled"
    assert seconds(record["duration"]) > 0
    assert record["weights_loaded_utc"] is None


def test_asynchronous_prediction_has_both_times_and_no_weights(site: Site) -> None:
    trainings = site.serve()
    begun = trainings.server.predict("weights", headers={"Prefer": "respond-async"}).json()
    record = Trainings(trainings.server, "weights", "jobs").wait(begun["uuid"])
    assert record["status"] == "done"
    assert record["load_seconds"] > 0
    assert seconds(record["duration"]) >= 0
    assert "weights_loaded_utc" not in record
    assert "weights_problem" not in record


# --- new weights in the workers --------------------------------------------------------------


def test_weights_are_told_when_the_worker_was_replaced(site: Site) -> None:
    trainings = site.serve()
    uuid = trainings.begin(then="held")
    trainings.wait(uuid)
    site.wait_for_warming(1)  # in the new worker
    assert trainings.get(uuid)["weights_loaded_utc"] is None
    assert answer(trainings.server) == "none"
    site.let_go(1)
    record = wait_for_weights(trainings, uuid)
    assert answer(trainings.server) == "learned"
    assert record["weights_loaded_utc"] > record["finish_date_utc"]
    assert record["weights_problem"] is None
    (listed,) = trainings.list()
    assert listed["weights_loaded_utc"] == record["weights_loaded_utc"]


def test_all_of_several_workers_have_to_be_replaced(site: Site) -> None:
    trainings = site.serve("--workers", "2")
    uuid = trainings.begin(then="held")
    site.wait_for_warming(1)
    site.let_go(1)
    site.wait_for_warming(2)  # so the first worker has been replaced
    assert trainings.get(uuid)["weights_loaded_utc"] is None
    site.let_go(2)
    wait_for_weights(trainings, uuid)
    answers = {(one["pid"], one["weights"]) for one in (ask(trainings) for _ in range(20))}
    assert {weights for _, weights in answers} == {"learned"}


def ask(trainings: Trainings) -> Any:
    return predictions(trainings.server.predict("weights"))


def test_server_that_is_restarted_tells_when_it_has_loaded_them(site: Site) -> None:
    trainings = site.serve()
    uuid = trainings.begin(then="held")
    trainings.wait(uuid)
    site.wait_for_warming(1)
    kill_server(trainings.server)
    (site.files / "held").unlink()
    began = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    trainings = site.serve()
    record = wait_for_weights(trainings, uuid)
    assert record["weights_loaded_utc"] > began
    assert answer(trainings.server) == "learned"


def test_training_that_ends_without_a_server_is_told_by_the_next(site: Site) -> None:
    trainings = site.serve()
    uuid = trainings.begin(gate="gate")
    wait_until(
        lambda: trainings.get(uuid)["load_seconds"] is not None, within=END_SECONDS, what="loading"
    )
    kill_server(trainings.server)
    (site.files / "gate").touch()
    wait_until(lambda: not of_training(uuid), within=END_SECONDS, what="the end of the training")
    trainings = site.serve()
    assert trainings.get(uuid)["status"] == "done"
    wait_for_weights(trainings, uuid)
    assert answer(trainings.server) == "learned"


def test_reload_that_fails_is_told_and_a_later_one_counts(site: Site) -> None:
    trainings = site.serve("--admin-endpoint")
    uuid = trainings.begin(then="broken")
    wait_until(lambda: trainings.get(uuid)["weights_problem"], within=END_SECONDS, what="a problem")
    record = trainings.get(uuid)
    assert "the weights are broken" in record["weights_problem"]
    assert (record["status"], record["weights_loaded_utc"]) == ("done", None)
    assert answer(trainings.server) == "none"
    (site.files / "broken").unlink()
    assert trainings.server.post("/v2/models/weights/reload").status_code == 200
    assert wait_for_weights(trainings, uuid)["weights_problem"] is None
    assert answer(trainings.server) == "learned"


def test_without_reload_the_record_says_so_until_the_model_is_reloaded(site: Site) -> None:
    trainings = site.serve("--noreload-after-train", "--admin-endpoint")
    uuid = trainings.begin()
    wait_until(lambda: trainings.get(uuid)["weights_problem"], within=END_SECONDS, what="a problem")
    record = trainings.get(uuid)
    assert "--noreload-after-train" in record["weights_problem"]
    assert record["weights_loaded_utc"] is None
    assert answer(trainings.server) == "none"
    assert trainings.server.post("/v2/models/weights/reload").status_code == 200
    assert wait_for_weights(trainings, uuid)["weights_problem"] is None


def test_workers_that_make_room_for_a_training_have_its_weights_when_they_are_back(
    site: Site,
) -> None:
    trainings = site.serve("--train-exclusive")
    uuid = trainings.begin()
    wait_for_weights(trainings, uuid)
    assert answer(trainings.server) == "learned"


def test_another_server_of_the_directory_does_not_tell_for_one_that_lives(site: Site) -> None:
    """The workers of the first server, which ran the training, still have the old weights."""
    first = site.serve("--noreload-after-train")
    uuid = first.begin()
    first.wait(uuid)
    second = site.serve()
    wait_for_weights(second, second.begin())
    assert second.get(uuid)["weights_loaded_utc"] is None
    assert answer(first.server) == "none"
