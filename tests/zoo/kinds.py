"""Takes an argument of each kind, with each kind of validator, and returns their texts."""

import enum
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema
from webargs import fields, validate

from deepaas import training


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class City(Schema):
    name = fields.Str(required=True, validate=validate.Length(max=20))
    people = fields.Int(validate=validate.Range(min=0))
    twin = fields.Nested(lambda: City(only=["name"]), allow_none=True)


class Lenient(Schema):
    note = fields.Str()

    class Meta:
        unknown = EXCLUDE


def simple() -> dict[str, Any]:
    """Return arguments that a form or a query can hold, too."""
    return {
        "text": fields.Str(validate=validate.Length(max=30)),
        "needed": fields.Str(required=True),
        "number": fields.Int(load_default=3, validate=validate.Range(min=1, max=10)),
        "real": fields.Float(validate=validate.Range(min=0, max=1, max_inclusive=False)),
        "exact": fields.Decimal(),
        "switch": fields.Bool(load_default=True),
        "nothing": fields.Int(load_default=None),
        "size": fields.Str(validate=validate.OneOf(["s", "m", "l"], labels=["small", "", ""])),
        "both": fields.Str(
            validate=[validate.OneOf(["a", "b"]), validate.OneOf(["b", "c"])], allow_none=True
        ),
        "none_of": fields.Str(validate=validate.NoneOf(["x", "y"])),
        "equal": fields.Int(validate=validate.Equal(7)),
        "coded": fields.Str(validate=validate.Regexp("[a-z]{2,3}$")),
        "suggested": fields.Str(metadata={"enum": ["p", "q"], "minLength": 1}),
        "strings": fields.List(fields.Str(), validate=validate.Length(min=1, max=3)),
        "numbers": fields.List(fields.Int(validate=validate.Range(max=100))),
        "only": fields.List(fields.Str(), validate=validate.ContainsOnly(["p", "q"])),
        "never": fields.List(fields.Str(), validate=validate.ContainsNoneOf(["p"])),
        "colour": fields.Enum(Colour),
        "of_colour": fields.Enum(Colour, by_value=True),
        "constant": fields.Constant(5),
        "on the wire": fields.Str(data_key="on-the-wire"),
        "hidden": fields.Str(load_only=True),
        "shown": fields.Str(dump_only=True),
        "in_query": fields.List(fields.Float(), metadata={"location": "query"}),
        "of_query": fields.Bool(metadata={"location": "query"}),
        "X-Level": fields.Int(validate=validate.Range(max=9), metadata={"location": "headers"}),
    }


def timed() -> dict[str, Any]:
    """Return arguments whose texts have a form of their own."""
    return {
        "day": fields.Date(),
        "time": fields.Time(),
        "moment": fields.DateTime(),
        "local": fields.NaiveDateTime(),
        "aware": fields.AwareDateTime(),
        "stamp": fields.DateTime(format="timestamp"),
        "span": fields.TimeDelta(),
        "key": fields.UUID(),
        "link": fields.Url(),
        "mail": fields.Email(),
        "ip": fields.IP(),  # type: ignore[no-untyped-call]
        "ip4": fields.IPv4(),  # type: ignore[no-untyped-call]
        "ip6": fields.IPv6(),  # type: ignore[no-untyped-call]
    }


def nested() -> dict[str, Any]:
    return {
        "city": fields.Nested(City),
        "cities": fields.List(fields.Nested(City), validate=validate.Length(max=2)),
        "lenient": fields.Nested(Lenient, allow_none=True),
        "pair": fields.Tuple((fields.Int(), fields.Str())),
        "table": fields.Dict(values=fields.Int()),
        "keyed": fields.Dict(keys=fields.Str(validate=validate.Length(max=5)), values=fields.Raw()),
        "anything": fields.Raw(),
        "in_json": fields.Dict(metadata={"location": "json"}),
    }


def shown(arguments: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in arguments.items()}


class Simple:
    """Has trainings with the same arguments."""

    def get_predict_args(self) -> dict[str, Any]:
        return simple()

    def predict(self, **kwargs: Any) -> Any:
        return shown(kwargs)

    def get_train_args(self) -> dict[str, Any]:
        return simple() | {"wait": fields.Bool(load_default=False)}

    def train(self, wait: bool, **kwargs: Any) -> Any:
        print("some output", flush=True)
        (training.directory() / "file.txt").write_text("artefact")
        training.report(progress=0.5, loss=0.25)
        if wait:
            threading.Event().wait()  # until the training is cancelled
        return shown(kwargs)


class Timed:
    def get_predict_args(self) -> dict[str, Any]:
        return timed()

    def predict(self, **kwargs: Any) -> Any:
        return shown(kwargs)


class Nested:
    """Has a schema of its results."""

    schema: ClassVar = {"texts": fields.Dict(required=True), "count": fields.Int(required=True)}

    def get_predict_args(self) -> dict[str, Any]:
        return nested()

    def predict(self, **kwargs: Any) -> Any:
        return {"texts": shown(kwargs), "count": len(kwargs)}


class Refusing:
    """Refuses some values with the status of an HTTP exception, and returns several media types."""

    def get_predict_args(self) -> dict[str, Any]:
        return {
            "refusal": fields.Str(validate=validate.OneOf(["", "404", "409", "302"])),
            "accept": fields.Str(
                validate=validate.OneOf(["application/json", "text/plain", "image/png"])
            ),
        }

    def predict(self, accept: str, refusal: str = "") -> Any:
        from aiohttp import web  # not at the top: this import takes longer than all others

        if refusal == "404":
            raise web.HTTPNotFound(reason="there is none")
        if refusal == "409":
            raise web.HTTPConflict(reason="not now")
        if refusal == "302":
            raise web.HTTPFound("/")
        return {"refusal": refusal} if accept == "application/json" else b"bytes"


class Streaming:
    schema: ClassVar = {"n": fields.Int(required=True)}

    def get_predict_args(self) -> dict[str, Any]:
        return {"count": fields.Int(load_default=2, validate=validate.Range(min=0, max=5))}

    def predict(self, count: int) -> Iterator[dict[str, int]]:
        for number in range(count):
            yield {"n": number}
