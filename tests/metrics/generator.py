"""A load generator that counts the responses that it gets."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tests.serving.callers import Caller, Journal
from tests.support import RawAnswer, Server

Key = tuple[str, str, str, str]
"""The model, the method, the status and the code of a request, as the metrics show them."""


class Tally:
    """Sends requests and counts them as the server should: by model, method, status and code."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen: Counter[Key] = Counter()
        self.reloads = 0
        self._lock = threading.Lock()

    def count(self, model: str, method: str, status: int, code: str) -> None:
        with self._lock:
            self.seen[model, method, str(status), code] += 1

    def note(self, model: str, method: str, answer: RawAnswer) -> RawAnswer:
        """Count a response."""
        self.count(model, method, answer.status, code_in(answer))
        return answer

    def ask(
        self, model: str, method: str, path: str, label: str = "", code: str = "", **kwargs: Any
    ) -> RawAnswer:
        """Send a request on a new connection, and count its response.

        `label` is the method as the metrics show it, if that is different. `code` is that of a
        response to HEAD, which has no body.
        """
        answer = self.server.raw_request(method, path, **kwargs)
        self.count(model, label or method, answer.status, code or code_in(answer))
        return answer

    def predict(self, caller: Caller, model: str, params: Mapping[str, Any]) -> RawAnswer:
        """Send a prediction on an open connection, and count its response.

        Its head is that of all such requests, so it can take the fast path.
        """
        body = json.dumps(params).encode().ljust(400)
        headers = {"Content-Type": "application/json"}
        caller.request("POST", f"/v2/models/{model}/predict/", headers=headers, body=body)
        return self.note(model, "POST", caller.answer())

    def leave(self, model: str, journal: Journal, number: int) -> None:
        """Begin a prediction, and close the connection while the model works on it."""
        with Caller(self.server) as caller:
            caller.predict(model, journal.args(number, gate=f"gate {number}"))
            journal.wait_for("begin", number)
        self.count(model, "POST", 499, "client_closed")
        journal.open(f"gate {number}")


def code_in(answer: RawAnswer) -> str:
    """Return the code of an error. Two of them have a plain text."""
    if (answer.header("Content-Type") or "").startswith("application/json"):
        content = json.loads(answer.body or b"{}")
        return str(content.get("code", "")) if isinstance(content, dict) else ""
    text = {404: b"404: Not Found", 501: b"501: "}.get(answer.status)
    if text is not None and answer.body.startswith(text):
        return {404: "not_found", 501: "not_implemented"}[answer.status]
    return ""


def mixture(tally: Tally) -> list[Callable[[], object]]:
    """Return requests of many kinds, all of which end at once."""
    ask, raw = tally.ask, tally.server.raw
    large: dict[str, Any] = {"body": b"x" * 3000, "headers": {"Content-Type": "application/json"}}
    return [
        lambda: ask("", "GET", "/"),
        lambda: ask("", "GET", "/v2/models/"),
        lambda: ask("dies", "GET", "/v2/models/dies/"),
        lambda: ask("", "GET", "/nowhere"),
        lambda: ask("", "GET", f"/nowhere{random.random()}?{random.random()}"),
        lambda: ask("", "HEAD", "/v2/models/"),
        lambda: ask("", "HEAD", "/nowhere", code="not_found"),
        lambda: ask("dies", "OPTIONS", "/v2/models/dies/predict/"),
        lambda: ask("", "POST", f"/v2/models/unknown{random.random()}/predict/"),
        lambda: ask("dies", "POST", "/v2/models/dies/predict/"),
        lambda: ask("dies", "POST", "/v2/models/dies/predict/?seconds=many"),
        lambda: ask("dies", "POST", "/v2/models/dies/predict/?how=raise"),
        lambda: ask("dies", "POST", "/v2/models/dies/train/"),
        lambda: ask("dies", "DELETE", "/v2/models/dies/predict/"),
        lambda: ask("dies", "PROPFIND", "/v2/models/dies/", label="other"),
        lambda: ask("", "LOCK", f"/nowhere{random.random()}", label="other"),
        lambda: ask("dies", "POST", "/v2/models/dies/predict/", **large),
        lambda: tally.note("", "GET", raw(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")),
        lambda: ask(
            "dies", "POST", "/v2/models/dies/predict/", headers={"Origin": "http://evil.test"}
        ),
        lambda: tally.note("", "other", raw(b"G%d\r\n\r\n" % random.randrange(100))),
        lambda: tally.note(
            "", "other", raw(b"METHOD%d / HTTP/1.1\r\n\r\n" % random.randrange(100))
        ),
        lambda: tally.note("", "other", raw(b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"x" * 90_000))),
    ]
