"""A model whose functions are a lambda, a partial and a callable object."""

import functools
from typing import Any

from webargs import fields


class Caller:
    def __call__(self, **kwargs: Any) -> Any:
        return {"called": kwargs}


def _args(default: str) -> dict[str, Any]:
    return {"text": fields.Str(missing=default)}


get_predict_args = functools.partial(_args, "given")
get_metadata = lambda: {"name": "Lambda"}  # noqa: E731
predict = Caller()
