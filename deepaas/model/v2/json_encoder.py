"""Encode the values that models return as JSON. One rule for each type, at any depth.

docs/models.md lists the types. numpy and pandas are detected without importing them.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import orjson

from deepaas import exact_json

# orjson passes times and dataclasses to `default`: it would drop a zero of some microseconds, and
# include attributes that are not fields. It would write numpy's NaT as a date, so numpy values go
# to `default` too.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

_NUMBERS = "biuf"
"""numpy's kind codes of the types that orjson writes: bool, int, unsigned int, float."""

_HINTS = {
    "bytes": "decode it, or offer a media type for it",
    "bytearray": "decode it, or offer a media type for it",
    "memoryview": "decode it, or offer a media type for it",
    "complex": "return its .real and .imag",
    "datetime.timedelta": "return its .total_seconds()",
    "PIL.Image.Image": "save it to a BytesIO, and offer a media type such as image/png",
}


class NotJSONError(Exception):
    """A value cannot be represented in JSON; the text says which value and why."""


def to_json(value: Any) -> bytes:
    """Return the value as JSON text in UTF-8. Raises NotJSONError."""
    try:
        return orjson.dumps(value, default=_default, option=_OPTIONS)
    except (TypeError, RecursionError) as error:
        # orjson rejects large integers, lone surrogates, and keys that are not plain text.
        try:
            return _json_of(_STRICT.value(value))
        except Exception as second:
            cause = second if isinstance(second, TypeError) else error.__cause__ or error
            raise NotJSONError(str(cause)) from None


def _json_of(plain: Any) -> bytes:
    try:
        return orjson.dumps(plain)
    except TypeError:
        return exact_json.dumps_slowly(plain)


def to_plain(value: Any) -> Any:
    """Return the value in JSON types, with text for values that JSON cannot represent. Never
    raises."""
    try:
        return orjson.loads(orjson.dumps(value, default=_default_or_text, option=_OPTIONS))
    except (TypeError, ValueError, RecursionError):
        try:
            plain = _LENIENT.value(value)
            exact_json.dumps(plain)
        except Exception:
            return _text(value)
        return plain


def _default_or_text(value: Any) -> Any:
    try:
        return _default(value)
    except Exception:
        return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value).encode("utf-8", "backslashreplace").decode()
    except Exception:
        return f"<{type(value).__name__}>"


def _default(value: Any) -> Any:
    """Return a simpler value for a type that orjson does not know. Raises TypeError."""
    encoded = _of_numpy(value)
    if encoded is not value:
        return encoded
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes | bytearray | memoryview | complex | datetime.timedelta):
        raise _refusal(value)
    if isinstance(value, datetime.date | datetime.time):
        return None if value != value else value.isoformat()  # pandas.NaT is a datetime too
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return _sorted(value)
    if isinstance(value, Sequence | Set):
        return list(value)
    if isinstance(value, decimal.Decimal):
        return str(value) if value.is_finite() else None
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: getattr(value, name) for name in names if not name.startswith("_")}
    encoded = _of_pandas(value)
    if encoded is value:
        encoded = _of_another_library(value)
    if encoded is value:
        raise _refusal(value)
    return encoded


def _refusal(value: Any) -> TypeError:
    hints = (_HINTS.get(name, "") for name in _bases(value))
    hint = next(filter(None, hints), "")
    return TypeError(f"{type(value).__name__} cannot be encoded" + (f"; {hint}" if hint else ""))


def _bases(value: Any) -> list[str]:
    """Return the full names of the value's type and of its base types."""
    modules = [(base.__module__, base.__qualname__) for base in type(value).__mro__]
    return [name if module == "builtins" else f"{module}.{name}" for module, name in modules]


def _sorted(items: Iterable[Any]) -> list[Any]:
    """Return the items of a set in an order that depends only on the items."""
    items = list(items)
    if all(isinstance(item, str) for item in items) or all(type(item) is int for item in items):
        return sorted(items)
    return sorted(items, key=to_json)


# --- other libraries: each function returns the value itself if it does not know its type


def _of_numpy(value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray | numpy.generic):
        return value
    if isinstance(value, numpy.ma.MaskedArray):
        if value.ndim == 0:
            return None if value.mask else value.data[()]
        return list(value)
    kind = value.dtype.kind
    if kind in _NUMBERS:
        if value.ndim == 0 and (kind != "f" or value.dtype.itemsize == 8):
            return value.item()
        return _fragment(numpy, value)
    if kind == "M":
        native = value.astype(value.dtype.newbyteorder("="))  # numpy misreads other orders
        return _dates(numpy.datetime_as_string(native).tolist())
    if kind in "cmS" or (kind == "V" and value.dtype.names is None):
        raise TypeError(f"numpy values of type {value.dtype} cannot be encoded")
    if kind == "V" and value.ndim == 0:
        return [value[name] for name in value.dtype.names]
    return list(value) if kind == "V" else value.tolist()


