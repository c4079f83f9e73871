"""The examples that the author of a model declares: `examples` and `train_examples`.

Each is a dictionary of arguments as a client would send them. The value of a file argument is the
path of a file in the directory of the model's module.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import mimetypes
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from deepaas import exact_json
from deepaas.model.v2.arguments import Argument, Arguments, InvalidArgumentsError
from deepaas.model.v2.declarations import a, listed
from deepaas.model.v2.failures import describe
from deepaas.model.v2.json_schema import Json
from deepaas.model.v2.parts import runs_own_code, takes_text
from deepaas.model.v2.places import at, place_of_attribute
from deepaas.model.v2.validation import holds_secrets
from deepaas.model.v2.wrapper import ModelWrapper, UploadedFile

ATTRIBUTES = {"predict": "examples", "train": "train_examples"}
"""The attribute with the examples of each function."""

MAX_BYTES = 256 * 1024
"""Bytes of JSON; further examples of a function are left out."""

MAX_EXAMPLES = 100
"""Further examples of a function are left out."""

_MAX_MISTAKES = 5  # the list may be something else, with thousands of items
_DEFAULT_TYPE = "application/octet-stream"
_MAX_TEXT = 300  # characters of the messages about an example


@dataclass
class Examples:
    """The valid examples of a model.

    `by_function` has a list for `predict`, and one for `train` if the model has trainings. In an
    example, a file is `{"file": path, "media_type": type, "size": bytes}`; secrets are left out.
    `files` maps each path to the absolute path of the file. `mistakes` has a line for each example
    that is not valid.
    """

    by_function: dict[str, list[Json]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)


def read_examples(
    model: ModelWrapper, file: str, arguments: Mapping[str, Arguments], scratch: str = ""
) -> Examples:
    """Return the examples that the model declares for the functions in `arguments`.

    `file` is the file of the model's module. Copies of files are made in the directory `scratch`,
    and removed. Never raises, unless a value of the model's own class does.
    """
    made = Examples()
    for function, name in ATTRIBUTES.items():
        declared = inspect.getattr_static(model.model, name, None)  # a property may run the model
        if not _is_declaration(declared):
            continue
        reader = _Reader(model, name, file, scratch)
        if not isinstance(declared, list | tuple):
            text = f"{name} is {a(declared)}, and not a list; write {name} = "
            reader.tell(text + '[{"name": value}]')
        elif not model.has(function) and function not in arguments:
            reader.tell(f"{name} is declared, but there is no {function}; write def {function}")
        elif function in arguments:  # else they have a mistake
            made.by_function[function] = reader.read(declared, arguments[function], function)
        made.files |= reader.files
        made.mistakes += reader.mistakes
    return made


def _is_declaration(value: Any) -> bool:
    """Return whether the value is meant as examples, and is not a function or module, say."""
    is_part = isinstance(value, ModuleType) or callable(value) or hasattr(value, "__get__")
    return value is not None and not is_part


class _InvalidExampleError(Exception):
    """An example is not valid; the text says why, and what to write."""


class _Reader:
    """Reads the examples in one attribute of the model."""

    def __init__(self, model: ModelWrapper, name: str, file: str, scratch: str) -> None:
        self._model = model
        self._name = name
        self._file = file
        self._scratch = scratch
        self._found: dict[str, str] = {}  # the files of the current example
        self.files: dict[str, str] = {}
        self.mistakes: list[str] = []

    def tell(self, text: str, item: int = -1) -> None:
        self.mistakes.append(at(place_of_attribute(self._model.model, self._name, item=item), text))

    def read(self, declared: Any, arguments: Arguments, function: str) -> list[Json]:
        """Return the valid examples, and note a mistake for each other one."""
        valid: list[Json] = []
        size = 0
        if len(declared) > MAX_EXAMPLES:
            self.tell(f"{self._name} has more than {MAX_EXAMPLES} examples; write fewer")
        for index, example in enumerate(declared[:MAX_EXAMPLES]):
            label = f"{self._name}[{index}]"
            self._found = {}
            try:
                shown = self._example(example, arguments, function)
                size += len(exact_json.dumps(shown))
                if size > MAX_BYTES:
                    text = f"{label} is left out, because the examples have more than {MAX_BYTES} "
                    self.tell(text + "bytes together; write shorter ones", index)
                    break
                valid.append(shown)
                self.files |= self._found
            except _InvalidExampleError as error:
                self.tell(f"{label} {error}", index)
                is_hopeless = not isinstance(example, Mapping)  # so are probably the others
                if is_hopeless or len(self.mistakes) == _MAX_MISTAKES:
                    break
        return valid

    def _example(self, example: Any, arguments: Arguments, function: str) -> Json:
        """Return the example as clients see it. Raises _InvalidExampleError."""
        if not isinstance(example, Mapping):
            raise _InvalidExampleError(
                f'is {a(example)}, and not a dictionary of arguments; write {{"name": value}}'
            )
        known = {one.name: one for one in arguments.visible}
        _check_names([str(name) for name in example], known, arguments, function)
        shown: Json = {}
        sent: Json = {}
        with contextlib.ExitStack() as copies:
            for name, value in example.items():
                argument = known[str(name)]
                if self._is_of_files(argument, value):
                    shown[argument.name] = self._each(value, self._shown_file)
                    directory = None
                    if runs_own_code(argument.field) or arguments.passed is None:
                        # The code may move or remove the file.
                        directory = copies.enter_context(self._directory())
                    make = functools.partial(self._sent, argument, directory)
                    sent[argument.name] = self._each(value, make)
                else:
                    shown[argument.name] = sent[argument.name] = _plain(argument.name, value)
            _check_values(sent, arguments)
        return {name: value for name, value in shown.items() if not _is_secret(known[name])}

    def _is_of_files(self, argument: Argument, value: Any) -> bool:
        """Return whether the texts in the value are paths, and not what a client sends as text."""
        if not argument.is_file or "form" not in argument.locations:
            return False
        if not takes_text(argument.field):
            return True
        paths = value if isinstance(value, list | tuple) else [value]
        directory = os.path.dirname(self._file)
        return any(
            isinstance(one, os.PathLike) or os.path.isfile(os.path.join(directory, one))
            for one in paths
            if isinstance(one, str | os.PathLike)
        )

    @contextlib.contextmanager
    def _directory(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=self._scratch or None) as directory:
            yield directory

    @staticmethod
    def _each(value: Any, make: Callable[[str], Any]) -> Any:
        """Return the result for a path, or for each path in a list; other values stay the same."""
        if isinstance(value, list | tuple):
            return [_Reader._each(one, make) for one in value]
        is_path = isinstance(value, os.PathLike) or (isinstance(value, str) and value)
        return make(os.fspath(value)) if is_path else _plain("the file", value)

    def _shown_file(self, path: str) -> Json:
        found = self._find(path)
        relative = os.path.relpath(found, os.path.realpath(os.path.dirname(self._file)))
        self._found[relative] = found
        return {
            "file": relative,
            "media_type": _type_of(found),
            "size": os.path.getsize(found),
        }

    def _sent(self, argument: Argument, directory: str | None, path: str) -> UploadedFile:
        found = self._find(path)
        name = os.path.basename(found)
        if directory is not None:
            try:
                found = shutil.copyfile(found, os.path.join(directory, name))
            except OSError as error:
                raise _InvalidExampleError(
                    f"cannot be checked, because the file {path!r} cannot be copied: "
                    f"{error.strerror}"
                ) from None
        return UploadedFile(argument.name, found, _type_of(name), name)

    def _find(self, path: str) -> str:
        """Return the absolute path of an example's file, which is in the module's directory."""
        module = os.path.basename(self._file) or "the model"
        directory = os.path.realpath(os.path.dirname(self._file)) if self._file else os.devnull
        found = os.path.realpath(os.path.join(directory, path.replace("\0", "\\0")))
        if not found.startswith(directory.rstrip(os.sep) + os.sep):
            raise _InvalidExampleError(
                f"names the file {path!r}, which is outside of the directory of {module}; "
                "move it there"
            )
        if not os.path.isfile(found) or not os.access(found, os.R_OK):
            raise _InvalidExampleError(
                f"names the file {path!r}, but the directory of {module} has no such file; "
                "write a path relative to it"
            )
        return found


def _check_names(
    names: list[str], known: Mapping[str, Argument], arguments: Arguments, function: str
) -> None:
    wrong = [name for name in names if name not in known]
    if not wrong:
        return
    field = arguments.schema.fields.get(wrong[0])
    wire_name = field.data_key if field is not None else None
    near = [wire_name] if wire_name else difflib.get_close_matches(wrong[0], [*known], n=1)
    remedy = f"write {near[0]!r}" if near else "remove it" if len(wrong) == 1 else "remove them"
    raise _InvalidExampleError(
        f"has {listed(wrong)}, which get_{function}_args does not declare; {remedy}"
    )


def _plain(name: str, value: Any) -> Any:
    """Return the value as a client would get it from JSON. Raises _InvalidExampleError."""
    try:
        return exact_json.loads(exact_json.dumps(value))
    except (TypeError, ValueError):
        raise _InvalidExampleError(
            f"has {a(value)} for {name!r}, which JSON cannot hold; write the value that a client "
            "would send"
        ) from None


def _check_values(sent: Json, arguments: Arguments) -> None:
    """Raise _InvalidExampleError if a request with these values would be refused."""
    try:
        arguments.check_values(sent)
    except InvalidArgumentsError as error:
        text = "; ".join(_messages(error.messages))[:_MAX_TEXT]
        raise _InvalidExampleError(
            f"is not valid ({text}); write the arguments of a request that is"
        ) from None
    except BaseException as error:  # a field of the model's own class may raise anything
        raise _InvalidExampleError(f"cannot be checked: {describe(error)}") from None


def _messages(messages: Any, name: str = "") -> Iterator[str]:
    """Yield each message of marshmallow, after the name of its argument."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from _messages(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(messages, list | tuple):
        for one in messages:
            yield from _messages(one, name)
    else:
        yield f"{name}: {str(messages).rstrip('.')}"


def _is_secret(argument: Argument) -> bool:
    try:
        return holds_secrets(argument.field)
    except Exception:  # a field of the model's own class
        return True


def _type_of(path: str) -> str:
    media_type, encoding = mimetypes.guess_type(path)
    return media_type if media_type and not encoding else _DEFAULT_TYPE
