"""One face for a module, a class's instance or any object that is a model."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from deepaas.model.v2.base import BaseModel


class UploadedFile(NamedTuple):
    """A file that came with a request.

    `filename` is the path of a temporary file, which is removed after the answer: the model may
    open, move or delete it. It ends with the extensions of the client's name. `name` is the
    argument's name, `content_type` what the client said the file is, `original_filename` the
    client's name for it, without folders; "unnamed" if the client gave no name that can be used.
    """

    name: str | None = None
    filename: str | None = None
    content_type: str | None = None
    original_filename: str | None = None


class NoDictionaryError(TypeError):
    """get_metadata has returned something else than a dictionary."""


class ModelWrapper:
    """The model called `name`: a module or object, reached by attribute at every call."""

    def __init__(self, name: str, model: object) -> None:
        self.name = name
        self.model = model

    def __repr__(self) -> str:
        return f"<ModelWrapper {self.name}: {self.model!r}>"

    def function(self, name: str) -> Callable[..., Any] | None:
        """The model's function of that name, or None if it has none of its own."""
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
        """The form of the answer, as the model gives it; None if it does not."""
        return getattr(self.model, "schema", None)

    def metadata(self) -> dict[str, Any]:
        """What the model says of itself, over the `id` and `name` that it has anyway.

        Raises what the model's get_metadata raises, and NoDictionaryError.
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
        """The metadata of a model that gives none: its docstring describes it."""
        return {"id": "0", "name": self.name, "description": docstring(self.model)}

    def fields(self, function: str) -> Any:
        """What the model's function that declares the arguments of `function` (predict, train)
        returns; it should be a dictionary of fields, or a Schema. Without that function, {}."""
        get_arguments = self.function(f"get_{function}_args")
        return {} if get_arguments is None else get_arguments()

    def warm(self) -> Any:
        """Call the model's warm(), if it has one; an awaitable if that is `async def`."""
        warm = self.function("warm")
        return None if warm is None else warm()


def docstring(model: object) -> str:
    """What the author of the model wrote about it: the docstring of the module, of the class, or of
    the object's class. Empty if the author wrote none.

    The docstrings of BaseModel and of the standard library are not about this model, and the
    signature that Python gives to dataclasses and named tuples is not written by an author.
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
    """Whether the class comes from the standard library; a model's file may be named like a part of
    it."""
    name = str(cls.__module__)
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return not isinstance(file, str) or file.startswith(os.path.dirname(os.__file__) + os.sep)


def _is_signature(text: str, cls: type) -> bool:
    has_fields = hasattr(cls, "__dataclass_fields__") or hasattr(cls, "_fields")
    return has_fields and text.startswith(f"{cls.__name__}(")


def unloaded_metadata(name: str, is_loading: bool = False) -> dict[str, Any]:
    """The metadata of a model that no worker has loaded, or not yet."""
    if is_loading:
        text = "The model is being loaded; it has not described itself yet"
        return {"id": "0", "name": name, "description": text}
    return {
        "id": "0",
        "name": name,
        "description": f"Could not load description from underlying model (loaded {name!r})",
    }
