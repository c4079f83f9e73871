"""A common interface to a model that is a module, an instance of a class, or any object."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from deepaas.model.v2.base import BaseModel


class UploadedFile(NamedTuple):
    """A file in a request.

    `filename` is the path of a temporary file, which is removed after the response; the model may
    open, move or delete it. The path ends with the extensions of the client's file name. `name` is
    the name of the argument, `content_type` the type that the client sent, and `original_filename`
    the client's file name without folders, or "unnamed" if the client sent no usable name.
    """

    name: str | None = None
    filename: str | None = None
    content_type: str | None = None
    original_filename: str | None = None


class NoDictionaryError(TypeError):
    """get_metadata returned something that is not a dictionary."""


class ModelWrapper:
    """The model called `name`: a module or object. Attributes are looked up at every call."""

    def __init__(self, name: str, model: object) -> None:
        self.name = name
        self.model = model

    def __repr__(self) -> str:
        return f"<ModelWrapper {self.name}: {self.model!r}>"

    def function(self, name: str) -> Callable[..., Any] | None:
        """Return the function that the model defines under this name, or None."""
        found = getattr(self.model, name, None)
        if not callable(found):
            return None
        if getattr(found, "__func__", None) is getattr(BaseModel, name, found):
            return None
        return found  # type: ignore[no-any-return]

    def has(self, name: str) -> bool:
        return self.function(name) is not None

    @property
    def schema(self) -> Any:
        """The declared schema of the response, or None."""
        return getattr(self.model, "schema", None)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the model, merged over default values of `id` and `name`.

        Raises NoDictionaryError, and every exception that get_metadata raises.
        """
        get_metadata = self.function("get_metadata")
        if get_metadata is None:
            return self.stock_metadata()
        own = get_metadata()
        if not isinstance(own, dict):
            name = "None" if own is None else f"a {type(own).__name__}"
            raise NoDictionaryError(f"get_metadata returns {name}, and not a dictionary")
        return {"id": self.name, "name": self.name} | own

    def stock_metadata(self) -> dict[str, Any]:
        """Return the metadata of a model without get_metadata; the description is its docstring."""
        return {"id": "0", "name": self.name, "description": docstring(self.model)}

    def fields(self, function: str) -> Any:
        """Return what the model's `get_<function>_args` returns, or {} if it has none.

        `function` is predict or train. The value should be a dictionary of fields, or a Schema.
        """
        get_arguments = self.function(f"get_{function}_args")
        return {} if get_arguments is None else get_arguments()

    def warm(self) -> Any:
        """Call the model's warm() if it has one. Return an awaitable if that is `async def`."""
        warm = self.function("warm")
        return None if warm is None else warm()


def docstring(model: object) -> str:
    """Return the docstring of the module, of the class, or of the object's class.

    Return "" if the author wrote none: docstrings of BaseModel and of the standard library do not
    describe this model, and Python generates the docstrings of dataclasses and named tuples.
    """
    documented = model if isinstance(model, ModuleType) else type(model)
    text = documented.__doc__
    if not isinstance(text, str):
        return ""
    if isinstance(documented, type) and (
        documented is BaseModel or _is_standard(documented) or _is_signature(text, documented)
    ):
        return ""
    return inspect.cleandoc(text)


def _is_standard(cls: type) -> bool:
    """Return whether the class is from the standard library.

    A model's file may have the same name as a standard module.
    """
    name = str(cls.__module__)
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return not isinstance(file, str) or file.startswith(os.path.dirname(os.__file__) + os.sep)


def _is_signature(text: str, cls: type) -> bool:
    has_fields = hasattr(cls, "__dataclass_fields__") or hasattr(cls, "_fields")
    return has_fields and text.startswith(f"{cls.__name__}(")


def unloaded_metadata(name: str, is_loading: bool = False) -> dict[str, Any]:
    """Return the metadata of a model that no worker has loaded."""
    if is_loading:
        text = "The model is being loaded; its metadata is not available yet"
        return {"id": "0", "name": name, "description": text}
    return {
        "id": "0",
        "name": name,
        "description": f"Could not load description from underlying model (loaded {name!r})",
    }
