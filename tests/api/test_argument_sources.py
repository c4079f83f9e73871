"""The model gets exactly the value that was sent, from every source of arguments.

Each example has a value for each of several arguments, and sends them in every possible way: in the
query, as a urlencoded form, as a multipart form in some of its many variants, and as JSON. The test
compares the type and the repr of each argument of the model with those of the value.

The sources differ where they cannot hold the same values:

- A query and a urlencoded form hold only texts: no nested values, files or bytes, and no empty
  list. In a multipart form these are parts of type JSON, or files.
- JSON holds neither files nor bytes.
- An argument that accepts any value (`fields.Raw`) gets a text from a query or a form, and a
  number, an object or null from JSON. So the tests send it only texts and bytes.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Serve
from tests.support import Server, predictions

BOUNDARY = b"deepaas-test-boundary"
PATH = "/v2/models/sources/predict/"
JSON_TYPES = ["application/json", "application/json; charset=utf-8", "application/geo+json"]


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"sources": "zoo.sources"}, "--noaccess-log")


# --- values

texts = st.text(max_size=20) | st.sampled_from(["a=b&c", "%41+%FF", "\r\n--", "null", '"x"', " x "])
integers = st.integers() | st.integers(-(2**130), 2**130)
reals = st.floats(allow_nan=False, allow_infinity=False)
contents = st.binary(max_size=60) | st.binary(min_size=3000, max_size=3000)
leaves = st.none() | st.booleans() | st.integers() | reals | texts
plain = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "number": integers,
    "real": reals,
    "switch": st.booleans(),
    "day": st.dates(),
    "numbers": st.lists(st.integers(), max_size=4),
    "texts": st.lists(texts, max_size=4),
    "nested": st.fixed_dictionaries({"count": st.integers()}, optional={"name": texts}),
    "mapping": st.dictionaries(texts, plain, max_size=3),
    "anything": texts | contents,
    "file": contents,
    "files": st.lists(contents, max_size=3),
}
values_of_a_request = st.fixed_dictionaries({}, optional=VALUES)

FILES = ("file", "files")
STRUCTURES = ("nested", "mapping")


def meant(value: Any) -> list[str]:
    """Return the model's description of a value that is not a file."""
    if isinstance(value, dict):
        return ["dict", json.dumps(value, sort_keys=True)]
    return [type(value).__name__, repr(value)]


def as_text(value: Any) -> str:
    """Format a scalar for a query or a form."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case datetime.date():
            return value.isoformat()
        case _:
            return str(value)


def as_pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the values that a query or a urlencoded form can hold."""
    pairs = []
    for name, value in values.items():
        if name in (*FILES, *STRUCTURES) or isinstance(value, bytes):
            continue
        items = value if isinstance(value, list) else [value]
        pairs += [(name, as_text(item)) for item in items]
    return pairs


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that JSON can hold."""
    return {
        name: value.isoformat() if isinstance(value, datetime.date) else value
        for name, value in values.items()
        if name not in FILES and not isinstance(value, bytes)
    }


# --- multipart forms


@dataclass
class Form:
    """A multipart form, and the descriptions of its values that the model must return."""

    draw: Any
    body: bytes = b""
    expected: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, content: bytes, parameters: str = "", kind: str = "") -> None:
        """Add a part in a random transfer encoding."""
        head = f'Content-Disposition: form-data; name="{name}"{parameters}\r\n'
        if kind:
            head += f"Content-Type: {kind}\r\n"
        encode = self.draw(st.sampled_from(sorted(ENCODINGS)))
        if encode:
            head += f"Content-Transfer-Encoding: {encode.partition(' ')[0]}\r\n"
        content = ENCODINGS[encode](content)
        self.body += b"--%b\r\n%b\r\n%b\r\n" % (BOUNDARY, head.encode(), content)

    def add_text(self, name: str, text: str, *, is_item: bool = False) -> None:
        """Add a text in one of several equivalent ways; `is_item` marks an item of a list."""
        kinds = ["", "text/plain", "text/plain; charset=utf-16", "text/csv; charset=utf-8"]
        kind = self.draw(st.sampled_from(kinds if is_item else kinds + JSON_TYPES))
        content = text.encode("utf-16" if "utf-16" in kind else "utf-8")
        is_named = not kind.startswith("application/") and self.draw(st.booleans())
        self.add(name, content, '; filename=""' if is_named else "", kind)

    def add_json(self, name: str, value: Any) -> None:
        ascii_only = self.draw(st.booleans())
        text = json.dumps(value, ensure_ascii=ascii_only)
        self.add(name, text.encode(), "", self.draw(st.sampled_from(JSON_TYPES)))

    def add_file(self, name: str, content: bytes) -> list[str] | None:
        """Add a file; return its description, or None if the model gets no file."""
        way = self.draw(st.sampled_from(["named", "named, typed", "typed", "empty name"]))
        kind = "image/png" if "typed" in way else ""
        parameters = {"empty name": '; filename=""', "typed": ""}.get(way, '; filename="a b.X9"')
        self.add(name, content, parameters, kind)
        if not content and "named" not in way:
            return None
        is_named = "named" in way
        names = ("a b.X9", "X9") if is_named else ("unnamed", "")
        digest = hashlib.sha256(content).hexdigest()
        return ["UploadedFile", digest, kind or "application/octet-stream", *names]

    def add_value(self, name: str, value: Any) -> None:
        if name == "file":
            self.expected[name] = self.add_file(name, value) or meant("")
        elif name == "files":
            added = [self.add_file(name, content) for content in value]
            files = [one for one in added if one is not None]
            if added:
                self.expected[name] = files or meant([])
        elif isinstance(value, bytes):
            self.add(name, value, "", "image/png")
            self.expected[name] = meant(value)
        elif name in STRUCTURES or (isinstance(value, list) and self.draw(st.booleans())):
            self.add_json(name, value)
            self.expected[name] = meant(value)
        elif isinstance(value, list):
            for item in value:
                self.add_text(name, as_text(item), is_item=True)
            if value:
                self.expected[name] = meant(value)
        else:
            self.add_text(name, as_text(value))
            self.expected[name] = meant(value)


ENCODINGS: dict[str, Any] = {
    "": bytes,
    "binary": bytes,
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "quoted-printable": lambda content: binascii.b2a_qp(content, istext=False),
}


@st.composite
def forms(draw: st.DrawFn, values: Mapping[str, Any]) -> Form:
    """Draw a form that holds these values, each in one of the possible ways."""
    form = Form(draw, draw(st.sampled_from([b"", b"\r\n", b"before\r\n"])))
    for name in draw(st.permutations(sorted(values))):
        form.add_value(name, values[name])
    form.body += b"--%b--\r\n" % BOUNDARY
    return form


# --- ways to send a body

COMPRESSIONS: dict[str, Any] = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}
sizes = st.none() | st.integers(1, 50)


@dataclass(frozen=True)
class Sending:
    """How a body is sent: its compression, and the size of its chunks."""

    coding: str
    size: int | None

    def kwargs(self, body: bytes, kind: str) -> dict[str, Any]:
        body = COMPRESSIONS[self.coding](body)
        headers = {"Content-Type": kind}
        if self.coding:
            headers["Content-Encoding"] = self.coding
        return {"content": self._chunks(body) if self.size else body, "headers": headers}

    def _chunks(self, body: bytes) -> Iterator[bytes]:
        assert self.size
        size = max(self.size, len(body) // 50)
        return (body[start : start + size] for start in range(0, len(body), size))


sendings = st.builds(Sending, st.sampled_from(sorted(COMPRESSIONS)), sizes)


def property_test(examples: int) -> settings:
    """Limit the number of examples, but not their time: the machine can be busy."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks)


