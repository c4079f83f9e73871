"""A server whose models are loading: its log, the opening of its port, and its responses."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deepaas import __version__
from tests.serving.processes import pids
from tests.support import Server, predictions, run_program, wait_until

MODEL = """\
import pathlib
import time

HERE = pathlib.Path(__file__).parent
NAME = pathlib.Path(__file__).stem


def stay(phase):
    (HERE / f"{NAME}-{phase}").touch()
    while (HERE / f"{NAME}-held-{phase}").exists():
        time.sleep(0.005)
    if (HERE / f"{NAME}-fails-{phase}").exists():
        raise RuntimeError(f"no {phase} today")


stay("importing")


def warm():
    stay("warming")


def predict():
    return NAME


def train():
    return NAME
"""


class Site:
    """Models in a folder; each can be held, or made to fail, while it is imported or warmed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[Server] = []

    def model(self, name: str, *, held: str = "", fails: str = "") -> str:
        """Write a model, and return its target for `deepaas-run`."""
        (self.folder / f"{name}.py").write_text(MODEL)
        for what, phase in (("held", held), ("fails", fails)):
            if phase:
                (self.folder / f"{name}-{what}-{phase}").touch()
        return f"{name}.py"

    def start(self, *args: str) -> Server:
        server = Server(args=args, cwd=self.folder)
        server.start(wait=False)
        self.servers.append(server)
        return server

    def wait_for(self, name: str, phase: str) -> None:
        wait_until((self.folder / f"{name}-{phase}").exists, within=30, what=f"{phase} of {name}")

    def end(self) -> None:
        for server in self.servers:
            server.kill()

    def let_go(self, name: str) -> None:
        for path in self.folder.glob(f"{name}-held-*"):
            path.unlink()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.end()


def wait_for_line(server: Server, pattern: str) -> None:
    wait_until(lambda: re.search(pattern, server.log()), within=30, what=f"the line {pattern}")


def code_and_phase(response: httpx.Response) -> tuple[int, str, str | None]:
    """Return status, code and phase of a response, which must have a Retry-After header."""
    assert int(response.headers["Retry-After"]) >= 1
    body = response.json()
    return response.status_code, body["code"], body.get("phase")


# --- log lines


def test_phase_and_seconds_of_each_model_are_told_at_once_and_every_few_seconds(
    site: Site,
) -> None:
    server = site.start(site.model("a", held="importing"), site.model("b", held="warming"))
    wait_for_line(server, r"INFO deepaas Loading a \(starting, 0 s so far\), b \(starting, 0 s")
    wait_for_line(server, r"Loading a \(importing, \d s so far\), b \(warming, \d s so far\)")
    assert not server.is_open()


def test_model_that_is_ready_is_told_while_others_are_loading(site: Site) -> None:
    server = site.start(site.model("a"), site.model("b", held="warming"))
    wait_for_line(server, r"Model a \(a\.py\) ready in .* with 1 worker\(s\): predict\(\), train")
    assert not server.is_open()


# --- when the port opens


def test_port_opens_when_all_are_ready_or_have_failed(site: Site) -> None:
    names = [site.model("a"), site.model("b", held="warming"), site.model("c", fails="importing")]
    server = site.start(*names, "--start-grace", "600")
    wait_for_line(server, r"Model a \(a\.py\) ready")
    wait_for_line(server, r"Model c cannot be imported")
    assert not server.is_open()
    site.let_go("b")
    server.wait_ready()
    assert predictions(server.predict("b")) == "b"
    assert predictions(server.predict("a")) == "a"


def test_port_opens_some_time_after_the_first_model_is_ready(site: Site) -> None:
    """The second model may hang for any time."""
    server = site.start(site.model("a"), site.model("b", held="importing"), "--start-grace", "0.5")
    wait_for_line(server, r"Model a \(a\.py\) ready")
    server.wait_ready()
    assert predictions(server.predict("a")) == "a"
    assert f"DEEPaaS {__version__} serves a\n    still loading: b (importing)\n" in server.log()


def test_grace_does_not_begin_before_a_model_is_ready(site: Site) -> None:
    server = site.start(
        site.model("a", held="warming"), site.model("b", fails="warming"), "--start-grace", "0"
    )
    wait_for_line(server, r"Model b cannot be warmed")
    site.wait_for("a", "warming")
    assert not server.is_open()
    site.let_go("a")
    server.wait_ready()
    assert predictions(server.predict("a")) == "a"


def test_port_opens_early_if_that_is_wanted(site: Site) -> None:
    server = site.start(site.model("a", held="warming"), "--listen-early")
    server.wait_ready()
    site.wait_for("a", "warming")
    assert server.get("/v2/health/live").status_code == 200
    assert code_and_phase(server.predict("a")) == (503, "model_starting", "warming")
    assert re.search(r"DEEPaaS \S+ serves no model yet\n    still loading: a \(", server.log())
    site.let_go("a")
    wait_until(lambda: pids(server, "a"), within=30, what="the model")
    assert predictions(server.predict("a")) == "a"
    assert server.stop() == 0


