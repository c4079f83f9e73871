"""The client that sends a request, after it has signed in."""

from __future__ import annotations

from dataclasses import dataclass

from deepaas.http.routing import Access

MAX_NAME = 200  # characters

INCLUDED: dict[Access, frozenset[Access]] = {
    Access.READ: frozenset({Access.READ}),
    Access.PREDICT: frozenset({Access.PREDICT, Access.READ}),
    Access.TRAIN: frozenset({Access.TRAIN, Access.READ}),
    Access.ADMIN: frozenset(Access),
}
"""What each scope allows. A client that may predict or train may also read: it needs the metadata
of the model, and the records that its own requests make."""


@dataclass(frozen=True)
class Principal:
    """A client that has signed in.

    `scopes` are what it may do, and `models` the names of the models with which it may do that;
    None means all models. `expires` is the time, in seconds since 1970, from which it may do
    nothing; None means never.
    """

    name: str
    scopes: frozenset[Access]
    models: frozenset[str] | None = None
    expires: float | None = None

    def __post_init__(self) -> None:
        if not (0 < len(self.name) <= MAX_NAME and self.name.isprintable()):
            raise ValueError("the name of a principal must be 1 to 200 printable characters")

    def may(self, access: Access, model: str = "") -> bool:
        """Return whether the principal may use a route that needs `access`.

        `model` is the model of the route, or empty. A principal that is limited to some models may
        not use the routes without a model that need more than READ, because these concern all
        models.
        """
        if access is Access.PUBLIC:
            return True
        if not any(access in INCLUDED.get(scope, ()) for scope in self.scopes):
            return False
        if self.models is None:
            return True
        return model in self.models if model else access is Access.READ