# --- the model gets the values


@property_test(60)
@given(values=values_of_a_request, sending=sendings)
def test_query_urlencoded_form_and_json_give_the_same(
    server: Server, values: dict[str, Any], sending: Sending
) -> None:
    pairs, in_json = as_pairs(values), as_json(values)
    expected = {name: meant(values[name]) for name in dict(pairs)}
    encoded = urlencode(pairs)
    assert predictions(server.post(f"{PATH}?{encoded}")) == expected
    kind = "application/x-www-form-urlencoded"
    assert predictions(server.post(PATH, **sending.kwargs(encoded.encode(), kind))) == expected
    expected |= {name: meant(values[name]) for name in in_json}
    body = json.dumps(in_json).encode()
    assert predictions(server.post(PATH, **sending.kwargs(body, "application/json"))) == expected
    body = json.dumps(in_json, ensure_ascii=False).encode()
    kind = "application/json; charset=utf-8"
    assert predictions(server.post(PATH, **sending.kwargs(body, kind))) == expected


@property_test(120)
@given(values=values_of_a_request, sending=sendings, data=st.data())
def test_multipart_form_gives_the_values(
    server: Server, values: dict[str, Any], sending: Sending, data: st.DataObject
) -> None:
    form = data.draw(forms(values))
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    assert predictions(server.post(PATH, **sending.kwargs(form.body, kind))) == form.expected


@property_test(40)
@given(values=values_of_a_request, data=st.data())
def test_several_sources_give_each_argument_once(
    server: Server, values: dict[str, Any], data: st.DataObject
) -> None:
    """The query has some of the arguments and takes precedence; the form has all of them."""
    names = sorted(dict(as_pairs(values)))
    in_query = data.draw(st.sets(st.sampled_from(names))) if names else set()
    pairs = as_pairs({name: values[name] for name in in_query})
    form = data.draw(forms(values))
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    response = server.post(f"{PATH}?{urlencode(pairs)}", content=form.body, headers=headers)
    expected = form.expected | {name: meant(values[name]) for name in in_query}
    assert predictions(response) == expected


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 2**200 + 1, 10**300])
def test_integer_of_any_size_is_exact_from_everywhere(server: Server, number: int) -> None:
    expected = {"number": ["int", str(number)]}
    assert predictions(server.predict("sources", params={"number": number})) == expected
    assert predictions(server.predict("sources", data={"number": number})) == expected
    assert predictions(server.predict("sources", json={"number": number})) == expected