def test_signal_ends_a_server_whose_port_is_open_while_a_model_is_loading(site: Site) -> None:
    server = site.start(site.model("a"), site.model("b", held="warming"), "--listen-early")
    server.wait_ready()
    site.wait_for("b", "warming")
    assert server.stop() == 0


# --- responses


def start_half(site: Site) -> Server:
    """Start a server with a model `a` that is ready, and a model `b` that is being warmed."""
    server = site.start(site.model("a"), site.model("b", held="warming"), "--start-grace", "0")
    server.wait_ready()
    site.wait_for("b", "warming")
    wait_until(lambda: phase_of(server) == "warming", within=10, what="news of the phase")
    return server


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    site = Site(tmp_path_factory.mktemp("half"))
    try:
        yield start_half(site)
    finally:
        site.end()


def phase_of(server: Server) -> str | None:
    phase: str | None = server.get("/v2/models/b/ready").json()["phase"]
    return phase


def test_request_for_a_model_that_is_loading_is_refused_with_its_phase(half: Server) -> None:
    starting = (503, "model_starting", "warming")
    assert code_and_phase(half.predict("b")) == starting
    assert code_and_phase(half.predict("b", headers={"Prefer": "respond-async"})) == starting
    assert code_and_phase(half.post("/v2/models/b/train/")) == starting
    message = half.predict("b").json()["message"]
    assert re.fullmatch(r"Model b is starting: warming, \d+ s so far", message)
    assert predictions(half.predict("a")) == "a"


def test_body_for_a_model_that_is_loading_is_not_waited_for(half: Server) -> None:
    head = "HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    for path in ("predict", "train"):
        answer = half.raw(f"POST /v2/models/b/{path}/ {head}".encode(), timeout=5)
        assert answer.status == 503


def test_health_pages_tell_the_phase(half: Server) -> None:
    one = half.get("/v2/models/b/ready")
    assert (one.status_code, one.json()["ready"], one.json()["phase"]) == (503, False, "warming")
    assert one.json()["problem"].startswith("is starting: warming, ")
    everyone = half.get("/v2/health/ready")
    assert everyone.status_code == 503
    assert everyone.json()["models"]["a"]["phase"] is None
    assert everyone.json()["models"]["a"]["ready"] is True
    assert half.get("/v2/models/a/ready").status_code == 200


def test_entry_of_a_model_that_is_loading_says_so(half: Server) -> None:
    described = half.get("/v2/models/b/").json()
    assert described["name"] == "b"
    assert described["description"].startswith("The model is being loaded")
    assert described["problem"].startswith("is starting: warming, ")
    listed = {one["name"]: one for one in half.get("/v2/models/").json()["models"]}
    assert listed["b"]["description"] == described["description"]
    assert "problem" not in listed["a"]


def test_model_is_described_when_it_is_ready(site: Site) -> None:
    half = start_half(site)
    path = "/v2/models/b/predict/"
    assert path not in half.get("/swagger.json").json()["paths"]
    site.let_go("b")
    wait_until(lambda: pids(half, "b"), within=10, what="the model")
    assert predictions(half.predict("b")) == "b"
    assert path in half.get("/swagger.json").json()["paths"]
    assert half.get("/v2/health/ready").status_code == 200
    wait_for_line(half, r"Model b \(b\.py\) ready in")


def test_model_that_has_failed_is_not_starting(site: Site) -> None:
    """This holds even while it is being loaded again; a request does not wait for that."""
    server = site.start(site.model("a"), site.model("b", fails="importing"))
    server.wait_ready()
    assert code_and_phase(server.predict("b")) == (503, "model_not_ready", None)
    (site.folder / "b-held-importing").touch()
    (site.folder / "b-importing").unlink()
    site.wait_for("b", "importing")
    response = server.predict("b", timeout=5)
    assert code_and_phase(response) == (503, "model_not_ready", None)
    assert "no importing today" in response.json()["message"]
    assert phase_of(server) is None


def test_model_that_takes_too_long_to_load_has_failed(site: Site) -> None:
    flags = ["--start-grace", "0", "--start-timeout", "3", "--restart-delay-max", "60"]
    server = site.start(site.model("a"), site.model("b", held="importing"), *flags)
    server.wait_ready()
    wait_until(lambda: phase_of(server) is None, within=20, what="the end of the start")
    response = server.predict("b")
    assert code_and_phase(response) == (503, "model_not_ready", None)
    reason = "was not ready in 3 s (--start-timeout); it was still importing"
    assert reason in response.json()["message"]
    assert predictions(server.predict("a")) == "a"


def test_model_that_becomes_ready_late_is_not_reloaded_for_that(site: Site) -> None:
    """With --reload, the files of a model are watched as soon as they are known."""
    flags = ["--start-grace", "0", "--reload"]
    server = site.start(site.model("a"), site.model("b", held="warming"), *flags)
    server.wait_ready()
    site.let_go("b")
    wait_for_line(server, r"Watching 1 file\(s\) of model b")
    (site.folder / "a.py").write_text(MODEL + "\n")
    wait_for_line(server, r"Model a was reloaded")  # by then, b has been checked several times
    assert "Reloading model b" not in server.log()


