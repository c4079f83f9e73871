"""The answer to a call that only asks whether its arguments are valid.

That is what a training and an asynchronous prediction begin with: what is valid goes into their
record, and later into their function.
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
"""Stands for a secret."""

MAX_SHOWN = 64 * 1024
"""Bytes of JSON; a larger value is shown as its size."""

MAX_PICKLED = 16 * 1024 * 1024
"""Bytes; of larger arguments only the call is kept, from which they can be made anew."""


def check(arguments: Arguments, call: Call) -> Reply:
    """The reply to a call whose arguments are valid.

    Its body is a line of JSON, `{"args": {...}}`, with the arguments for people to see, and then,
    pickled, the dictionary that the function gets; nothing if that cannot be pickled, or is larger
    than MAX_PICKLED. Raises InvalidArgumentsError, and whatever else the model's fields raise.
    """
    loaded, _ = arguments.load(call)
    values = dict(**loaded)  # a schema may make something else of it, which no function could get
    line = exact_json.dumps({"args": arguments_shown(arguments.schema, values)})
    return Reply(body=line + b"\n" + _pickled(values))


def _pickled(values: dict[str, Any]) -> bytes:
    try:
        pickled = pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    except BaseException:  # it is the model's code that says how
        return b""
    return pickled if len(pickled) <= MAX_PICKLED else b""


def arguments_shown(schema: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that `schema` has made, in plain JSON. Never raises.

    A file is its `[name, content_type, original_filename]`. What is `load_only`, or has the format
    "password", is masked, and so is what cannot be told from it.
    """
    try:
        masked = _masked_in(schema, values)
    except BaseException:
        masked = dict.fromkeys(values, MASK)
    return {to_plain(name): _shown(value) for name, value in masked.items()}


def _shown(value: Any) -> Any:
    try:
        plain = to_plain(_with_files_named(value))
        # Not too deep to be shown within something else.
        size = len(exact_json.dumps([[[[[[[[plain]]]]]]]])) - 16
    except BaseException:  # it is the model's code that says what its objects look like
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
    """What a schema has made of its fields, with the secrets among them masked.

    Where it cannot be seen what it comes from, it is masked if there are secrets at all. So is
    whatever hooks have had in hand, as they may put a secret anywhere.
    """
    if value is None or not _has_secrets_in(schema, set()):
        return value
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


def _has_load_hooks(schema: Schema) -> bool:
    # The keys are the names of decorators, or pairs with these, as marshmallow 3.21 has it.
    hooks = [str(name) for name, methods in schema._hooks.items() if methods]
    return any("pre_load" in name or "post_load" in name for name in hooks)


def _masked(field: FieldLike, value: Any) -> Any:
    """What a field has made, with the secrets in it masked."""
    if value is None or not _has_secrets(field, set()):
        return value
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
    """Whether there is a secret in what a client sends for this field."""
    return _has_secrets(field, set())


def _is_secret(field: FieldLike) -> bool:
    return bool(field.load_only) or field.metadata.get("format") == "password"


def _has_secrets(field: FieldLike, seen: set[object]) -> bool:
    """Whether there is a secret in what the field makes; `seen` are the schemas looked at."""
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
    # A schema that contains itself makes a new instance at each level, without end.
    chosen = (schema.only or (), schema.exclude, schema.load_only)
    known = (type(schema), frozenset(schema.load_fields), *map(frozenset, chosen))
    if known in seen:
        return False
    seen.add(known)
    return any(_has_secrets(field, seen) for field in schema.load_fields.values())
