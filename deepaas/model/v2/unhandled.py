"""Values that marshmallow's own fields and validators cannot handle.

For example, an infinite number of seconds raises OverflowError, and the length of a number
TypeError. Such a value is invalid; the model has no fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import ValidationError, fields


def is_of_marshmallow(error: BaseException) -> bool:
    """Return whether marshmallow's own code has raised the error, and not that of the model."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    module = str(traceback.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] == "marshmallow"


def messages_about(loaders: Iterable[fields.Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the messages for each value that its field does not load.

    `values` has the names of the request. The fields load their values again, to find out which
    of them marshmallow cannot handle.
    """
    messages: dict[str, Any] = {}
    for field in loaders:
        name = field.data_key if field.data_key is not None else str(field.name)
        if name not in values:
            continue
        try:
            field.deserialize(values[name], name, values)
        except ValidationError as error:
            messages[name] = error.messages
        except Exception:
            messages[name] = ["Not a valid value."]
    return messages or {"_schema": ["Not valid values."]}
