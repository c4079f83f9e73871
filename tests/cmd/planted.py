"""Typical mistakes of model authors, and the log line of the server about each.

Each is a small model in a separate file. `said` is the log line from "Model" on, where `{at}`
stands for the name of the file and of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

FIELDS = "from webargs import fields, validate\n"
HINTS = "from typing import Annotated, Literal\nfrom webargs import fields, validate\n"


@dataclass(frozen=True)
class Planted:
    """A mistake: description, code, expected log line, and the attribute that is served."""

    what: str
    code: str
    said: str
    attribute: str = ""


def arguments(
    *entries: str, predict: str = "def predict(**arguments):\n    return arguments\n"
) -> str:
    """Return a model with these entries in the dictionary that its get_predict_args returns.

    The first entry is on line 4.
    """
    inner = "".join(f"        {entry},\n" for entry in entries)
    return f"{FIELDS}def get_predict_args():\n    return {{\n{inner}    }}\n{predict}"


def with_examples(declaration: str) -> str:
    """Return a model with the arguments x and image, and a declaration, which is on line 9."""
    image = '"image": fields.Raw(metadata={"type": "file", "location": "form"})'
    return arguments('"x": fields.Float()', image) + f"{declaration}\n"


MISTAKES = {
    # --- mistakes that prevent serving
    "syntax": Planted(
        "a syntax error",
        "def predict(:\n    return 1\n",
        "Model syntax cannot be imported: syntax.py:1: SyntaxError: invalid syntax",
    ),
    "missing_library": Planted(
        "a library that is not installed",
        "import json\nimport numpyy\n",
        "Model missing_library cannot be imported: missing_library.py:2: ModuleNotFoundError: "
        "No module named 'numpyy'; install numpyy in the Python environment of deepaas-run",
    ),
    "unknown_name": Planted(
        "a name that is not defined, such as a forgotten import",
        "def get_predict_args():\n    return {'x': fields.Float()}\n",
        "Model unknown_name cannot be loaded: unknown_name.py:2: NameError: "
        "name 'fields' is not defined",
    ),
    "exits": Planted(
        "the module calls sys.exit",
        "import sys\nsys.exit(2)\n",
        "Model exits cannot be imported: exits.py:2: SystemExit: sys.exit(2) was called",
    ),
    "wrong_attribute": Planted(
        "deepaas-run wrong_attribute.py:Modle",
        "class Model:\n    def predict(self):\n        return 1\n",
        "Model wrong_attribute cannot be imported: wrong_attribute.py has no attribute 'Modle'; "
        "did you mean Model?",
        "Modle",
    ),
    "needy_class": Planted(
        "a class that cannot be made without arguments",
        "class Needy:\n    def __init__(self, weights):\n        self.weights = weights\n",
        "Model needy_class cannot be imported: the class Needy cannot be instantiated without "
        "'weights'; give defaults in __init__, "
        "or create an instance and serve needy_class.py:<its name>",
        "Needy",
    ),
    "list_of_arguments": Planted(
        "get_predict_args returns a list",
        FIELDS + "def get_predict_args():\n    return [fields.Float()]\n",
        "Model list_of_arguments cannot be loaded: list_of_arguments.py:2: get_predict_args "
        'returns a list, and not a dictionary; write return {"name": fields.Str()}',
    ),
    "field_class": Planted(
        "a field without parentheses",
        arguments('"x": fields.Float'),
        "Model field_class cannot be loaded: field_class.py:4: the argument 'x' is the class "
        "fields.Float; write fields.Float()",
    ),
    "python_type": Planted(
        "a type of Python in place of a field",
        arguments('"x": float'),
        "Model python_type cannot be loaded: python_type.py:4: the argument 'x' is the type "
        "float, and not a field; write fields.Float()",
    ),
    "default_only": Planted(
        "a default value in place of a field",
        arguments('"threshold": 0.5'),
        "Model default_only cannot be loaded: default_only.py:4: the argument 'threshold' is 0.5, "
        "and not a field; write fields.Float(load_default=0.5)",
    ),
    "async_arguments": Planted(
        'get_predict_args is "async def"',
        "async def get_predict_args():\n    return {}\n",
        "Model async_arguments cannot be loaded: async_arguments.py:1: get_predict_args is "
        '"async def", but it is not awaited; write def get_predict_args',
    ),
    "required_default": Planted(
        "a field that is required and has a default",
        arguments('"x": fields.Float(required=True, load_default=1)'),
        "Model required_default cannot be loaded: required_default.py:4: ValueError: "
        "'load_default' must not be set for required fields.",
    ),
    "schema_text": Planted(
        "a schema that is not a schema",
        'def predict():\n    return 1\n\nschema = "float"\n',
        "Model schema_text cannot be loaded: schema_text.py:4: schema is a str, and neither a "
        'dictionary of fields nor a marshmallow Schema; write schema = {"name": fields.Str()}',
    ),
    "json_schema": Planted(
        "a JSON schema in place of fields",
        'schema = {\n    "type": "object",\n}\n',
        "Model json_schema cannot be loaded: json_schema.py:2: in schema, the field 'type' is "
        "'object', and not a field; write fields.Str()",
    ),
    "warm_with_self": Planted(
        "warm in a module has the parameter self",
        "def warm(self):\n    pass\n",
        "Model warm_with_self cannot be loaded: warm_with_self.py:1: warm is called without "
        "arguments, but needs 'self'; remove it",
    ),
    "arguments_without_self": Planted(
        "a method lacks self",
        "class Model:\n    def get_predict_args():\n        return {}\n",
        "Model arguments_without_self cannot be loaded: arguments_without_self.py:2: "
        "get_predict_args lacks the parameter self; write def get_predict_args(self)",
        "Model",
    ),
    "no_weights": Planted(
        "warm does not find a file",
        'def warm():\n    open("weights.pt")\n',
        "Model no_weights cannot be warmed: no_weights.py:2: FileNotFoundError: "
        "[Errno 2] No such file or directory: 'weights.pt'",
    ),
    "batch_size": Planted(
        "max_batch_size is a text",
        'max_batch_size = "32"\ndef predict_batch(batch):\n    return batch\n',
        "Model batch_size cannot be loaded: batch_size.py:1: max_batch_size is '32', but must be "
        "a whole number from 1 to 1000000000; write max_batch_size = 32",
    ),
    "nothing_declared": Planted(
        "a parameter without a default and without a type hint, and no get_predict_args",
        "def predict(x):\n    return x\n",
        "Model nothing_declared cannot be loaded: nothing_declared.py:1: the argument 'x' of "
        "predict has no type hint; write x: float, for example",
    ),
    "hint_type": Planted(
        "a type hint for values that requests cannot have",
        "def predict(\n    x: float,\n    y: complex,\n):\n    return x\n",
        "Model hint_type cannot be loaded: hint_type.py:3: the argument 'y' of predict has the "
        "type complex, which no value of a request can have; write another type, such as str",
    ),
    "hint_unknown": Planted(
        "a type hint with a name that is not defined",
        "from __future__ import annotations\ndef predict(x: Size):\n    return x\n",
        "Model hint_unknown cannot be loaded: hint_unknown.py:2: the argument 'x' of predict has "
        "the type hint Size, in which 'Size' is not defined; define or import Size at the top of "
        "the module",
    ),
    "hint_range": Planted(
        "a constraint that does not fit the type",
        HINTS + "def predict(x: Annotated[str, validate.Range(1, 9)]):\n    return x\n",
        "Model hint_range cannot be loaded: hint_range.py:3: the argument 'x' of predict has a "
        "constraint on its range, but a text has no order; write validate.Length or remove it",
    ),
    "hint_limits": Planted(
        "two constraints that no value meets",
        HINTS + "Big = validate.Range(min=2)\nSmall = validate.Range(max=1)\n"
        "def predict(x: Annotated[int, Big, Small]):\n    return x\n",
        "Model hint_limits cannot be loaded: hint_limits.py:5: the argument 'x' of predict has "
        "limits of its range that exclude every value (2 and 1); change one of them",
    ),
    "hint_field": Planted(
        "a field without parentheses in Annotated",
        HINTS + "def predict(x: Annotated[str, fields.Email]):\n    return x\n",
        "Model hint_field cannot be loaded: hint_field.py:3: the argument 'x' of predict has the "
        "class fields.Email; write fields.Email()",
    ),
    "hint_types": Planted(
        "a type hint with several types",
        "def predict(x: int | str):\n    return x\n",
        "Model hint_types cannot be loaded: hint_types.py:1: the argument 'x' of predict has "
        "several types, int | str; write one of them, or None besides",
    ),
    # --- mistakes that do not prevent serving
    "hint_default": Planted(
        "a default that its type hint does not allow",
        HINTS + "def predict(x: Annotated[float, validate.Range(0, 1)] = 2):\n    return x\n",
        "Model hint_default: hint_default.py:3: the argument 'x' of predict is not offered, "
        "because it does not allow its own default 2 (Must be greater than or equal to 0 and less "
        "than or equal to 1); write a default that it allows",
    ),
    "hint_missing": Planted(
        "a parameter with a default and without a type hint, and no get_predict_args",
        "def predict(x: float, size=2):\n    return x\n",
        "Model hint_missing: hint_missing.py:1: the argument 'size' of predict is not offered, "
        "because it has no type hint; write size: int = 2",
    ),
    "hint_accept": Planted(
        "the type hint of accept has no choices",
        "def predict(accept: str):\n    return b''\n",
        "Model hint_accept: hint_accept.py:1: the argument 'accept' has no choices, so that the "
        "server cannot tell which media types predict returns; write "
        'accept: Literal["application/json", "image/png"]',
    ),
    "hint_train": Planted(
        "a type hint of train for values that requests cannot have (trainings are refused)",
        "def train(rate: complex):\n    return 1\n",
        "Model hint_train: hint_train.py:1: the argument 'rate' of train has the type complex, "
        "which no value of a request can have; write another type, such as str",
    ),
    "not_taken": Planted(
        "predict does not take a declared argument",
        arguments('"x": fields.Float()', predict="def predict():\n    return 1\n"),
        "Model not_taken: not_taken.py:6: predict does not take 'x', which get_predict_args "
        "declares; add x or **arguments to its parameters",
    ),
    "not_declared": Planted(
        "predict needs an argument that is not declared",
        arguments(
            '"x": fields.Float(required=True)',
            predict="def predict(x, size: int):\n    return x\n",
        ),
        "Model not_declared: not_declared.py:6: predict needs 'size', which get_predict_args does "
        'not declare; add "size": fields.Int(required=True) to it',
    ),
    "two_names": Planted(
        "an argument is spelt differently in two places",
        arguments(
            '"treshold": fields.Float(load_default=1)',
            predict="def predict(threshold):\n    return threshold\n",
        ),
        "Model two_names: two_names.py:6: predict takes 'threshold', but get_predict_args declares "
        "'treshold'; write the same name in both",
    ),
    "one_dictionary": Planted(
        "predict expects all arguments in one",
        arguments('"x": fields.Float()', predict='def predict(args):\n    return args["x"]\n'),
        "Model one_dictionary: one_dictionary.py:6: predict gets its arguments by name, and not "
        "as one; write def predict(**args)",
    ),
    "left_out": Planted(
        "predict needs an argument that a request may leave out",
        arguments('"x": fields.Float()', predict="def predict(x):\n    return x\n"),
        "Model left_out: left_out.py:6: predict needs 'x', but a request may leave it out; write "
        "fields.Float(required=True) or def predict(x=None)",
    ),
    "self_in_module": Planted(
        "predict in a module has the parameter self",
        "def predict(self):\n    return 1\n",
        "Model self_in_module: self_in_module.py:1: predict is not in a class, but has the "
        "parameter self; remove it",
    ),
    "predict_without_self": Planted(
        "predict in a class lacks self",
        "class Model:\n    def predict():\n        return 1\n",
        "Model predict_without_self: predict_without_self.py:2: predict lacks the parameter self; "
        "write def predict(self, ...)",
        "Model",
    ),
    "train_signature": Planted(
        "train does not take a declared argument",
        FIELDS + "def get_train_args():\n    return {'epochs': fields.Int()}\n"
        "def train():\n    return 1\n",
        "Model train_signature: train_signature.py:4: train does not take 'epochs', which "
        "get_train_args declares; add epochs or **arguments to its parameters",
    ),
    "train_field_class": Planted(
        "a field of get_train_args without parentheses (trainings are refused)",
        FIELDS + "def get_train_args():\n    return {'epochs': fields.Int}\n"
        "def train(epochs=1):\n    return 1\n",
        "Model train_field_class: train_field_class.py:3: the argument 'epochs' is the class "
        "fields.Integer; write fields.Integer()",
    ),
    "misspelt": Planted(
        "a misspelt function",
        "def predit(**arguments):\n    return arguments\ndef train():\n    return 1\n",
        "Model misspelt: misspelt.py:1: the function 'predit' is never called; rename it to "
        "'predict'",
    ),
    "misspelt_arguments": Planted(
        "a misspelt get_predict_args",
        FIELDS + "def get_predict_arg():\n    return {'x': fields.Float()}\n"
        "def predict(**arguments):\n    return arguments\n",
        "Model misspelt_arguments: misspelt_arguments.py:2: the function 'get_predict_arg' is "
        "never called; rename it to 'get_predict_args'",
    ),
    "misspelt_schema": Planted(
        "a misspelt schema",
        FIELDS + "def predict():\n    return {'x': 1.5}\n\nshema = {'x': fields.Float()}\n",
        "Model misspelt_schema: misspelt_schema.py:5: 'shema' is never used; rename it to 'schema'",
    ),
    "no_function": Planted(
        "predict is not a function",
        "def train():\n    return 1\n\npredict = None or 'nothing'\n",
        "Model no_function: no_function.py:4: predict is a str, and not a function; write def "
        "predict",
    ),
    "nothing_to_call": Planted(
        "the model has no function that the server calls",
        '"""A model."""\n\ndef load():\n    return 1\n',
        "Model nothing_to_call: nothing_to_call.py:1: the model has neither predict nor train; "
        "write def predict(**arguments)",
    ),
    "only_a_class": Planted(
        "the same, in a module with a class that has `predict` or `train`",
        "class Flowers:\n    def predict(self):\n        return 1\n",
        "Model only_a_class: only_a_class.py:1: the model has neither predict nor train; "
        "to serve the class Flowers, write :Flowers after the file or module",
    ),
    "no_return": Planted(
        "get_predict_args lacks return",
        FIELDS + "def get_predict_args():\n    {'x': fields.Float()}\n"
        "def predict(**arguments):\n    return arguments\n",
        "Model no_return: no_return.py:2: get_predict_args returns None, and not a dictionary; "
        'write return {"name": fields.Str()}',
    ),
    "accept_without_choices": Planted(
        "accept has no choices",
        arguments('"accept": fields.Str()'),
        "Model accept_without_choices: accept_without_choices.py:4: the argument 'accept' has no "
        "choices, so that the server cannot tell which media types predict returns; write "
        'fields.Str(validate=validate.OneOf(["application/json", "image/png"]))',
    ),
    "accept_png": Planted(
        "a choice of accept is not a media type",
        arguments('"accept": fields.Str(validate=validate.OneOf(["png"]))'),
        "Model accept_png: accept_png.py:4: 'png' in 'accept' is not a media type; write one such "
        "as 'image/png'",
    ),
    "unknown_location": Planted(
        "a location that does not exist",
        arguments('"x": fields.Float(metadata={"location": "body"})'),
        "Model unknown_location: unknown_location.py:4: the argument 'x' has the unknown location "
        "'body'; write one of query, querystring, form, files, json, headers",
    ),
    "file_in_text": Planted(
        "a file in a field of texts",
        arguments('"image": fields.Str(metadata={"type": "file", "location": "form"})'),
        "Model file_in_text: file_in_text.py:4: the argument 'image' is a file, which "
        "fields.String cannot take; write fields.Raw in its place",
    ),
    "metadata_list": Planted(
        "get_metadata returns something else than a dictionary",
        "def predict():\n    return 1\n\ndef get_metadata():\n    return ['me']\n",
        "Model metadata_list: metadata_list.py:4: get_metadata returns a list, and not a "
        'dictionary; write return {"name": "my model"}',
    ),
    "batch_by_name": Planted(
        "predict_batch does not take a list",
        "def predict_batch(**arguments):\n    return []\n",
        "Model batch_by_name: batch_by_name.py:1: predict_batch is called with one list; write "
        "def predict_batch(batch)",
    ),
    "one_example": Planted(
        "examples is a dictionary in place of a list",
        with_examples('examples = {"x": 0.5}'),
        "Model one_example: one_example.py:9: examples is a dict, and not a list; write examples = "
        '[{"name": value}]',
    ),
    "bare_example": Planted(
        "an example is not a dictionary",
        with_examples("examples = [0.5]"),
        "Model bare_example: bare_example.py:9: examples[0] is a float, and not a dictionary of "
        'arguments; write {"name": value}',
    ),
    "example_name": Planted(
        "an example has an argument that is not declared",
        with_examples('examples = [{"x": 0.5}, {"xx": 0.5}]'),
        "Model example_name: example_name.py:9: examples[1] has 'xx', which get_predict_args does "
        "not declare; write 'x'",
    ),
    "example_value": Planted(
        "an example has an invalid value",
        with_examples('examples = [\n    {"x": 0.5},\n    {"x": "half"},\n]'),
        "Model example_value: example_value.py:11: examples[1] is not valid (x: Not a valid "
        "number); write the arguments of a request that is",
    ),
    "example_object": Planted(
        "an example has an object of Python",
        with_examples('examples = [{"x": {1}}]'),
        "Model example_object: example_object.py:9: examples[0] has a set for 'x', which JSON "
        "cannot hold; write the value that a client would send",
    ),
    "example_file": Planted(
        "the file of an example does not exist",
        with_examples('examples = [{"image": "3.png"}]'),
        "Model example_file: example_file.py:9: examples[0] names the file '3.png', but the "
        "directory of example_file.py has no such file; write a path relative to it",
    ),
    "example_outside": Planted(
        "the file of an example is elsewhere",
        with_examples('examples = [{"image": "/etc/passwd"}]'),
        "Model example_outside: example_outside.py:9: examples[0] names the file '/etc/passwd', "
        "which is outside of the directory of example_outside.py; move it there",
    ),
    "train_example": Planted(
        "train_examples without train",
        with_examples("train_examples = [{}]"),
        "Model train_example: train_example.py:9: train_examples is declared, but there is no "
        "train; write def train",
    ),
    "misspelt_examples": Planted(
        "a misspelt examples",
        with_examples('exampels = [{"x": 0.5}]'),
        "Model misspelt_examples: misspelt_examples.py:9: 'exampels' is never used; rename it to "
        "'examples'",
    ),
    "weights_text": Planted(
        "weights is a text",
        with_examples('weights = "model.pt"'),
        "Model weights_text: weights_text.py:9: weights is a str, and not a list of paths; write "
        "weights = ['model.pt']",
    ),
    "weights_number": Planted(
        "weights has an entry that is not a path",
        with_examples('weights = ["model.pt", 1]'),
        "Model weights_number: weights_number.py:9: weights[1] is an int, and not a path; write a "
        "text",
    ),
    "misspelt_weights": Planted(
        "a misspelt weights",
        with_examples('weight = ["model.pt"]'),
        "Model misspelt_weights: misspelt_weights.py:9: 'weight' is never used; rename it to "
        "'weights'",
    ),
}
