"""Convert the values of queries and forms to texts, files, bytes and parsed JSON."""

from __future__ import annotations

import copy
import json
import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError, fields

from deepaas.charsets import is_charset
from deepaas.file_part import UNNAMED, FilePart
from deepaas.header_parameters import parameters
from deepaas.model.v2.wrapper import UploadedFile

if TYPE_CHECKING:
    from deepaas.model.v2.arguments import Argument


class UnusableValueError(Exception):
    """The value of an argument cannot be read; the text says why."""


def takes_files(field: fields.Field, is_file: bool) -> bool:
    """Return whether a part without a file name is a file for this field.

    `is_file` says whether the field is declared as a file; a String field never takes files.
    """
    return is_file and not isinstance(getattr(field, "inner", field), fields.String)


def takes_json(field: fields.Field) -> bool:
    """Return whether a part with a JSON type is parsed for this field."""
    kinds = fields.Mapping | fields.Nested | fields.List | fields.Tuple
    return isinstance(field, kinds) and not hasattr(field, "delimiter")


def takes_objects(field: fields.Field) -> bool:
    """Return whether a JSON object is a value of the field, or an item of its list."""
    return isinstance(getattr(field, "inner", field), fields.Mapping | fields.Nested)


# --- from the request to the field


class PartReader:
    """Reads the parts of one form that are not files, up to a limit on their total size."""

    def __init__(self) -> None:
        self._size = 0

    def read(self, part: FilePart) -> bytes:
        """Return the content of a part. Raises UnusableValueError if the limit is exceeded."""
        if part.max_in_memory:
            self._size += os.path.getsize(part.path)
            if self._size > part.max_in_memory:
                raise UnusableValueError(
                    f"The values of the form have more than {part.max_in_memory} bytes. "
                    "Send less, or send it to an argument that takes a file."
                )
        with open(part.path, "rb") as file:
            return file.read()


def value_for(argument: Argument, found: Sequence[str | FilePart], reader: PartReader) -> Any:
    """Return the value for the argument's field; `found` are all values with its name.

    A list argument receives all of them, unless the only value is a JSON list or null. Raises
    UnusableValueError.
    """
    if not argument.multiple:
        one = found[0]
        return one if type(one) is str and one.isascii() else _value(argument, one, reader)
    values = [_value(argument, one, reader) for one in found]
    if len(values) == 1 and (values[0] is None or isinstance(values[0], list)):
        return values[0]
    return values


def _value(argument: Argument, found: str | FilePart, reader: PartReader) -> Any:
    if isinstance(found, str):
        return _checked(found)
    media_type = found.content_type.partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or media_type.endswith("+json")
    if found.filename or argument.takes_files:
        file = _file(argument.name, found)
        # Browsers give JSON in a form the name of a file.
        if is_json and argument.takes_objects and not _is_taken(argument, file):
            return _parsed(reader.read(found), found.content_type)
        return file
    data = reader.read(found)
    if is_json and takes_json(argument.field):
        return _parsed(data, found.content_type)
    if is_json:
        return _decoded(data, found.content_type)
    if media_type == "" or media_type.startswith("text/"):
        return _decoded(data, found.content_type)
    return data


def _is_taken(argument: Argument, value: Any) -> bool:
    """Return whether the author's own field, or a hook of its schema, takes the value."""
    try:
        getattr(argument.field, "inner", argument.field).deserialize(value)
    except ValidationError:
        return False
    return True


def _checked(text: str) -> str:
    """Return a text of a query or urlencoded form; raise UnusableValueError if it was not text."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnusableValueError("Not text in the charset of the request.") from None
    return text


def _file(name: str, part: FilePart) -> UploadedFile | str:
    """Return the file, or "" for an empty part without a name: a browser user chose no file."""
    if not part.filename and os.path.getsize(part.path) == 0:
        return ""
    content_type = part.content_type or "application/octet-stream"
    return UploadedFile(name, part.path, content_type, part.filename or UNNAMED)


def _charset(content_type: str) -> str:
    try:
        charset = parameters(content_type).get("charset", "").lower()
    except ValueError:
        raise UnusableValueError("The Content-Type of the part is malformed.") from None
    if charset and not is_charset(charset):
        raise UnusableValueError(f"Unknown charset {charset[:40]!r}.")
    return charset


def _decoded(data: bytes, content_type: str) -> str:
    charset = _charset(content_type) or "utf-8"
    try:
        text = data.decode(charset)
        text.encode()  # fails for lone surrogates, which some charsets allow
    except ValueError:
        raise UnusableValueError(f"The part is not text in the charset {charset!r}.") from None
    return text


def _parsed(data: bytes, content_type: str) -> Any:
    """Return the JSON value. Python's parser keeps integers of any size."""
    charset = _charset(content_type)
    try:
        return json.loads(data.decode(charset) if charset else data)
    except ValueError as error:
        raise UnusableValueError(f"The part is not valid JSON: {error}.") from None
    except RecursionError:
        raise UnusableValueError("The part is not valid JSON: it is nested too deeply.") from None


# --- fields that accept only files

_NO_FILES = (str, int, float, list, dict)
"""The types, besides null, that a query, a form or a JSON body can hold instead of a file."""


def with_files_only(field: fields.Field, name: str) -> fields.Field:
    """Return a copy of the field that rejects everything except files.

    In a copy of a List, the inner field does so, and empty texts are dropped. A field that
    overrides `deserialize` or `_deserialize` may accept texts on purpose, and is returned
    unchanged.
    """
    kind = type(field)
    if isinstance(field, fields.List):
        if not _deserializes_like(kind, fields.List):
            return field
        files = copy.copy(field)
        files.inner = with_files_only(field.inner, name)
        _mix_in(files, _FileList)
        return files
    if not _deserializes_like(kind, fields.Field):
        return field
    only_files = copy.copy(field)
    _mix_in(only_files, _File)
    only_files.__dict__["sent_as"] = name
    return only_files


def _deserializes_like(kind: type[fields.Field], base: type[fields.Field]) -> bool:
    if getattr(kind, "only_files", False):  # a field for a type hint
        return True
    return kind.deserialize is base.deserialize and kind._deserialize is base._deserialize


def takes_text(field: fields.Field) -> bool:
    """Return whether a field that is declared as a file may accept a text on purpose."""
    inner = getattr(field, "inner", field)
    return not _deserializes_like(type(inner), fields.Field)


def runs_own_code(field: fields.Field) -> bool:
    """Return whether the author's code gets the file when this field is loaded."""
    for one in (field, getattr(field, "inner", field)):
        base = fields.List if isinstance(one, fields.List) else fields.Field
        kind = type(one)
        if one.validators or kind._validate is not fields.Field._validate:
            return True
        if not _deserializes_like(kind, base):
            return True
    return False


def _mix_in(field: fields.Field, behaviour: type[fields.Field]) -> None:
    kind = type(field)
    field.__class__ = type(kind.__name__, (behaviour, kind), {"__module__": kind.__module__})


class _File(fields.Field):
    """A file field that rejects anything else, before the author's validators run."""

    sent_as = ""
    """The name of the argument in the request."""

    def deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, _NO_FILES) and value != "":
            raise ValidationError(
                "Not a file. Send it as a part of a multipart form, as curl does with "
                f"-F {shlex.quote(f'{self.sent_as}=@file')}"
            )
        return super().deserialize(value, *args, **kwargs)


class _FileList(fields.List):
    """A list of files that drops the empty texts that stand for files that were not chosen."""

    def deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, list):
            value = [item for item in value if not (isinstance(item, str) and item == "")]
        return super().deserialize(value, *args, **kwargs)
