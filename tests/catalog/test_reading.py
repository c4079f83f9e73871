"""Real oddities of metadata files: what the reader takes, and what the check says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from deepaas.catalog.fixing import fixed
from deepaas.catalog.metadata import Metadata
from deepaas.catalog.reading import read

BASE = """metadata_version: 2.3.0
title: Area
summary: It multiplies.
description: |-
  The first line.

  The last line.
dates:
  created: '2024-10-25'
  updated: '2024-11-26'
links:
  source_code: https://example.org/x/area
libraries:
  - Scikit-learn
tasks:
  - Regression
categories:
  - AI4 trainable
  - AI4 inference
tags:
  - geometry
data-type:
  - Tabular
"""

V1 = """{
  "title": "Area",
  "summary": "It multiplies.",
  "description": ["The first line.", "The last line."],
  "keywords": ["trainable", "geometry"],
  "license": "MIT",
  "date_creation": "2024-10-25",
  "sources": {"code": "https://example.org/x/area", "docker_registry_repo": "x/area"}
}
"""


def metadata_of(text: str | bytes, name: str = "ai4-metadata.yml") -> Metadata:
    data = text.encode() if isinstance(text, str) else text
    found = read(name, data)
    assert found is not None
    return found


@dataclass
class Case:
    """`old` of the file becomes `new`. The reader returns `values`; the check says `says`, which
    is "SEVERITY LINE: TEXT", as a part of one of its lines."""

    old: str
    new: str
    says: str
    values: dict[str, Any] = field(default_factory=dict)
    base: str = BASE
    is_mended: bool = False  # by the edits


DESCRIPTION = "description: |-\n  The first line.\n\n  The last line.\n"

CASES = {
    "colon in a description": Case(
        DESCRIPTION,
        "description: See this: it works\n  and: more\n",
        "error 4: mapping values are not allowed",
        {"description": "See this: it works\nand: more"},
        is_mended=True,
    ),
    "inner quotes": Case(
        DESCRIPTION,
        'description: "It is "good" for all"\n',
        "error 4: ",
        {"description": 'It is "good" for all'},
        is_mended=True,
    ),
    "stars at the start of a line": Case(
        DESCRIPTION,
        "description:\n  **Bold** text\n  more\n",
        "error 5: ",
        {"description": "**Bold** text\nmore"},
        is_mended=True,
    ),
    "text that is not indented": Case(
        DESCRIPTION,
        "description: |-\nThe first line.\n\nThe last line.\n",
        "write `description: |-`",
        {"description": "The first line.\n\nThe last line."},
        is_mended=True,
    ),
    "the same key twice": Case(
        "tasks:\n",
        "libraries: [Keras]\ntasks:\n",
        "libraries is written more than once, in lines 13 and 15",
        {"libraries": ("Scikit-learn", "Keras")},
    ),
    "list commented out": Case(
        "tags:\n  - geometry\n", "tags:\n#  - geometry\n", "error 20: tags is empty", {"tags": ()}
    ),
    "list missing": Case("tags:\n  - geometry\n", "", "error 0: tags is missing", {"tags": ()}),
    "misspelt key": Case(
        "data-type:",
        "sata-type:",
        "error 22: there is no field sata-type; did you mean data-type?",
        {"data_types": ("Tabular",)},
        is_mended=True,
    ),
    "created after updated": Case(
        "'2024-10-25'",
        "'2025-10-25'",
        "warning 9: created, 2025-10-25, is after updated",
        {"created": "2025-10-25", "updated": "2024-11-26"},
    ),
    "a date that does not exist": Case(
        "'2024-10-25'", "2024-02-31", "error 9: dates.created is '2024-02-31', and not a date"
    ),
    "link name of V1": Case(
        "libraries:\n",
        "  dataset_url: https://example.org/data\nlibraries:\n",
        "warning 13: links.dataset_url is a name of V1; write links.dataset",
        {
            "links": {
                "source_code": "https://example.org/x/area",
                "dataset": "https://example.org/data",
            }
        },
        is_mended=True,
    ),
    "training_files_url": Case(
        "libraries:\n",
        "  training_files_url: https://example.org/files\nlibraries:\n",
        "warning 13: there is no link training_files_url",
        {"extras": {"links": {"training_files_url": "https://example.org/files"}}},
    ),
    "training_data null": Case(
        "libraries:\n",
        "  training_data: null\nlibraries:\n",
        "warning 13: links.training_data has no value; remove the line",
        {"extras": {}},
    ),
    "placeholder": Case(
        "libraries:\n",
        "  dataset: http://add-some-url-pointing-to-your-dataset.com\nlibraries:\n",
        "error 13: links.dataset is the placeholder",
        {"links": {"source_code": "https://example.org/x/area"}},
        is_mended=True,
    ),
    "password in a link": Case(
        "https://example.org",
        "https://user:secret@example.org",
        "error 12: links.source_code has a user name or password",
        {"links": {"source_code": "https://example.org/x/area"}},
    ),
    "script as a link": Case(
        "https://example.org/x/area", "javascript:alert(1)", "and not an address", {"links": {}}
    ),
    "image is a web page": Case(
        "libraries:\n",
        "  docker_image: https://hub.docker.com/r/x/area\nlibraries:\n",
        "warning 13: links.docker_image is a web page; write x/area",
        {"docker_image": "x/area"},
    ),
    "doi as an address": Case(
        "data-type:",
        "doi: https://doi.org/10.5281/zenodo.12\ndata-type:",
        "warning 22: write the DOI as 10.5281/zenodo.12",
        {"doi": "10.5281/zenodo.12"},
    ),
    "doi as a list": Case(
        "data-type:",
        "doi: [10.5281/zenodo.12, 10.5281/zenodo.13]\ndata-type:",
        "warning 22: doi is a list; write one DOI",
        {"doi": "10.5281/zenodo.12", "extras": {"doi": ["10.5281/zenodo.13"]}},
    ),
    "other case": Case(
        "Scikit-learn",
        "scikit learn",
        "error 14: 'scikit learn' is not a word of libraries; write 'Scikit-learn'",
        {"libraries": ("Scikit-learn",), "tags": ("geometry",)},
        is_mended=True,
    ),
    "unknown word": Case(
        "Scikit-learn",
        "ultralytics",
        "error 14: 'ultralytics' is not a word of libraries",
        {"libraries": (), "tags": ("geometry", "ultralytics")},
    ),
    "version of V1": Case(
        "2.3.0", "1.0.0", "warning 1: metadata_version is 1.0.0", {"title": "Area"}, is_mended=True
    ),
    "extra key": Case(
        "data-type:",
        "provenance: {nomad_job: abc}\ndata-type:",
        "warning 22: there is no field provenance; it is kept",
        {"extras": {"provenance": {"nomad_job": "abc"}}},
    ),
    "key of V1": Case(
        "data-type:", "cite_url: https://example.org\ndata-type:", "error 22: cite_url is a field"
    ),
    "number as text": Case(
        "data-type:",
        "resources:\n  inference:\n    memory_MB: 8 GB\n    cpu: '2'\ndata-type:",
        "error 24: resources.inference.memory_MB is '8 GB'; write the number 8192",
        {"resources": {"inference": {"memory_MB": 8192, "cpu": 2}}},
    ),
    "title is a number": Case(
        "Area", "2024", 'error 2: title is a number; write it in quotes: "2024"', {"title": "2024"},
        is_mended=True,
    ),
    "title is a boolean": Case(
        "Area", "yes", "error 2: title is a boolean", {"title": "yes"}, is_mended=True
    ),
    "text for a list": Case(
        "tags:\n  - geometry\n",
        "tags: geometry\n",
        "error 20: tags is a text; write a list: [geometry]",
        {"tags": ("geometry",)},
        is_mended=True,
    ),
    "links as a list": Case(
        "links:\n  source_code: https://example.org/x/area\n",
        "links:\n  - https://example.org/x/area\n",
        "error 11: links is a list; write a mapping",
        {"links": {}},
    ),
    "conflict marks": Case(
        "title: Area\n",
        "<<<<<<< HEAD\ntitle: Area\n=======\n>>>>>>> x\n",
        "error 2: the mark <<<<<<< of a merge conflict",
        {"title": "Area"},
        is_mended=True,
    ),
    "tabs": Case("  source_code", "\tsource_code", "error 12: ", {"title": "Area"}, is_mended=True),
    "template": Case(
        "Area", "'{{ cookiecutter.name }}'", "error 0: this is a template", {"is_template": True}
    ),
    "python tag": Case(
        "title: Area",
        'title: !!python/object/apply:os.system ["true"]',
        "error 2: title is a list",
    ),
    "two documents": Case(
        "Tabular\n", "Tabular\n---\ntitle: B\n", "only the first document counts", {"title": "Area"}
    ),
    "comma before a bracket": Case(
        '"geometry"]', '"geometry",]', "error 5: remove the comma before ]",
        {"tags": ("trainable", "geometry")}, V1,
    ),
    "missing comma": Case(
        '"MIT",', '"MIT"', "error 7: write a comma here", {"created": "2024-10-25"}, V1
    ),
    "raw line feed": Case(
        "The first line.", "The first\nline.", "error 4: a text must stay in one line",
        {"description": "The first\nline.\nThe last line."}, V1,
    ),
    "text without its closing quote": Case(
        '"It multiplies.",', '"It multiplies.', "error 3: the text has no closing quote",
        {"title": "Area", "license": "MIT"}, V1,
    ),
    "not closed": Case(
        '"x/area"}\n}\n', '"x/area"', "is not closed; write }", {"docker_image": "x/area"}, V1
    ),
    "description as a text": Case(
        '["The first line.", "The last line."]', '"One."', "", {"description": "One."}, V1
    ),
    "blank before the image": Case(
        '"x/area"', '" x/area"', "warning 8: sources.docker_registry_repo has a blank",
        {"docker_image": "x/area"}, V1,
    ),
}  # fmt: skip


def lines_of(metadata: Metadata) -> list[str]:
    return [f"{one.severity} {one.line}: {one.message}" for one in metadata.problems]


@pytest.mark.parametrize("name", CASES)
def test_oddity_is_read_and_reported(name: str) -> None:
    case = CASES[name]
    text = case.base.replace(case.old, case.new)
    assert text != case.base
    file = "metadata.json" if case.base is V1 else "ai4-metadata.yml"
    found = metadata_of(text, file)
    assert {key: getattr(found, key) for key in case.values} == case.values
    lines = lines_of(found)
    assert any(case.says in line for line in lines) if case.says else not lines, lines
    if case.is_mended:
        after = metadata_of(fixed(text.encode(), found), file)
        assert lines_of(after) == []
        assert after.title == found.title
        assert after.description == found.description


@pytest.mark.parametrize(("name", "text"), [("ai4-metadata.yml", BASE), ("metadata.json", V1)])
def test_good_file_has_no_problem(name: str, text: str) -> None:
    assert lines_of(metadata_of(text, name)) == []


def test_values_of_v2() -> None:
    found = metadata_of(BASE)
    assert found.capabilities == {"trainable": True, "inference": True, "pre-trained": False}
    assert found.description == "The first line.\n\nThe last line."
    assert found.links == {"source_code": "https://example.org/x/area"}


def test_unquoted_date_is_accepted() -> None:
    found = metadata_of(BASE.replace("'2024-10-25'", "2024-10-25"))
    assert (found.created, lines_of(found)) == ("2024-10-25", [])


def test_capabilities_are_unknown_if_the_file_names_none() -> None:
    found = metadata_of(V1.replace('"trainable", ', ""), "metadata.json")
    assert set(found.capabilities.values()) == {None}


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"- a\n- b\n", b"\xff\xfe", b"\0" * 50])
def test_file_without_fields_is_one_error(data: bytes) -> None:
    found = metadata_of(data)
    assert [one.code for one in found.errors][-1:] == ["empty"] or found.errors
    assert found.title == ""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xef\xbb\xbf" + BASE.encode(), "bom"),
        (BASE.replace("\n", "\r\n").encode(), "line-ends"),
        (BASE.encode("utf-16"), "encoding"),
        (BASE.encode("utf-16-le"), "encoding"),
        (BASE.replace("It multiplies.", "Modèle").encode("latin-1"), "encoding"),
        (BASE.replace("Area", "Ar\x07ea").encode(), "control"),
    ],
)
def test_other_encodings_are_read(data: bytes, code: str) -> None:
    found = metadata_of(data)
    assert [one.code for one in found.problems] == [code]
    assert found.summary in ("It multiplies.", "Modèle")


def test_other_files_are_left_to_other_plug_ins() -> None:
    assert read("README.md", b"title: Area") is None


def test_aliases_do_not_multiply() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for name, before in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    found = metadata_of(bomb + BASE)
    assert found.title == "Area"
    assert len(found.problems) <= 200


def test_large_and_deep_files_are_read_in_part() -> None:
    large = metadata_of(BASE.replace("The last line.", "word " * 250_000))
    assert large.title == "Area"
    assert "too-large" in [one.code for one in large.problems]
    deep = metadata_of("[" * 20_000, "metadata.json")
    assert any("too deeply" in one.message for one in deep.problems)
    assert any(one.code == "yaml" for one in metadata_of("title: " + "[" * 5_000).problems)
    many = metadata_of("tags: [" + "a," * 30_000 + "]\n" + BASE)
    assert any("too many" in line for line in lines_of(many))


def test_large_values_take_bounded_time() -> None:
    """Each of these took from ten seconds to a minute when its time was quadratic."""
    quotes = metadata_of('{"title": "Area", "a": "' + '\n\\"' * 20_000, "metadata.json")
    assert quotes.title == "Area"
    words = "".join(f"  - unknown {number}\n" for number in range(8_000))
    many = metadata_of(BASE.replace("  - Regression\n", words))
    assert len(many.tags) == 101
    assert "tasks has more than 100 entries" in "".join(lines_of(many))
    assert metadata_of("<<<<<<< a\n" * 60_000 + BASE).title == "Area"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"title": 5, "summary": "It", "keywords": "a"}', "metadata.json"),
        ('{\n  "title": 5,\n  "keywords": "a"\n}\n', "metadata.json"),
        ("links: {dataset: https://add-some-url, weights: https://example.org}\n", "a.yml"),
        ("links:\n  - {dataset: https://add-some-url,\n     weights: x}\n", "a.yml"),
    ],
)
def test_edits_remove_no_other_value(text: str, name: str) -> None:
    assert fixed(text.encode(), metadata_of(text, name)) == text


def test_edits_keep_comments() -> None:
    text = BASE.replace("title: Area", "title: 2024  # the year")
    assert 'title: "2024"  # the year\n' in fixed(text.encode(), metadata_of(text))


# --- the real files, and mutations of all files

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "metadata"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real metadata files are not here")
def test_no_real_file_is_lost() -> None:
    files = [path for path in SHARED.glob("*/**/*") if path.suffix in (".yml", ".json")]
    files = [path for path in files if not {"cases", "index"} & set(path.parts)]
    assert len(files) > 300
    for path in files:
        found = metadata_of(path.read_bytes(), path.name)
        assert found.is_template or found.title, path.name
        assert found.is_template or found.links or found.format == "V1", path.name
        text = fixed(path.read_bytes(), found)
        after = metadata_of(text, path.name)
        assert (after.title, after.description) == (found.title, found.description), path.name
        assert len(after.errors) <= len(found.errors), path.name


FRAGMENTS = (
    *("\n", ":", ": ", "- ", "[", "]", "{", "}", ",", '"', "'", "|-", ">", "#", "&a", "*a", "!!x"),
    *("\t", "\x00", "\ufeff", "---\n", "<<<<<<<", "\\", "é", "\u2028", "%", "null", "~", "  "),
)


def mutated(text: str, random: Random) -> str:
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(text) + 1)
        end = min(len(text), at + random.choice((0, 0, 1, 3, 20)))
        text = text[:at] + random.choice(FRAGMENTS) * random.choice((1, 1, 2)) + text[end:]
    return text


def test_mutations_raise_nothing() -> None:
    random = Random(17)
    for number in range(400):
        base, name = ((BASE, "a.yml"), (V1, "a.json"), (V1, "a.yml"))[number % 3]
        text = mutated(base, random)
        found = metadata_of(text, name)
        metadata_of(fixed(text.encode(), found), name)
