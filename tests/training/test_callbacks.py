"""Callbacks: a signed POST at every change of status. Failing receivers do not disturb the work."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deepaas.api.callbacks import CallbackLimiter, read_secret, sign
from deepaas.exceptions import ConfigurationError
from tests.conftest import Serve
from tests.support import Server, wait_until
from tests.training.locking import locked
from tests.training.trainings import END_SECONDS, Place, Site, Trainings, kill_server

MODELS = {"trains": "zoo.trains"}
ALLOW = ("--allow-callbacks", "127.0.0.1")


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes
    time: float

    @property
    def record(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server that gives the statuses in `answers` one after another, and then 204."""

    answers: list[int] = field(default_factory=list)
    hangs: bool = False
    posts: list[Post] = field(default_factory=list)
    host: str = "127.0.0.1"
    accepted: int = 0

    def __post_init__(self) -> None:
        receiver = self
        self.is_closing = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.posts.append(Post(self.path, headers, body, time.time()))
                if receiver.hangs:
                    receiver.is_closing.wait()
                status = receiver.answers.pop(0) if receiver.answers else 204
                receiver.accepted += status < 300
                self.send_response(status)
                if status in (301, 302, 307):
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer((self.host, 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.server.server_port}/hook?token=hidden"

    def close(self) -> None:
        self.is_closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def wait_for(self, *statuses: str) -> None:
        """Wait until exactly these statuses have been received, in this order."""
        wait_until(lambda: self.statuses == list(statuses), within=300, what=f"calls of {statuses}")

    @property
    def statuses(self) -> list[str]:
        return [post.record["status"] for post in self.posts]

    @property
    def told(self) -> list[str]:
        """The statuses without repeated messages, which have the same id."""
        return [
            record["status"]
            for record in {p.headers["webhook-id"]: p.record for p in self.posts}.values()
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


def begin(server: Server, url: str, **query: Any) -> str:
    values = {name: str(value) for name, value in query.items()}
    answer = server.post("/v2/models/trains/train/", params=values, headers={"Callback-URL": url})
    assert answer.status_code == 200, answer.text
    uuid: str = answer.json()["uuid"]
    return uuid


def secret_of(server: Server) -> bytes:
    text = (server.home / ".local/state/deepaas/callback.secret").read_text()
    return base64.b64decode(text.strip().removeprefix("whsec_"))


def is_signed(post: Post, secret: bytes) -> bool:
    """Tell whether the signature is as Standard Webhooks specifies."""
    head = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}."
    digest = hmac.new(secret, head.encode() + post.body, hashlib.sha256).digest()
    return post.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


@pytest.fixture(scope="module")
def calling(serve_all: Serve) -> Server:
    """A server that may call this machine. Each test starts a separate receiver."""
    return serve_all(MODELS, *ALLOW)


# --- messages --------------------------------------------------------------------------------


def test_every_change_is_told_in_order(calling: Server, receiver: Receiver, place: Place) -> None:
    server = calling
    uuid = begin(server, receiver.url, place=place, password="hidden-1")
    receiver.wait_for("queued", "running")
    place.open_gate()
    receiver.wait_for("queued", "running", "done")
    secret = secret_of(server)
    for post in receiver.posts:
        assert post.path == "/hook?token=hidden"
        assert post.record["uuid"] == uuid
        assert post.record["args"]["password"] == "********"
        assert post.headers["content-type"] == "application/json; charset=utf-8"
        assert is_signed(post, secret)
        assert abs(int(post.headers["webhook-timestamp"]) - post.time) < 30
    assert receiver.posts[-1].record["result"]["output"] == {"text": "learned"}
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == 3
    assert "hidden" not in server.log()


@pytest.mark.parametrize("how", ["error", "cancelled"])
def test_other_ends_are_told_too(
    calling: Server, receiver: Receiver, place: Place, how: str
) -> None:
    uuid = begin(calling, receiver.url, place=place, do="raise", text="odd")
    place.wait_for_attempt()
    if how == "cancelled":
        Trainings(calling).delete(uuid)
    place.open_gate()
    receiver.wait_for("queued", "running", how)
    message = receiver.posts[-1].record.get("message")
    assert message == ("ValueError: odd" if how == "error" else None)


def test_asynchronous_predictions_call_too(calling: Server, receiver: Receiver) -> None:
    headers = {"Prefer": "respond-async", "Callback-URL": receiver.url}
    assert calling.predict("trains", headers=headers).status_code == 202
    receiver.wait_for("queued", "running", "done")
    assert receiver.posts[-1].record["result"]["output"]["predictions"]["warmed"] == 1


def test_the_key_may_be_given(serve: Serve, receiver: Receiver, tmp_path: Path) -> None:
    key = bytes(range(32))
    file = tmp_path / "key"
    file.write_bytes(b"whsec_" + base64.b64encode(key) + b"\n")
    server = serve(MODELS, *ALLOW, "--callback-secret-file", str(file))
    begin(server, receiver.url)
    receiver.wait_for("queued", "running", "done")
    assert all(is_signed(post, key) for post in receiver.posts)


def test_what_was_not_told_is_told_by_the_next_server(
    site: Site, receiver: Receiver, place: Place
) -> None:
    before = site.serve(*ALLOW)
    begin(before.server, receiver.url, place=place)
    receiver.wait_for("queued", "running")
    place.wait_for_attempt()
    kill_server(before.server)
    place.open_gate()
    site.wait_idle()
    assert receiver.statuses == ["queued", "running"]
    site.serve(*ALLOW)
    # A server killed before it has recorded the last delivery sends that message again.
    wait_until(lambda: receiver.told == ["queued", "running", "done"], within=30)


# --- receivers that fail ---------------------------------------------------------------------


def test_what_is_not_taken_is_sent_again(calling: Server) -> None:
    """This uses the real clock; `test_callback_times.py` checks all delays in virtual time."""
    receivers = [Receiver(answers=[status]) for status in (500, 404, 302)]
    try:
        for one in receivers:
            begin(calling, one.url)
        for one in receivers:
            one.wait_for("queued", "queued", "running", "done")
            first, again = one.posts[:2]
            assert first.headers["webhook-id"] == again.headers["webhook-id"]
            assert first.body == again.body
            assert again.time - first.time > 0.9
            assert {post.path for post in one.posts} == {"/hook?token=hidden"}
    finally:
        for one in receivers:
            one.close()


def test_who_wants_no_more_gets_no_more_of_that(calling: Server, receiver: Receiver) -> None:
    receiver.answers = [410]
    begin(calling, receiver.url)
    receiver.wait_for("queued", "running", "done")


def test_it_is_given_up_some_time(serve: Serve, receiver: Receiver) -> None:
    receiver.answers = [500]
    server = serve(MODELS, *ALLOW, "--callback-attempts", "1")
    begin(server, receiver.url)
    receiver.wait_for("queued", "running", "done")
    assert "gave up the callback" in server.log()


def test_a_receiver_that_hangs_is_left(serve: Serve, receiver: Receiver) -> None:
    receiver.hangs = True
    server = serve(MODELS, *ALLOW, "--callback-timeout", "0.2")
    trainings = Trainings(server)
    assert trainings.wait(begin(server, receiver.url))["status"] == "done"
    wait_until(lambda: len(receiver.posts) >= 2, within=20, what="a second try")
    assert set(receiver.statuses) == {"queued"}


def test_an_answer_that_is_no_http_is_a_failure_and_shows_no_secret(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/hook?token=hidden"
        server = serve(MODELS, *ALLOW)
        uuid = begin(server, url)
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"no HTTP at all\r\n\r\n")
        said = "again in 1 s"
        wait_until(lambda: said in server.log(), within=20, what="the failure in the log")
    assert Trainings(server).wait(uuid)["status"] == "done"
    assert "hidden" not in server.log()


def test_nobody_there_is_no_harm(serve: Serve, receiver: Receiver) -> None:
    url = receiver.url.replace(str(receiver.server.server_port), "1")
    server = serve(MODELS, *ALLOW)
    assert Trainings(server).wait(begin(server, url))["status"] == "done"
    server.stop()


# --- receivers that hang ---------------------------------------------------------------------

HANGING = ("--callback-timeout", "3600", "--max-queued-trainings", "20")


@dataclass
class Mute:
    """A receiver that accepts connections and never responds."""

    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.listener = socket.create_server((self.host, 0), backlog=100)
        self.url = f"http://{self.host}:{self.listener.getsockname()[1]}/"
        self._connections: list[socket.socket] = []

    def count(self) -> int:
        """Return the number of connections so far."""
        self.listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._connections.append(self.listener.accept()[0])
        return len(self._connections)

    def close(self) -> None:
        for one in (self.listener, *self._connections):
            one.close()


@pytest.fixture
def mute() -> Iterator[Mute]:
    mute = Mute()
    yield mute
    mute.close()


def test_a_receiver_that_hangs_does_not_delay_another(
    serve: Serve, receiver: Receiver, mute: Mute
) -> None:
    server = serve(MODELS, *ALLOW, *HANGING)
    for _ in range(6):
        begin(server, mute.url)
    wait_until(lambda: mute.count() == 4, within=20, what="as many calls as may be made at once")
    begin(server, receiver.url)
    receiver.wait_for("queued", "running", "done")
    assert mute.count() == 4
    server.stop()


def test_so_many_calls_are_made_to_one_receiver_as_is_said(
    serve: Serve, receiver: Receiver, mute: Mute
) -> None:
    server = serve(MODELS, *ALLOW, *HANGING, "--max-callbacks-per-receiver", "2")
    for _ in range(5):
        begin(server, mute.url)
    begin(server, receiver.url)
    receiver.wait_for("queued", "running", "done")
    assert mute.count() == 2


def test_a_host_on_which_every_port_hangs_does_not_delay_another_host(serve: Serve) -> None:
    mutes, receiver = [Mute() for _ in range(6)], Receiver(host="127.0.0.2")
    try:
        allow = ("--allow-callbacks", "127.0.0.1", "--allow-callbacks", "127.0.0.2")
        server = serve(MODELS, *allow, *HANGING, "--max-callbacks", "6")
        for mute in mutes:
            begin(server, mute.url)
        begin(server, receiver.url)
        receiver.wait_for("queued", "running", "done")
        assert sum(mute.count() for mute in mutes) == 3
    finally:
        receiver.close()
        for mute in mutes:
            mute.close()


def test_calls_are_counted_for_a_host_and_for_each_of_its_ports() -> None:
    calls = CallbackLimiter(at_once=6, per_receiver=2)
    assert None not in [calls.begin("http://a:1/x"), calls.begin("http://a:1/y")]
    assert calls.begin("http://a:1/") is None
    other = calls.begin("http://A:2/")
    assert other is not None
    assert calls.begin("http://a:3/") is None  # more than half of all calls would go to one host
    assert [calls.begin("http://b/") is not None for _ in range(3)] == [True, True, False]
    assert calls.begin("https://b/") is not None
    assert calls.begin("http://c/") is None  # six calls are running
    calls.end(other)
    assert calls.begin("http://a:1/") is None
    assert calls.begin("http://a:3/") is not None


# --- refused URLs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/",
        "http://127.0.0.1.other.example/",
        "http://127.0.0.2/",
        "http://127.0.0.1:81/",
        "https://127.0.0.1/",
    ],
)
def test_an_address_that_is_not_allowed_is_403(server: Server, url: str) -> None:
    answer = server.post("/v2/models/trains/train/", headers={"Callback-URL": url})
    assert answer.status_code == 403
    assert answer.json()["code"] == "callback_refused"
    assert "--allow-callbacks" in answer.json()["message"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1:80/",
        "127.0.0.1",
        "http://",
        "http://user:password@127.0.0.1:80/",
        "http://127.0.0.1:80/ x",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:80/" + "x" * 2000,
    ],
)
def test_what_is_no_address_is_400(server: Server, url: str) -> None:
    answer = server.post("/v2/models/trains/train/", headers={"Callback-URL": url})
    assert answer.status_code == 400
    assert "Callback-URL must be" in answer.json()["message"]


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--allow-callbacks", "127.0.0.1:80")


