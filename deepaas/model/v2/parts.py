"""Turns the values of queries and forms into texts, files, bytes and parsed JSON."""

from __future__ import annotations

import copy
import json
import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError, fields

from deepaas.model.v2.charsets import is_charset
from deepaas.model.v2.exchange import UNNAMED, FilePart
from deepaas.model.v2.header_parameters import parameters
from deepaas.model.v2.wrapper import UploadedFile

if TYPE_CHECKING:
    from deepaas.model.v2.arguments import Argument


class UnusableValueError(Exception):
    """The value of an argument cannot be read; the text says why."""


def takes_files(field: fields.Field, is_file: bool) -> bool:
    """Whether a part without a file name is a file for this field.

    `is_file` says how the field is declared; but a field of texts cannot take files.
    """
    return is_file and not isinstance(getattr(field, "inner", field), fields.String)


def takes_json(field: fields.Field) -> bool:
    """Whether a part of type JSON is parsed for this field."""
    kinds = fields.Mapping | fields.Nested | fields.List | fields.Tuple
    return isinstance(field, kinds) and not hasattr(field, "delimiter")


# --- from the request to the field


class PartReader:
    """Reads the parts of one form that are not files, as far as the memory for them suffices."""

    def __init__(self) -> None:
        self._size = 0

    def read(self, part: FilePart) -> bytes:
        """All of a part. Raises UnusableValueError."""
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
    """The value for the argument's field; `found` are all values under its name.

    Raises UnusableValueError. A list gets all of them, unless the only one is a JSON list.
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
    if found.filename or argument.takes_files:
        return _file(argument.name, found)
    data = reader.read(found)
    media_type = found.content_type.partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        if takes_json(argument.field):
            return _parsed(data, found.content_type)
        return _decoded(data, found.content_type)
    if media_type == "" or media_type.startswith("text/"):
        return _decoded(data, found.content_type)
    return data


def _checked(text: str) -> str:
    """A text of a query or a urlencoded form, whose bytes may not have been text."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnusableValueError("Not text in the charset of the request.") from None
    return text


def _file(name: str, part: FilePart) -> UploadedFile | str:
    """A file; or an empty text, if the user of a browser has not chosen a file."""
    if not part.filename and os.path.getsize(part.path) == 0:
        return ""
    content_type = part.content_type or "application/octet-stream"
    return UploadedFile(name, part.path, content_type, part.filename or UNNAMED)


def _charset(content_type: str) -> str:
    """The charset that a part names, or ""."""
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
    """The JSON value; made by Python's own parser, as that keeps integers of any size."""
    charset = _charset(content_type)
    try:
        return json.loads(data.decode(charset) if charset else data)
    except ValueError as error:
        raise UnusableValueError(f"The part is not valid JSON: {error}.") from None
    except RecursionError:
        raise UnusableValueError("The part is not valid JSON: it is nested too deeply.") from None


# --- fields that take nothing but files

_NO_FILES = (str, int, float, list, dict)
"""The types that a query, a form or a JSON body can hold in place of a file, besides null."""


def with_files_only(field: fields.Field, name: str) -> fields.Field:
    """A copy of the field that refuses everything but files.

    A list is copied with such a field for its items, and leaves out empty texts. A field with a
    `deserialize` or `_deserialize` of its own may take texts on purpose, and is returned as it is.
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
    return kind.deserialize is base.deserialize and kind._deserialize is base._deserialize


def _mix_in(field: fields.Field, behaviour: type[fields.Field]) -> None:
    kind = type(field)
    field.__class__ = type(kind.__name__, (behaviour, kind), {"__module__": kind.__module__})


class _File(fields.Field):
    """A file field that refuses anything else, before the author's validators see it."""

    sent_as = ""
    """The argument's name for the client."""

    def deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, _NO_FILES) and value != "":
            raise ValidationError(
                "Not a file. Send it as a part of a multipart form, as curl does with "
                f"-F {shlex.quote(f'{self.sent_as}=@file')}"
            )
        return super().deserialize(value, *args, **kwargs)


class _FileList(fields.List):
    """A list of files without the empty texts that stand for files that were not chosen."""

    def deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, list):
            value = [item for item in value if not (isinstance(item, str) and item == "")]
        return super().deserialize(value, *args, **kwargs)
