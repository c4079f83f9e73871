"""The public address of the server, which a trusted proxy gives in three headers.

A proxy may serve the server under another scheme, host and path than the server knows:
`X-Forwarded-Proto` and `X-Forwarded-Host` have the scheme and the host that the client used,
`X-Forwarded-Prefix` is the beginning of the path that the proxy has removed. Any client can send
these headers, so they count only if the peer of the connection is a trusted proxy.

A proxy has to replace what its clients send. If a header has several values, separated by commas
or in several lines, the first counts: each proxy of a chain adds its value at the end.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from multidict import CIMultiDictProxy, istr

from deepaas.exceptions import BadRequestError, ConfigurationError

PREFIX = istr("X-Forwarded-Prefix")
PROTO = istr("X-Forwarded-Proto")
HOST = istr("X-Forwarded-Host")
NAMES = (HOST, PREFIX, PROTO)

READS = tuple(name.lower() for name in NAMES)
"""The headers on whose values `PublicAddress` depends, as `FastHooks.reads` has them."""

MAX_PREFIX = 512
"""Characters. Each link in a response has the prefix, so a long one makes a large response."""

MAX_HOST = 255
_MAX_SHOWN = 100  # characters of a wrong value in a message

_SEGMENT = r"(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%[0-9A-Fa-f]{2})+"
_PATH = re.compile(rf"(?:/{_SEGMENT})+/?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(?::([0-9]{1,5}))?")

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class PublicAddress:
    """What a trusted proxy says about the address that its client used.

    A part that it does not say is empty. `prefix` begins with one slash and does not end with one.
    `scheme` is http or https. `host` may have a port.
    """

    prefix: str = ""
    scheme: str = ""
    host: str = ""

    @property
    def base_url(self) -> str:
        """The address below which clients find the paths of the server.

        It is relative, and without a host, unless both the scheme and the host are known.
        """
        if self.scheme and self.host:
            return f"{self.scheme}://{self.host}{self.prefix}"
        return self.prefix or "/"


UNKNOWN = PublicAddress()
"""That of a request that no trusted proxy has sent."""


@dataclass(frozen=True)
class TrustedProxies:
    """The networks whose hosts may send the headers of this module."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> TrustedProxies:
        """Return the proxies of an option. Raises ConfigurationError for a wrong value."""
        return cls(tuple(map(_network, texts)))

    def trust(self, address: str) -> bool:
        """Return whether the peer of a connection is one of these proxies."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:  # not an IP address, such as the path of a socket
            return False
        # A server that listens on :: sees the IPv4 address 10.0.0.1 as ::ffff:10.0.0.1.
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        return any(
            parsed in network or (mapped is not None and mapped in network)
            for network in self.networks
        )


def public_address(headers: CIMultiDictProxy[str]) -> PublicAddress:
    """Return the meaning of the headers of a request that a trusted proxy has sent.

    Raises BadRequestError for a value that no proxy should send, since an ignored mistake in the
    configuration of a proxy would lead to wrong links.
    """
    return PublicAddress(
        _prefix(_first(headers, PREFIX)),
        _scheme(_first(headers, PROTO)),
        _host(_first(headers, HOST)),
    )


def _first(headers: CIMultiDictProxy[str], name: str) -> str:
    return ",".join(headers.getall(name, ())).partition(",")[0].strip(" \t")


def _prefix(text: str) -> str:
    """Return the prefix in the form of `PublicAddress`.

    A path such as //evil.example or /a/../.. would lead to another host or another path as soon as
    a browser takes it for an address.
    """
    if text in ("", "/"):
        return ""
    if len(text) > MAX_PREFIX or not _PATH.fullmatch(text) or not all(map(_is_plain, _parts(text))):
        raise _wrong(
            PREFIX,
            text,
            "must be a path that begins with one slash, such as /models/x, without empty or dotted "
            f"segments and with at most {MAX_PREFIX} characters",
        )
    return text.removesuffix("/")


def _parts(path: str) -> list[str]:
    """Return the segments of a path, decoded."""
    return [unquote(part, errors="replace") for part in path.split("/")]


def _is_plain(part: str) -> bool:
    return part not in (".", "..") and part.isprintable() and "/" not in part and "\\" not in part


def _scheme(text: str) -> str:
    scheme = text.lower()
    if scheme not in ("", "http", "https"):
        raise _wrong(PROTO, text, "must be http or https")
    return scheme


def _host(text: str) -> str:
    if text and not _is_host(text):
        raise _wrong(
            HOST, text, "must be a host, with or without a port, such as a.example or [fe80::1]:80"
        )
    return text


def _is_host(text: str) -> bool:
    match = _HOST.fullmatch(text) if len(text) <= MAX_HOST else None
    if match is None or not 0 < int(match[2] or 80) < 65536:
        return False
    return match[1][0] != "[" or _is_ipv6(match[1][1:-1])


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _wrong(name: str, value: str, rule: str) -> BadRequestError:
    shown = value[:_MAX_SHOWN].encode("ascii", "backslashreplace").decode()
    return BadRequestError(f"{name} {shown!r}, which the proxy has sent, {rule}")


def _network(text: str) -> Network:
    """Return the network with this address, such as 10.0.0.0/8 or ::1."""
    text = text.strip()
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    advice = "such as 127.0.0.1, 10.0.0.0/8 or fd00::/8"
    try:
        advice = f"such as {ipaddress.ip_network(text, strict=False)}, which contains that address"
    except ValueError:
        pass
    raise ConfigurationError(
        f"--trusted-proxies {text!r} is not an IP address or a network; give one, {advice}"
    )
