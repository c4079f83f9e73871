"""The interface of plug-ins for sign-in, and how the server finds them.

A plug-in is an entry point in the group `deepaas.auth`. It is a function that takes Options and
returns an Authenticator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from multidict import CIMultiDictProxy

from deepaas import plugins
from deepaas.http.principal import Principal

NAMESPACE = "deepaas.auth"

Headers: TypeAlias = CIMultiDictProxy[str]


@dataclass(frozen=True)
class Options:
    """What a plug-in gets from the server: its options, and the names of the served models."""

    token_file: str = ""
    models: frozenset[str] = frozenset()


class Authenticator(Protocol):
    """Finds out which client sends a request.

    An optional attribute `challenge` is the value of `WWW-Authenticate` in the responses to clients
    that have not signed in; the default is `Bearer realm="deepaas"`.
    """

    async def authenticate(self, headers: Headers) -> Principal | None:
        """Return the client that has sent these headers, or None if they identify no client.

        It may raise a RequestError such as BadTokenError, whose message tells the client more.
        """
        ...


@runtime_checkable
class RevokingAuthenticator(Protocol):
    """An Authenticator that supports the fast path.

    The fast path does not call `authenticate` for a request whose head it knows. An optional
    attribute `headers` has the names, in lower case, of the headers that `authenticate` reads.
    Without it, only requests with equal headers take the fast path, so no request does behind a
    proxy that gives each one a trace header.
    """

    def version(self) -> int:
        """Return a number that changes whenever `authenticate` may give another result.

        Only the expiry of a principal needs no change. This is called for each request and must
        return at once.
        """
        ...


Factory: TypeAlias = Callable[[Options], Authenticator]


def load(name: str, options: Options) -> Authenticator:
    """Return the Authenticator of the plug-in with this name.

    Raises ConfigurationError if there is no such plug-in, or if it cannot be used.
    """
    factory: Factory = plugins.load(NAMESPACE, "--auth", name)
    return factory(options)
