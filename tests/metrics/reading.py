"""Reads the metrics of a server."""

from __future__ import annotations

import socket
from collections import Counter

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support import HOST

Labels = tuple[tuple[str, str], ...]


class Metrics(dict[tuple[str, Labels], float]):
    """The value of each time series, by its name and its sorted labels.

    `types` has the type of each metric by its name.
    """

    types: dict[str, str]

    @classmethod
    def of(cls, text: str) -> Metrics:
        made = cls()
        made.types = {}
        for family in text_string_to_metric_families(text):
            suffix = "_total" if family.type == "counter" else ""
            made.types[family.name + suffix] = family.type
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in made, f"{key} is there twice"
                made[key] = sample.value
        return made

    def value(self, name: str, **labels: str) -> float:
        """Return the value of one time series."""
        return self[name, tuple(sorted(labels.items()))]

    def by(self, name: str, *labels: str) -> Counter[tuple[str, ...]]:
        """Return the values of a metric, summed by these labels, without zeros."""
        found: Counter[tuple[str, ...]] = Counter()
        for (one, values), value in self.items():
            if one == name and value:
                found[tuple(dict(values)[label] for label in labels)] += int(value)
        return found


def read(port: int, **kwargs: object) -> Metrics:
    """Return the metrics that are served at a port."""
    response = httpx.get(f"http://{HOST}:{port}/metrics", trust_env=False, timeout=60, **kwargs)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return Metrics.of(response.text)


def requests_of(metrics: Metrics) -> Counter[tuple[str, ...]]:
    """Return the number of requests by model, method, status and code."""
    return metrics.by("deepaas_requests_total", "model", "method", "status", "code")


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
