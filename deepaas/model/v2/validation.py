"""The response to a call that only validates arguments.

A training and an asynchronous prediction start with such a call. The valid arguments are stored in
the record, and later passed to the function.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Set
from typing import Any

from marshmallow import Schema, fields

from deepaas import exact_json
from deepaas.model.v2.arguments import Arguments, FieldLike
from deepaas.model.v2.exchange import Call, Reply
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.wrapper import UploadedFile

MASK = "********"
"""The text that replaces a secret."""

MAX_SHOWN = 64 * 1024
"""Bytes of JSON; a larger value is replaced by its size."""

MAX_PICKLED = 16 * 1024 * 1024
"""Bytes; larger arguments are not stored, but loaded again from the stored call."""


def validate(arguments: Arguments, call: Call) -> Reply:
    """Return the reply to a call whose arguments are valid.

    Its body is a line of JSON, `{"args": {...}}`, with the arguments as people may see them. The
    pickled dictionary of arguments for the function follows, unless it cannot be pickled or is
    larger than MAX_PICKLED. Raises InvalidArgumentsError, and every other exception that the
    model's fields raise.
    """
    loaded, _ = arguments.load(call)
    values = dict(**loaded)  # raises TypeError if a schema returned no mapping with text keys
    line = exact_json.dumps({"args": arguments_shown(arguments.schema, values)})
    return Reply(body=line + b"\n" + _pickled(values))


def _pickled(values: dict[str, Any]) -> bytes:
    try:
        pickled = pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    except BaseException:  # pickling may run the model's code
        return b""
    return pickled if len(pickled) <= MAX_PICKLED else b""


def arguments_shown(schema: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that `schema` loaded, in plain JSON. Never raises.

    A file is shown as its `[name, content_type, original_filename]`. Values that are `load_only` or
    have the format "password" are masked, and so are values that may contain a secret.
    """
    try:
        masked = _masked_in(schema, values)
    except BaseException:
        masked = dict.fromkeys(values, MASK)
    return {to_plain(name): _shown(value) for name, value in masked.items()}


def _shown(value: Any) -> Any:
    try:
        plain = to_plain(_with_files_named(value))
        # Leave room for the levels of the JSON in which the value is shown.
        size = len(exact_json.dumps([[[[[[[[plain]]]]]]]])) - 16
    except BaseException:  # str() may run the model's code
        return f"<{type(value).__name__}>"
    return plain if size <= MAX_SHOWN else f"… ({size} bytes)"


def _with_files_named(value: Any) -> Any:
    if isinstance(value, UploadedFile):
        return [value.name, value.content_type, value.original_filename]
    if isinstance(value, list | tuple | Set):
        return [_with_files_named(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_files_named(item) for key, item in value.items()}
    return value


# --- secrets


def _masked_in(schema: Schema, value: Any) -> Any:
    """Return the values that a schema loaded, with the secrets masked.

    If the schema has secrets, a value whose field is unknown is masked too. So are all values if
    the schema has load hooks, because a hook can copy a secret into any value.
    """
    if value is None:
        return value
    if not _has_secrets_in(schema, set()):
        return _without_files(schema, value)
    if isinstance(value, list):
        return [_masked_in(schema, item) for item in value]
    if not isinstance(value, Mapping):
        return MASK
    if _has_load_hooks(schema):
        return dict.fromkeys(value, MASK)
    by_key = {field.attribute or name: field for name, field in schema.load_fields.items()}
    return {
        key: _masked(by_key[key], item) if key in by_key else MASK for key, item in value.items()
    }


def _without_files(schema: Schema, values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    return {
        key: _without_path(schema.load_fields[key], value) if key in schema.load_fields else value
        for key, value in values.items()
    }


def _without_path(field: FieldLike, value: Any) -> Any:
    """Return the value without the path or the contents of a file that a type hint asks for."""
    shown = getattr(getattr(field, "inner", field), "shown", None)
    if shown is None:
        return value
    return [shown(one) for one in value] if isinstance(value, list | tuple) else shown(value)


def _has_load_hooks(schema: Schema) -> bool:
    # The keys are names of decorators, or tuples that contain one (marshmallow 3.21).
    hooks = [str(name) for name, methods in schema._hooks.items() if methods]
    return any("pre_load" in name or "post_load" in name for name in hooks)


def _masked(field: FieldLike, value: Any) -> Any:
    if value is None or not _has_secrets(field, set()):
        return _without_path(field, value)
    if _is_secret(field):
        return MASK
    if isinstance(field, fields.Nested):
        return _masked_in(field.schema, value)
    if isinstance(field, fields.List) and isinstance(value, list):
        return [_masked(field.inner, item) for item in value]
    if isinstance(field, fields.Tuple) and isinstance(value, tuple):
        pairs = zip(field.tuple_fields, value, strict=False)
        return [_masked(inner, item) for inner, item in pairs]
    if isinstance(field, fields.Mapping) and isinstance(value, Mapping):
        inner = field.value_field
        if inner is not None and not (field.key_field and _has_secrets(field.key_field, set())):
            return {key: _masked(inner, item) for key, item in value.items()}
    return MASK


def holds_secrets(field: FieldLike) -> bool:
    """Return whether the values that clients send for this field contain a secret."""
    return _has_secrets(field, set())


def _is_secret(field: FieldLike) -> bool:
    return bool(field.load_only) or field.metadata.get("format") == "password"


def _has_secrets(field: FieldLike, seen: set[object]) -> bool:
    """Return whether the field's values contain a secret; `seen` are the schemas already
    visited."""
    if _is_secret(field):
        return True
    if isinstance(field, fields.Nested):
        return _has_secrets_in(field.schema, seen)
    inner: list[FieldLike | None] = []
    if isinstance(field, fields.List):
        inner = [field.inner]
    elif isinstance(field, fields.Tuple):
        inner = list(field.tuple_fields)
    elif isinstance(field, fields.Mapping):
        inner = [field.key_field, field.value_field]
    return any(_has_secrets(one, seen) for one in inner if one is not None)


def _has_secrets_in(schema: Schema, seen: set[object]) -> bool:
    # A recursive schema has a new instance at each level, so `is` does not detect it.
    chosen = (schema.only or (), schema.exclude, schema.load_only)
    known = (type(schema), frozenset(schema.load_fields), *map(frozenset, chosen))
    if known in seen:
        return False
    seen.add(known)
    return any(_has_secrets(field, seen) for field in schema.load_fields.values())
