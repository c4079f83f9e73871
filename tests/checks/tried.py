"""Mistakes that only trying shows: models that are loaded without a problem.

`found` is what the check says: the severity, the code, the line, the mistake, and what to write.
"""

from __future__ import annotations

from dataclasses import dataclass

FIELDS = "from webargs import fields, validate\n"
PNG = 'fields.Str(validate=validate.OneOf(["application/json", "image/png"]))'

CORRECT = (
    "correct this line; or if the arguments are wrong, refuse them: with a validator of their "
    "field, or raise aiohttp.web.HTTPBadRequest(reason=...)"
)
NONE = "a request without arguments"


@dataclass(frozen=True)
class Tried:
    """A model with a mistake, and the finding about it. `line` is 0 if the place is not known."""

    code: str
    severity: str
    kind: str
    line: int
    what: str
    write: str


def arguments(entry: str, predict: str) -> str:
    """Return a model with one declared argument; `predict` begins on line 4."""
    return f"{FIELDS}def get_predict_args():\n    return {{{entry}}}\n{predict}"


PREDICTIONS = {
    "raises": Tried(
        "def predict():\n    return missing\n",
        *("error", "predict_raises", 2),
        f"predict raises NameError: name 'missing' is not defined for {NONE}",
        CORRECT,
    ),
    "raises_on_example": Tried(
        arguments('"x": fields.Str()', "def predict(x=''):\n    return {}[x]\n")
        + 'examples = [{"x": "a"}]\n',
        *("error", "predict_raises", 5),
        'predict raises KeyError: \'a\' for the example {"x":"a"}',
        CORRECT,
    ),
    "optional_missing": Tried(
        arguments('"x": fields.Float()', "def predict(**args):\n    return args['x']\n"),
        *("error", "predict_raises", 5),
        f"predict raises KeyError: 'x' for {NONE}",
        CORRECT,
    ),
    "number_fails": Tried(
        arguments('"x": fields.Float(required=True)', "def predict(x):\n    return x + 'a'\n"),
        *("error", "predict_raises", 5),
        "predict raises TypeError: unsupported operand type(s) for +: 'float' and 'str' for the "
        'arguments {"x":0.5}',
        CORRECT,
    ),
    "never_warmed": Tried(
        "class Model:\n    def predict(self):\n        return self.network(1)\n",
        *("error", "predict_raises", 3),
        f"predict raises AttributeError: 'Model' object has no attribute 'network' for {NONE}",
        CORRECT,
    ),
    "exits": Tried(
        "import sys\ndef predict():\n    sys.exit(3)\n",
        *("error", "predict_raises", 3),
        f"predict raises The model called sys.exit(3) for {NONE}",
        CORRECT,
    ),
    "second_time": Tried(
        "tokens = [1]\ndef predict():\n    return tokens.pop()\n",
        *("error", "predict_raises", 3),
        f"predict raises IndexError: pop from empty list the second time for {NONE}",
        CORRECT,
    ),
    "dies": Tried(
        "import os\ndef predict():\n    os._exit(4)\n",
        *("error", "worker_died", 2),
        f"predict ends its process for {NONE}: The worker of model dies exited with code 4 during "
        "this prediction",
        "remove the call that ends the process, such as os._exit; if a library crashes, "
        "faulthandler.enable() shows where",
    ),
    "refuses_example": Tried(
        arguments(
            '"x": fields.Float()',
            "def predict(x=0):\n"
            "    from werkzeug.exceptions import BadRequest\n"
            "    raise BadRequest('x is too small')\n",
        )
        + 'examples = [{"x": 1}]\n',
        *("error", "refused", 4),
        'the example {"x":1} is refused with the status 400: x is too small',
        "correct the example, or accept it",
    ),
    "refuses_all": Tried(
        arguments(
            '"x": fields.Float(), "data": fields.Raw(metadata={"type": "file"})',
            "def predict(x=0, data=None):\n"
            "    from werkzeug.exceptions import BadRequest\n"
            "    if x == 0 or not data:\n        raise BadRequest('give both')\n",
        ),
        *("note", "not_tried", 4),
        f"predict was not tried: it refuses {NONE} (give both)",
        'declare arguments that clients can try: examples = [{"x":"...","data":"..."}]',
    ),
    # --- results
    "bytes_result": Tried(
        "def predict():\n    return b'abc'\n",
        *("error", "result_not_encodable", 1),
        f"the result of predict cannot be sent for {NONE}: ",
        "decode the bytes, or offer a media type for them with the argument accept",
    ),
    "object_result": Tried(
        "def predict():\n    return {'x': object()}\n",
        *("error", "result_not_encodable", 1),
        f"the result of predict cannot be sent for {NONE}: ",
        "return a type of the table in docs/models.md#results, such as a dictionary or a list",
    ),
    "complex_result": Tried(
        "def predict():\n    return [1j]\n",
        *("error", "result_not_encodable", 1),
        f"the result of predict cannot be sent for {NONE}: ",
        "return a type of the table in docs/models.md#results, such as a dictionary or a list",
    ),
    "equal_keys": Tried(
        "def predict():\n    return {1: 'a', '1': 'b'}\n",
        *("error", "result_not_encodable", 1),
        f"the result of predict cannot be sent for {NONE}: ",
        "return a type of the table in docs/models.md#results, such as a dictionary or a list",
    ),
    "schema_violated": Tried(
        FIELDS + "schema = {'score': fields.Float()}\ndef predict():\n    return {'score': 'x'}\n",
        *("error", "result_violates_schema", 3),
        f"the result of predict violates schema for {NONE}: The model's result does not match its "
        "schema: {'score': ['Not a valid number.']}",
        "return what schema declares, or declare in schema what predict returns",
    ),
    "schema_unknown": Tried(
        FIELDS + "schema = {'score': fields.Float()}\ndef predict():\n    return {'scores': 1}\n",
        *("error", "result_violates_schema", 3),
        f"the result of predict violates schema for {NONE}: The model's result does not match its "
        "schema: {'scores': ['Unknown field.']}",
        "return what schema declares, or declare in schema what predict returns",
    ),
    "schema_text": Tried(
        FIELDS + "schema = {'score': fields.Float()}\ndef predict():\n    return {'score': '1'}\n",
        *("warning", "result_type", 3),
        "predict returns a text for 'score', which schema describes as a number",
        "convert the value, or declare another field in schema",
    ),
    "nested_text": Tried(
        FIELDS + "schema = {'scores': fields.List(fields.Int())}\n"
        "def predict():\n    return {'scores': [1, '2']}\n",
        *("warning", "result_type", 3),
        "predict returns a text for 'scores'[1], which schema describes as an integer",
        "convert the value, or declare another field in schema",
    ),
    # --- media types
    "png_is_text": Tried(
        arguments(f'"accept": {PNG}', "def predict(accept):\n    return b'no picture'\n"),
        *("error", "result_not_encodable", 4),
        f"the result of predict cannot be sent for {NONE}: ",
        "decode the bytes, or offer a media type for them with the argument accept",
    ),
    "png_is_not": Tried(
        arguments(
            f'"accept": {PNG}',
            "def predict(accept):\n    return 1 if 'json' in accept else b'no picture'\n",
        ),
        *("error", "media_type", 4),
        "predict offers image/png, but the content begins with b'no picture'",
        "return the bytes of image/png if accept is 'image/png', or remove this choice",
    ),
    "png_is_jpeg": Tried(
        arguments(
            f'"accept": {PNG}',
            "def predict(accept):\n    return 1 if 'json' in accept else b'\\xff\\xd8\\xff\\xe0'\n",
        ),
        *("error", "media_type", 4),
        "predict offers image/png, but the content is of the type image/jpeg",
        "return the bytes of image/png if accept is 'image/png', or remove this choice",
    ),
    "png_is_json": Tried(
        arguments(f'"accept": {PNG}', "def predict(accept):\n    return {'x': 1}\n"),
        *("error", "result_not_encodable", 4),
        "the result of predict cannot be sent for a request with Accept: image/png: The model "
        "returned dict where image/png was requested; this requires bytes, str, an open file or "
        "BytesIO",
        "return bytes, str, an open file or BytesIO for this choice of accept",
    ),
    "png_is_empty": Tried(
        arguments(
            f'"accept": {PNG}', "def predict(accept):\n    return 1 if 'json' in accept else None\n"
        ),
        *("error", "media_type", 4),
        "predict offers image/png, but the response is empty, because predict returns None or "
        "nothing",
        "return the bytes of image/png if accept is 'image/png', or remove this choice",
    ),
    # --- values that the fields accept
    "wrong_default": Tried(
        arguments(
            '"x": fields.Float(load_default=2, validate=validate.Range(0, 1))',
            "def predict(x):\n    return x\n",
        ),
        *("warning", "refused_value", 2),
        "the default 2 of 'x' is refused by its own field: ",
        "give another load_default, or a validator that accepts it",
    ),
    "choice_fails": Tried(
        arguments(
            '"mode": fields.Str(load_default="fast", validate=validate.OneOf(["fast", "exact"]))',
            "def predict(mode):\n    return {'fast': 1}[mode]\n",
        ),
        *("error", "predict_raises", 5),
        'predict raises KeyError: \'exact\' for the arguments {"mode":"exact"}',
        CORRECT,
    ),
    "bound_fails": Tried(
        arguments(
            '"x": fields.Float(load_default=1, validate=validate.Range(min=0))',
            "def predict(x):\n    return 1 / x\n",
        ),
        *("error", "predict_raises", 5),
        'predict raises ZeroDivisionError: float division by zero for the arguments {"x":0}',
        CORRECT,
    ),
    "null_fails": Tried(
        arguments(
            '"x": fields.Float(load_default=1, allow_none=True)',
            "def predict(x):\n    return x + 1\n",
        ),
        *("error", "predict_raises", 5),
        "predict raises TypeError: unsupported operand type(s) for +: 'NoneType' and 'int' for "
        'the arguments {"x":null}',
        CORRECT,
    ),
    "false_fails": Tried(
        arguments(
            '"x": fields.Bool(load_default=True)',
            "def predict(x):\n    return 1 if x else wrong\n",
        ),
        *("error", "predict_raises", 5),
        "predict raises NameError: name 'wrong' is not defined for the arguments {\"x\":false}",
        CORRECT,
    ),
    # --- other forms of predict
    "stream_fails": Tried(
        "def predict():\n    yield 1\n    raise ValueError('half way')\n",
        *("error", "stream_fails", 3),
        f"the stream of predict ends with an error for {NONE}: ValueError: half way",
        "correct this line; or raise the exception before the first yield",
    ),
    "hidden_stream": Tried(
        "def predict():\n    return (i for i in range(3))\n",
        *("warning", "undeclared_stream", 1),
        "predict returns a generator, but it is no generator function",
        "write yield from in place of return",
    ),
    "batch_is_dict": Tried(
        "def predict_batch(batch):\n    return {'a': 1}\n",
        *("error", "predict_raises", 1),
        "predict_batch raises ",
        CORRECT,
    ),
    # --- other functions
    "metadata_raises": Tried(
        "def predict():\n    return 1\ndef get_metadata():\n    raise ValueError('none')\n",
        *("warning", "metadata", 3),
        "get_metadata failed: ValueError: none",
        "correct get_metadata, so that it returns a dictionary of JSON values",
    ),
    "train_args_raise": Tried(
        "def predict():\n    return 1\ndef train():\n    return 1\n"
        "def get_train_args():\n    raise ValueError('none')\n",
        *("error", "train_arguments", 5),
        "get_train_args failed: ValueError: none",
        "correct this function, so that it returns a dictionary of fields",
    ),
}
"""The whole text, or its beginning if the rest is that of an error of DEEPaaS or marshmallow."""

TRAININGS = {
    "train_raises": Tried(
        "def train():\n    raise ValueError('no data')\n",
        *("error", "train_fails", 2),
        f"train fails for {NONE}: ValueError: no data",
        "correct this line, or declare other arguments in train_examples",
    ),
    "train_object": Tried(
        "def train():\n    return object()\n",
        *("warning", "train_result", 1),
        "the result of train is stored as text: ",
        "return a dictionary of numbers and texts",
    ),
    "train_breaks_warm": Tried(
        "from deepaas import training\n"
        "def file():\n    return training.weights_directory() / 'w'\n"
        "def warm():\n    if file().exists():\n        raise ValueError('unreadable weights')\n"
        "def predict():\n    return 1\n"
        "def train():\n    file().write_text('w')\n    return 1\n",
        *("error", "train_reload", 9),
        "the model cannot be loaded after the training: ",
        "correct warm, so that it loads what train has written",
    ),
}
