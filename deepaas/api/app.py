"""The state that the handlers share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deepaas.api.unknown import UnknownArguments
from deepaas.auth.plugins import Authenticator
from deepaas.exceptions import StoppingError
from deepaas.http.body import BodyLimits
from deepaas.http.cross_site import SiteRules
from deepaas.http.kernel import Kernel, KernelSettings
from deepaas.http.middleware import Middleware
from deepaas.http.request import Request
from deepaas.http.routing import Access, Route
from deepaas.jobs.service import JobService
from deepaas.log import Tail
from deepaas.serving.pool import Pool

if TYPE_CHECKING:
    from deepaas.metrics.page import MetricsPage


@dataclass(frozen=True)
class ApiSettings:
    """The settings of the HTTP interface.

    `base_path` is empty, or begins with a slash and does not end with one.
    """

    base_path: str = ""
    predict: bool = True
    train: bool = True
    doc: bool = True
    admin: bool = False
    kernel: KernelSettings = field(default_factory=KernelSettings)
    log_unknown_arguments: int = 100  # names, for each function of a model
    callback_hosts: frozenset[str] = frozenset()  # each is a host, or host:port
    sites: SiteRules = field(default_factory=SiteRules)
    authenticator: Authenticator | None = None  # None: no sign-in
    public_health: bool = True  # also without a sign-in
    metrics: bool = False  # at /metrics
    server_timing: bool = True  # whether responses say where the time went
    middleware: Sequence[Middleware] = ()  # of plug-ins, inside of all others
    routes: Sequence[Route] = ()  # of plug-ins


class App:
    """The models and their trainings, for the handlers. `create_app` sets `kernel` and `routes`.

    `metrics` is set if there are metrics. `trainings` has the records of trainings and of
    asynchronous predictions. If it is None, `no_trainings` says why.
    """

    kernel: Kernel
    routes: Sequence[Route]

    def __init__(
        self, pools: Iterable[Pool], settings: ApiSettings, debug_output: Tail | None
    ) -> None:
        self.pools = {pool.name: pool for pool in pools}
        self.settings = settings
        self.debug_output = debug_output
        self.metrics: MetricsPage | None = None
        self.trainings: JobService | None = None
        self.no_trainings = "they are switched off"
        self.unknown = UnknownArguments(settings.log_unknown_arguments)

    def visible_pools(self, request: Request) -> list[Pool]:
        """Return the models that the client may know: all of them if there is no sign-in."""
        pools = list(self.pools.values())
        if self.settings.authenticator is None:
            return pools
        principal = request.principal
        if principal is None:
            return []
        return [pool for pool in pools if principal.may(Access.READ, pool.name)]

    def base_of(self, request: Request) -> str:
        """Return the path that links in the response begin with: that of the server, after the
        prefix that a trusted proxy has removed."""
        return request.public_address.prefix + self.settings.base_path

    @property
    def limits(self) -> BodyLimits:
        return self.settings.kernel.limits

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        return self.kernel.draining

    def stop_receiving(self) -> None:
        """Refuse the requests whose bodies have not arrived completely."""
        self.kernel.stop_receiving(StoppingError("The server is about to stop"))

    def under_way(self) -> str:
        """Return a text for people: how many requests and predictions are in progress."""
        calls = [f"{pool.calls} of model {name}" for name, pool in self.pools.items() if pool.calls]
        predictions = f" (predictions: {', '.join(calls)})" if calls else ""
        return f"{self.kernel.active} request(s){predictions}"
