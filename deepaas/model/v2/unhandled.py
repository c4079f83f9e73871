"""Values that marshmallow's own fields and validators cannot handle.

For example, an infinite number of seconds raises OverflowError, and the length of a number
TypeError. Such a value is invalid; the model has no fault.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import ValidationError, fields


def is_of_marshmallow(error: BaseException) -> bool:
    """Return whether marshmallow's own code has raised the error, and not that of the model.

    Code of Python's library that marshmallow calls counts as marshmallow's.
    """
    package = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        called = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if called not in sys.stdlib_module_names:
            package = called
    return package == "marshmallow"


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
