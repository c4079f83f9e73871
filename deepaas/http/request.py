"""A request on the normal path, with what the server knows about it."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiohttp import web

from deepaas.http.forwarded import UNKNOWN, PublicAddress, public_address

if TYPE_CHECKING:
    from deepaas.events import Times
    from deepaas.http.principal import Principal
    from deepaas.http.responses import LongResponse
    from deepaas.http.routing import Route


class Request(web.BaseRequest):
    """A request. The kernel, the middleware and the handler set its attributes.

    `began` is when it arrived, on the clock of `time.monotonic`. `times` are the parts of its time,
    if it is a prediction that a worker has answered.

    `route` answers it, with `arguments` for the handler. `target` is its target as logs may show
    it, with secrets masked. `request_id` identifies it in logs. `long_response` is a response whose
    sending takes time. `principal` is the client, if it has signed in, and `sign_in_version` the
    version of the known clients before the sign-in looked it up.

    `is_from_proxy` is whether a trusted proxy has sent it.
    """

    ATTRS = web.BaseRequest.ATTRS | frozenset(
        {
            "route",
            "arguments",
            "target",
            "request_id",
            "long_response",
            "principal",
            "sign_in_version",
            "began",
            "times",
            "is_from_proxy",
            "_public_address",
        }
    )

    route: Route | None = None
    arguments: Mapping[str, Any] = {}
    request_id = ""
    long_response: LongResponse | None = None
    principal: Principal | None = None
    sign_in_version: int = 0
    times: Times | None = None
    is_from_proxy = False
    _public_address: PublicAddress | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.target = self.raw_path
        self.began = monotonic()  # the clock of uvloop has only milliseconds

    @property
    def public_address(self) -> PublicAddress:
        """What a trusted proxy says about the address that the client used.

        Raises BadRequestError if that is malformed.
        """
        if not self.is_from_proxy:
            return UNKNOWN
        if self._public_address is None:
            self._public_address = public_address(self.headers)
        return self._public_address