def _fragment(numpy: Any, value: Any) -> orjson.Fragment:
    """Return the numbers of an array or a scalar as JSON, for any memory layout."""
    kind, size = value.dtype.kind, value.dtype.itemsize
    if kind == "f" and size not in (4, 8):
        dtype = numpy.dtype("float32" if size < 4 else "float64")
    else:
        dtype = value.dtype.newbyteorder("=")
    array = numpy.asarray(value, dtype=dtype, order="C")
    plain = array if array.ndim else array[()]
    return orjson.Fragment(orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY))


def _dates(texts: Any) -> Any:
    """Return ISO 8601 texts for dates that numpy has written in the unit of their array."""
    return [_dates(text) for text in texts] if isinstance(texts, list) else _date(texts)


def _date(text: str) -> str | None:
    """Return the date with its time of day, so that the text does not depend on the unit."""
    if text == "NaT":
        return None
    date, _, time = text.partition("T")
    year, *rest = date.split("-")
    if len(year) != 4:
        raise TypeError(f"the date {text} is outside of the years 0000 to 9999 of ISO 8601")
    date = "-".join([year, *rest, "01", "01"][:3])
    time, _, fraction = time.partition(".")
    time = f"{time or '00'}:00:00"[:8]
    fraction = fraction.rstrip("0")
    if fraction:
        digits = 6 if len(fraction) <= 6 else math.ceil(len(fraction) / 3) * 3
        time += f".{fraction:0<{digits}}"
    return f"{date}T{time}"


def _of_pandas(value: Any) -> Any:
    pandas = sys.modules.get("pandas")
    if pandas is None or not hasattr(pandas, "DataFrame"):  # its import may be in progress
        return value
    if value is pandas.NA:
        return None
    if isinstance(value, pandas.DataFrame):
        names = _STRICT.keys(value.columns)
        columns = [_column(value.iloc[:, position]) for position in range(len(names))]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if isinstance(value, pandas.Series | pandas.Index | pandas.api.extensions.ExtensionArray):
        return _column(value)
    return value


def _column(values: Any) -> list[Any]:
    """Return the values of a Series, an Index or a pandas array."""
    numpy = sys.modules["numpy"]
    if not isinstance(values.dtype, numpy.dtype):  # an array of floats would lose digits
        values = values.astype(object)
    plain: list[Any] = _STRICT.value(numpy.asarray(values))
    return plain


def _of_another_library(value: Any) -> Any:
    """Return a pydantic model as its fields, an array or a tensor as nested lists."""
    if isinstance(value, type):
        return value
    dump = getattr(type(value), "model_dump", None)
    if callable(dump):
        return dump(value)
    if "PIL.Image.Image" in _bases(value):
        raise _refusal(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and callable(getattr(type(value), "__array__", None)):
        try:
            array = numpy.asarray(value)
        except Exception:  # for example, it is on another device
            array = None
        if array is not None and array.dtype.kind != "O":
            return array
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else value


# --- without orjson


@dataclasses.dataclass(frozen=True)
class _Simplifier:
    """Converts a value to JSON types. `default` simplifies other types, `text` converts each
    string."""

    default: Callable[[Any], Any]
    text: Callable[[Any], str]

    def value(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return self.value(value.value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int):
            return int.__int__(value)
        if type(value) is float:
            return value if math.isfinite(value) else None
        if isinstance(value, dict):
            return dict(zip(self.keys(value), self.items(value.values()), strict=True))
        if isinstance(value, list | tuple):
            return self.items(value)
        if isinstance(value, uuid.UUID):
            return str(value)
        if isinstance(value, orjson.Fragment):
            return orjson.loads(orjson.dumps(value))
        simpler = self.default(value)
        if simpler is value:
            raise _refusal(value)
        return self.value(simpler)

    def items(self, values: Iterable[Any]) -> list[Any]:
        return [self.value(item) for item in values]

    def keys(self, keys: Iterable[Any]) -> list[str]:
        """Return the keys as JSON texts. Raises TypeError if two of them are equal."""
        texts = [self._key(key) for key in keys]
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise TypeError(f"two keys of the same object are {twice!r} in JSON")
        return texts

    def _key(self, key: Any) -> str:
        plain = self.value(key)
        if isinstance(plain, list | dict):
            raise TypeError(f"a key that is a {type(key).__name__} cannot be encoded")
        return plain if isinstance(plain, str) else exact_json.dumps(plain).decode()


_STRICT = _Simplifier(_default, str.__str__)
_LENIENT = _Simplifier(_default_or_text, _text)
