"""The address of a server: its check, and the proxy on the way to it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from deepaas.client.errors import UnsuitableArgumentError


def checked_address(text: str, source: str = "the address") -> str:
    """Return an address without a slash at its end, a query or a fragment.

    Raises UnsuitableArgumentError, which names `source` and shows no password.
    """
    try:
        parts = urlsplit(text.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port, or an IPv6 address in brackets
        is_address = False
    if "@" in (parts.netloc if is_address else text):
        raise UnsuitableArgumentError(
            f"{source}: write no password in the address; use a token (--token-file FILE)"
        )
    if not is_address or any(character.isspace() for character in parts.netloc):
        raise UnsuitableArgumentError(
            f"{source}: {text!r} is no address; write http://HOST:PORT, with a PORT up to 65535"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def proxy_for(address: str) -> str | None:
    """Return the address of the proxy that the environment names for a server, or None.

    The names of hosts in `no_proxy` and this machine have none.
    """
    parts = urlsplit(address)
    proxy = getproxies().get(parts.scheme)
    if not proxy or _is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
