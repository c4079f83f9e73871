"""The fuzz targets. The tests run each one briefly; `tests.fuzz.run` runs it for long."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz import hostile_worker, over_http, parsers, strangers
from tests.fuzz.mutations import places

Check = Callable[[Any], None]

BASE = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Target:
    """A fuzz target: `opened` yields the function that checks one input.

    `examples` is the number of inputs in a short run.
    """

    name: str
    opened: Callable[[], AbstractContextManager[Check]]
    inputs: st.SearchStrategy[Any]
    examples: int

    def run(self, check: Check, how: settings, number: int | None = None) -> int:
        """Check inputs, from the seed `number` if given; return how many were checked."""
        count = 0

        def counted(drawn: Any) -> None:
            nonlocal count
            count += 1
            check(drawn)

        counted.__name__ = counted.__qualname__ = self.name.replace(" ", "_")
        test = how(given(self.inputs)(counted))
        if number is not None:
            test = seed(number)(test)
        test()
        return count


connections = st.tuples(over_http.connections, places())
json_bodies = st.tuples(st.sampled_from(over_http.STARTS_OF_BODIES), over_http.json_texts, places())
form_bodies = st.tuples(st.just(b""), over_http.form_texts, places())

TARGETS = [
    Target("requests", over_http.whole_connections, connections, 250),
    Target("JSON bodies", over_http.json_bodies, json_bodies, 100),
    Target("form bodies", over_http.form_bodies, form_bodies, 100),
    Target("forms", parsers.forms, st.tuples(over_http.form_texts, places()), 300),
    Target("JSON", parsers.json_values, over_http.json_texts, 500),
    Target("packets", parsers.packets, parsers.hostile_packets, 500),
    Target("replies", parsers.reply_readers, st.tuples(parsers.hostile_replies, places()), 500),
    Target("control lines", parsers.control, parsers.hostile_lines, 500),
    Target("work", parsers.work, parsers.repeated, 150),
    Target("workers", hostile_worker.workers, hostile_worker.sendings, 250),
    Target(
        "strangers",
        strangers.strangers,
        st.lists(connections, min_size=20, max_size=40),
        4,
    ),
]
BY_NAME = {target.name: target for target in TARGETS}
