"""Refuses requests that a browser sends for another web site, and requests under a foreign name.

Any page can make a browser send a form to any address. So a page could start a training on a server
that only its user can reach. The browser says where such a request comes from, in headers that no
page can change. Other clients do not send these headers, and are not affected.

The owner of a page can also let the page's name resolve to 127.0.0.1 after the browser has loaded
the page (DNS rebinding). Then the browser takes this server for the site of the page, but the Host
header still has the page's name.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiohttp import hdrs, web
from multidict import istr

from deepaas.exceptions import ConfigurationError, CrossSiteError, ForeignHostError
from deepaas.http.forwarded import HOST
from deepaas.http.middleware import FastHooks, Next
from deepaas.http.request import Request
from deepaas.http.routing import Route

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_PAGES = frozenset({"same-origin", "none"})
"""The values of `Sec-Fetch-Site` if a page of this server, or the user, caused a request."""

ANY_HOST = "*"

_SITE = istr("Sec-Fetch-Site")
_READ = ("host", "origin", "sec-fetch-site")
_READ_OF_PROXY = (*_READ, HOST.lower())
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][:/?#@\\,\s]+)(?::(\d*))?")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?([^/?#]+)")
_MAX_SHOWN = 200  # characters of a client's text in a message

MOST_REMEMBERED = 100
"""How many allowed hosts, each of at most 255 characters, are cached."""


@dataclass(frozen=True)
class SiteRules:
    """The web sites that may send requests to this server, and the names that it may be called by.

    `origins` are the allowed sites besides this server. `hosts` has names in lower case, with or
    without a port; localhost and the loopback addresses are always allowed. If `hosts` is None, the
    server may be called by any name.
    """

    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] | None = None
    _known_good: set[str] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        allowed_origins: Iterable[str],
        allowed_hosts: Iterable[str],
        listen_address: str,
        bound_address: str,
    ) -> SiteRules:
        """Return the rules for a server that is bound to `bound_address`.

        `listen_address` is that address in the form that the operator gave; it may be a name.
        Raises ConfigurationError for an invalid origin or host.
        """
        origins = frozenset(map(_origin, allowed_origins))
        hosts = frozenset(map(_allowed_host, allowed_hosts))
        if ANY_HOST in hosts or not (hosts or is_loopback(bound_address)):
            return cls(origins)
        return cls(origins, hosts | {listen_address.lower()})

    def check(self, request: Request) -> None:
        """Raise ForeignHostError or CrossSiteError if the request must not be answered.

        The host that a trusted proxy forwards is checked besides the Host header, and not instead:
        the client may be a browser on the machine of the proxy, and after DNS rebinding a page can
        set every header but Host.
        """
        host = _host_of(request)
        self._check_host(host)
        if request.public_address.host:
            host = request.public_address.host
            self._check_host(host)
        headers = request.headers
        if request.method in SAFE_METHODS or (_SITE not in headers and hdrs.ORIGIN not in headers):
            return
        site, origin = _all_of(request, _SITE), _all_of(request, hdrs.ORIGIN)
        if site in OWN_PAGES or (not site and (not origin or _is_same(origin, host))):
            return
        if origin.lower() not in self.origins:
            raise CrossSiteError(_refusal(origin))

    def _check_host(self, host: str) -> None:
        if host and host not in self._known_good and not self._is_good(host):
            raise ForeignHostError(
                f"The request is for host {host[:_MAX_SHOWN]!r}, which is not a name of this "
                "server; if clients may use it, start the server with --allow-hosts and the name"
            )

    def _is_good(self, host: str) -> bool:
        """Return `may_be_called(host)`, and cache the allowed hosts."""
        if not self.may_be_called(host):
            return False
        if len(self._known_good) < MOST_REMEMBERED and len(host) <= 255:
            self._known_good.add(host)
        return True

    def may_be_called(self, host: str) -> bool:
        """Return whether a Host header may have this value."""
        if self.hosts is None:
            return True
        name, port = _split(host)
        if name in self.hosts or is_loopback(name):
            return True
        return any(f"{name}:{one}" in self.hosts for one in ([port] if port else ("80", "443")))


class CheckSite:
    """A middleware that refuses requests that SiteRules do not allow."""

    def __init__(self, rules: SiteRules) -> None:
        self._rules = rules

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        self._rules.check(request)
        return await next(request)

    def fast(self, request: Request) -> FastHooks:
        # A request with the same head is allowed, too.
        return FastHooks(reads=_READ_OF_PROXY if request.is_from_proxy else _READ)


def is_loopback(name: str) -> bool:
    """Return whether this is localhost, a name below it, or a loopback address in any notation."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return socket.inet_aton(name)[0] == 127
    except (OSError, ValueError):
        pass
    try:
        packed = socket.inet_pton(socket.AF_INET6, name.strip("[]"))
    except (OSError, ValueError):
        return False
    is_mapped = packed.startswith(bytes(10) + b"\xff\xff\x7f")  # ::ffff:127.0.0.1
    return is_mapped or packed == bytes(15) + b"\x01"


def _host_of(request: web.BaseRequest) -> str:
    """Return the host of a request, with its port, or "".

    A host in the target replaces the Host header (RFC 9112, 3.2.2).
    """
    target = request.raw_path
    if target[:1] != "/":
        absolute = _ABSOLUTE.match(target)
        if absolute is not None:
            return absolute[1]
    return _all_of(request, hdrs.HOST)


def _all_of(request: web.BaseRequest, name: str) -> str:
    """Return the value of a header. Several values are joined, so that no rule allows them."""
    return ", ".join(request.headers.getall(name, ()))


def _split(host: str) -> tuple[str, str]:
    """Return the name and the port of a Host header; the name is "" if the header is malformed."""
    match = _HOST.fullmatch(host)
    if match is None:
        return "", ""
    return match[1].lower().removesuffix("."), match[2] or ""


def _is_same(origin: str, host: str) -> bool:
    """Return whether an origin has this host and port. A proxy may change the scheme."""
    scheme, _, rest = origin.partition("://")
    name, port = _split(rest)
    default = _DEFAULT_PORTS.get(scheme.lower(), "")
    own_name, own_port = _split(host)
    return bool(scheme and name) and name == own_name and (port or default) == (own_port or default)


def _origin(text: str) -> str:
    """Return an origin from an option in the form in which browsers send it."""
    scheme, separator, rest = text.strip().lower().removesuffix("/").partition("://")
    name, port = _split(rest)
    if not (separator and scheme and name) or "*" in name:
        raise ConfigurationError(
            f"--allow-origins {text!r} is not an origin; give the scheme, the host, and the port "
            "if it is not the default, such as https://a.example:8443"
        )
    is_usual = port in ("", _DEFAULT_PORTS.get(scheme))
    return f"{scheme}://{name}" if is_usual else f"{scheme}://{name}:{port}"


def _allowed_host(text: str) -> str:
    text = text.strip()
    name, port = _split(text)
    if text != ANY_HOST and (not name or "*" in name):
        raise ConfigurationError(
            f"--allow-hosts {text!r} is not a host; give a name or an address, and a port to "
            "allow only this port, such as a.example, a.example:8443 or [fe80::1]; * is any host"
        )
    return f"{name}:{port}" if port else name


def _refusal(origin: str) -> str:
    page = f"a page of {origin[:_MAX_SHOWN]}" if origin else "a page of another site"
    return (
        f"A browser sent this request for {page}, not for a page of this server; if such pages "
        "may send requests here, start the server with --allow-origins and their origin"
    )