# --- failures


def test_server_that_ends_does_not_say_that_anything_is_tried_again(tmp_path: Path) -> None:
    site = Site(tmp_path)
    slow = "import time\ntime.sleep(2)\nraise RuntimeError('too late')\n"
    (tmp_path / "b.py").write_text(slow)
    args = ["--listen-port", "0", site.model("a", fails="importing"), "b.py"]
    finished = run_program(tmp_path / "home", args, cwd=tmp_path)
    assert finished.code == 1
    assert "none of the models can be served (a, b); the log says why" in finished.stderr
    assert "no importing today" in finished.output
    assert "again" not in finished.output


def test_server_that_listens_early_ends_when_all_models_have_failed(tmp_path: Path) -> None:
    site = Site(tmp_path)
    args = ["--listen-port", "0", "--listen-early", site.model("a", fails="warming")]
    finished = run_program(tmp_path / "home", args, cwd=tmp_path)
    assert finished.code == 1
    assert "none of the models can be served (a); the log says why" in finished.stderr
    assert "no warming today" in finished.output


def test_server_that_goes_on_says_what_is_tried_again_and_repeats_no_cause(site: Site) -> None:
    names = [site.model("a"), site.model("b", fails="importing")]
    server = site.start(*names, "--workers", "2")
    server.wait_ready()
    wait_for_line(server, r"WARNING deepaas Model b is not served; loading is retried (in|now)")
    wait_for_line(server, r"Worker b\[[01]\] fails as before, and is started again in \d+ s")
    assert server.log().count("no importing today") == 1
    assert f"DEEPaaS {__version__} serves a\n    not served (the log says why): b\n" in server.log()


def test_model_that_is_served_after_a_failure_is_told(site: Site) -> None:
    server = site.start(site.model("a"), site.model("b", fails="importing"))
    server.wait_ready()
    (site.folder / "b-fails-importing").unlink()
    wait_for_line(server, r"Model b \(b\.py\) ready in")
    assert predictions(server.predict("b")) == "b"


@pytest.mark.parametrize("flags", [[], ["--debug"]])
def test_calls_of_the_server_itself_are_shown_for_debugging_alone(
    tmp_path: Path, flags: list[str]
) -> None:
    site = Site(tmp_path)
    args = ["--listen-port", "0", site.model("a", fails="warming"), *flags]
    finished = run_program(tmp_path / "home", args, cwd=tmp_path)
    file = re.escape(str(tmp_path / "a.py"))
    said = (
        r" ERROR deepaas\.serving Model a cannot be warmed: a\.py:13: RuntimeError: no warming "
        r"today\nTraceback \(most recent call last\):\n"
    )
    own = r"(  .*\n)+" if flags else ""
    calls = (
        rf'  File "{file}", line 20, in warm\n.*\n(    [~^]+\n)?  File "{file}", line 13, in stay\n'
    )
    assert re.search(said + own + calls, finished.stdout)
    assert ("worker/host.py" in finished.output) is bool(flags)
    assert finished.output.count("no warming today") == 1


def test_cause_and_calls_are_fields_of_one_record_in_json(tmp_path: Path) -> None:
    site = Site(tmp_path)
    args = ["--listen-port", "0", site.model("a", fails="warming"), "--use-json"]
    finished = run_program(tmp_path / "home", args, cwd=tmp_path)
    (line,) = [line for line in finished.stdout.splitlines() if '"ERROR"' in line]
    record = httpx.Response(200, content=line).json()
    cause = "Model a cannot be warmed: a.py:13: RuntimeError: no warming today"
    assert record["message"] == cause
    assert record["traceback"].startswith("Traceback (most recent call last):\n")
    assert "in stay" in record["traceback"]


def test_mistakes_that_are_left_are_told_again_after_a_reload(site: Site) -> None:
    file = site.folder / "m.py"
    kept = "def get_predict_args():\n    return {}\n\ndef predict(x):\n    return x\n"
    file.write_text(kept + "\ndef trian():\n    return 1\n")
    server = site.start("m.py", "--workers", "2")
    server.wait_ready()
    assert server.log().count("Model m: ") == 2
    file.write_text(kept)
    server.processes()[0].send_signal(signal.SIGHUP)
    wait_for_line(server, r"Model m was reloaded")
    assert server.log().count("Model m: m.py:4: predict needs 'x'") == 2
    assert server.log().count("'trian' is never called") == 1


def test_reload_that_fails_gives_the_cause_and_the_calls(site: Site) -> None:
    file = site.folder / "m.py"
    file.write_text("def predict():\n    return 1\n")
    server = site.start("m.py")
    server.wait_ready()
    file.write_text("import numpyy\n")
    server.processes()[0].send_signal(signal.SIGHUP)
    wait_for_line(
        server,
        r"Model m is not reloaded, and the old one stays: the new one cannot be imported: m\.py:1: "
        r"ModuleNotFoundError: .*\nTraceback \(most recent call last\):\n  File ",
    )
    assert predictions(server.predict("m")) == 1
