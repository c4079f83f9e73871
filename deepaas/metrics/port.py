"""What is served at a port of its own: the metrics, without sign-in, and nothing else."""

from __future__ import annotations

from aiohttp import web

from deepaas.events import Events
from deepaas.http.cross_site import CheckSite, SiteRules
from deepaas.http.kernel import Kernel, KernelSettings
from deepaas.http.request import Request
from deepaas.http.request_ids import RequestIds
from deepaas.http.routing import Access, Route, Router
from deepaas.metrics.page import MetricsPage

PATH = "/metrics"


def kernel_for(page: MetricsPage, sites: SiteRules, settings: KernelSettings) -> Kernel:
    """Return a kernel that serves the metrics. Its requests are neither logged nor counted."""
    route = Route("GET", PATH, _show, Access.PUBLIC, lambda _: None, {"page": page})
    return Kernel(Router("", [route]), [RequestIds(), CheckSite(sites)], settings, Events())


async def _show(request: Request, page: MetricsPage) -> web.StreamResponse:
    return await page.respond(request)
