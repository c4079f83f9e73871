"""The page `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable

from aiohttp import hdrs, web
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from deepaas.http.request import Request
from deepaas.http.responses import add_common_headers
from deepaas.metrics.counts import Counts
from deepaas.metrics.families import FAMILIES, ModelView, of_server
from deepaas.metrics.state import ServerState

_END = b"# EOF\n"
"""The last line of a text in the format of OpenMetrics."""


class MetricsPage:
    """Makes the text of the metrics.

    Other requests are served while it is made: it consists of pieces, each with one metric of one
    model, and the event loop runs between two of them.
    """

    def __init__(self, counts: Counts, state: ServerState) -> None:
        self._counts = counts
        self._state = state

    async def respond(
        self, request: Request, models: Collection[str] | None = None
    ) -> web.StreamResponse:
        """Return the metrics, without those of models that are not in `models`; None means all.

        The header Accept chooses between the text format of Prometheus and OpenMetrics.
        """
        accept = ",".join(request.headers.getall(hdrs.ACCEPT, []))
        encode, content_type = choose_encoder(accept)
        parts = []
        last = ""
        async for metric in self._metrics(models):
            part = encode(_Piece(metric)).removesuffix(_END)
            parts.append(part if metric.name != last else _without_head(part))
            last = metric.name
            await asyncio.sleep(0)
        if content_type.startswith("application/openmetrics-text"):
            parts.append(_END)
        response = web.Response(body=b"".join(parts), headers={hdrs.CONTENT_TYPE: content_type})
        add_common_headers(response.headers)
        return response

    async def _metrics(self, models: Collection[str] | None) -> AsyncIterator[Metric]:
        """Yield all metrics in pieces. Those of one name follow each other."""
        for metric in of_server(self._state):
            yield metric
        views = []
        for name, counts in self._counts.models.items():
            if not name:
                views.append(ModelView(name, counts, None))
            elif models is None or name in models:
                views.append(ModelView(name, counts, self._state.model(name)))
                await asyncio.sleep(0)
        for family in FAMILIES:
            for view in views:
                yield family.of(view)


class _Piece(Collector):
    """What prometheus-client asks for the metrics: it has one."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]


def _without_head(part: bytes) -> bytes:
    """Return a text without the lines about the type and the meaning of the metric."""
    lines = part.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b"# "))