def test_refused_ones_leave_no_record(server: Server) -> None:
    server.post("/v2/models/trains/train/", headers={"Callback-URL": "http://other.example/"})
    assert Trainings(server).list() == []


def test_nothing_is_called_unless_that_is_allowed(serve: Serve, receiver: Receiver) -> None:
    server = serve(MODELS)
    headers = {"Callback-URL": receiver.url}
    assert server.post("/v2/models/trains/train/", headers=headers).status_code == 403
    assert not (server.home / ".local/state/deepaas/callback.secret").exists()


# --- keys ------------------------------------------------------------------------------------


def test_a_signature_is_that_of_the_specification() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = read_secret(path, make=True)
    assert len(first) == 32
    assert read_secret(path, make=True) == first
    assert path.stat().st_mode & 0o077 == 0
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!!", "whsec_YQ==", "\xff"])
def test_what_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="the secret for callbacks"):
        read_secret(path, make=True)


def test_a_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_secret(tmp_path / "key", make=False)


def test_a_callback_is_sent_once_while_a_stopped_process_holds_the_lock(
    site: Site, receiver: Receiver, place: Place
) -> None:
    trainings = site.serve("--state-lock-timeout", "2", "--allow-callbacks", "127.0.0.1")
    receiver.hangs = True
    uuid = trainings.server.post(
        f"/v2/models/trains/train/?place={place}", headers={"Callback-URL": receiver.url}
    ).json()["uuid"]
    receiver.wait_for("queued")
    with locked(site.state):
        receiver.hangs = False
        receiver.is_closing.set()
        wait_until(
            lambda: "is locked by" in trainings.server.log(), within=END_SECONDS, what="a notice"
        )
    place.open_gate()
    assert trainings.wait(uuid)["status"] == "done"
    receiver.wait_for("queued", "running", "done")
