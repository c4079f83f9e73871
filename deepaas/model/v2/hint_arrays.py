"""numpy arrays as types of arguments. numpy is only imported if the model has imported it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from marshmallow import ValidationError, fields

from deepaas.model.v2.hint_constraints import HintError, Made, Values


def array_of(hint: Any) -> Made:
    """Return how to make the field for `np.ndarray` or `npt.NDArray[...]`. Raises HintError.

    The type hint may have a data type, and a shape, of which only the number of axes counts.
    """
    shape, dtype = (*get_args(hint), Any, Any)[:2] if get_args(hint) else (Any, Any)
    kind = _data_type(dtype)
    axes = _axes(shape)
    inner: fields.Field = _INNER[kind.kind if kind is not None else ""]()
    for _ in range((axes or 1) - 1):
        inner = fields.List(inner)
    if axes is None:
        inner = fields.Raw()
    values = Values("an array", (np.ndarray,), sized=True)
    return Made(ArrayField, values, (inner,), {"dtype": kind, "axes": axes})


_INNER: dict[str, type[fields.Field]] = {
    "": fields.Float,
    "f": fields.Float,
    "i": fields.Integer,
    "u": fields.Integer,
    "b": fields.Boolean,
}


def _data_type(hint: Any) -> np.dtype[Any] | None:
    """Return the data type in the hint, or None if it may be any that holds numbers."""
    arguments = get_args(hint)
    scalar = arguments[0] if arguments else Any
    if scalar is Any or not isinstance(scalar, type) or scalar in _ABSTRACT:
        return None
    dtype = np.dtype(scalar)
    if dtype.kind not in _INNER:
        raise HintError(
            f"has an array of {dtype}, which JSON cannot hold", "write npt.NDArray[np.float64]"
        )
    return dtype


_ABSTRACT = (np.generic, np.number, np.inexact, np.floating, np.integer, np.signedinteger)
"""Types that stand for several: any of these is allowed."""


def _axes(hint: Any) -> int | None:
    arguments = get_args(hint)
    return len(arguments) if arguments and Ellipsis not in arguments else None


class ArrayField(fields.List):
    """A numpy array, sent as nested lists of numbers.

    `dtype` is its data type, or None for that which numpy chooses; `axes` the number of its axes,
    or None for any. An array in a request has at least one axis.
    """

    def __init__(
        self, inner: fields.Field, *, dtype: Any = None, axes: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(inner, **kwargs)
        self.dtype = dtype
        self.axes = axes

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, list):
            raise ValidationError("Not a valid list.")
        array = self._converted(value)
        if self.axes is not None and array.ndim != self.axes:
            raise ValidationError(
                f"Must have {self.axes} {'axis' if self.axes == 1 else 'axes'}, "
                f"but has {array.ndim}, with the shape {array.shape}."
            )
        return array

    def _converted(self, value: list[Any]) -> np.ndarray[Any, Any]:
        try:
            array = np.asarray(value)
        except (ValueError, OverflowError):
            raise ValidationError(_unequal(value) or "Not lists of numbers.") from None
        wanted = self.dtype
        if array.size == 0 and array.dtype.kind == "f":
            return array.astype(wanted if wanted is not None else np.float64)
        if array.dtype.kind == "U" and (wanted is None or wanted.kind != "b"):  # from a form
            array = _from_texts(
                array, np.int64 if wanted is not None and wanted.kind in "iu" else float
            )
        if array.dtype.kind not in "biuf":
            raise ValidationError(_unequal(value) or "Must be nested lists of numbers only.")
        if not np.isfinite(array).all():
            raise ValidationError("Must not have NaN or infinite numbers.")
        return array if wanted is None else _cast(array, wanted)

    def _serialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return None if value is None else np.asarray(value).tolist()


def _from_texts(array: np.ndarray[Any, Any], kind: Any) -> np.ndarray[Any, Any]:
    try:
        return array.astype(kind)
    except ValueError:
        raise ValidationError("Must be nested lists of numbers only.") from None


def _cast(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return the array with the data type. Raises ValidationError if a value does not fit."""
    if dtype.kind == "b" and array.dtype.kind != "b":
        raise ValidationError("Must be nested lists of true and false only.")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.dtype.kind == "f" and (array != np.floor(array)).any():
            raise ValidationError("Must be whole numbers.")
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise ValidationError(f"Must be numbers from {limits.min} to {limits.max}.")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(cast).all():
        raise ValidationError(f"Must be numbers of at most {np.finfo(dtype).max}.")
    return cast


def _unequal(value: Sequence[Any]) -> str:
    """Return where nested lists have unequal lengths, or "" if they do not."""
    level: list[Any] = [value]
    depth = 0
    while level and all(isinstance(one, list) for one in level):
        lengths = {len(one) for one in level}
        if len(lengths) > 1:
            least, most = min(lengths), max(lengths)
            return (
                f"The lists at depth {depth} have unequal lengths, from {least} to {most}; "
                "an array needs equal ones."
            )
        level = [item for one in level for item in one]
        depth += 1
    if any(isinstance(one, list) for one in level):
        return f"The lists at depth {depth - 1} have both numbers and lists."
    return ""
