"""Reads a YAML file that does not parse, one top-level key after the other.

A section that does not parse either keeps its text: a description stays complete, and a list or a
mapping loses only the lines that are neither.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Collection
from dataclasses import dataclass

from deepaas.catalog import yaml_tree
from deepaas.catalog.problems import Edit, Problem, Problems, Severity
from deepaas.catalog.tree import Entry, Kind, Node, UnreadableError

_KEY = re.compile(r"(?P<quote>[\"']?)(?P<key>[A-Za-z_][\w.-]*)(?P=quote)\s*:(?=\s|$)(?P<rest>.*)")
_ITEM = re.compile(r"\s*-\s+(?P<text>.*)")
_PAIR = re.compile(r"(?P<indent>\s+)(?P<key>[A-Za-z_][\w.-]*)\s*:(?:\s+(?P<text>.*))?$")
_BLOCK = re.compile(r"[|>][-+0-9]*\s*(#.*)?$")


@dataclass
class Section:
    """A top-level key with its lines; `line` is the number of the first one."""

    key: str
    line: int
    lines: list[str]


def parse(text: str, problems: Problems, keys: Collection[str], lists: Collection[str]) -> Node:
    """Return the mapping of a file of which some sections do not parse. Never raises.

    `keys` are the keys of the format, and `lists` those of them that have a list.
    """
    root = Node(Kind.MAPPING)
    for section in _split(text, problems, keys):
        own = Problems()
        source = "\n".join(section.lines)
        try:
            node = yaml_tree.parse(source, own, section.line)
        except UnreadableError as error:
            value = _mended(section, lists)
            is_text = value.kind is Kind.TEXT
            if is_text:
                form, remedy = f"{section.key}: |-", " and indent the text below it"
            else:
                form, remedy = f"{section.key}:", " with one entry in each line below it"
            message = f"{error.message}; write `{form}`{remedy}"
            last = section.line + len(section.lines) - 1
            edit = Edit(section.line, last, (form, *_written(value)))
            problem = Problem(
                *(Severity.ERROR, "yaml", message, error.line, error.column, section.key),
                edits=(edit,),
            )
            problems.add(problem)
            root.entries.append(Entry(section.key, value, section.line))
            continue
        for problem in own.found:
            problems.add(problem)
        if node.kind is Kind.MAPPING:
            root.entries += node.entries
    return root


def _split(text: str, problems: Problems, keys: Collection[str]) -> list[Section]:
    sections: list[Section] = []
    for number, line in enumerate(text.split("\n"), 1):
        found = _KEY.match(line)
        if found and _is_key(found["key"], keys):
            sections.append(Section(found["key"], number, [line]))
        elif sections:
            sections[-1].lines.append(line)
        elif line.strip() and not line.lstrip().startswith(("#", "---", "%")):
            problems.error("yaml", "this line belongs to no key; remove it", number, 1)
    for section in sections:  # comments and blank lines before the next key
        while len(section.lines) > 1 and not section.lines[-1].strip():
            section.lines.pop()
    return sections


def _is_key(name: str, keys: Collection[str]) -> bool:
    return name in keys or bool(difflib.get_close_matches(name, keys, n=1, cutoff=0.85))


def _mended(section: Section, lists: Collection[str]) -> Node:
    """Return the value of a section that does not parse."""
    found = _KEY.match(section.lines[0])
    first = found["rest"].strip() if found else ""
    rest = section.lines[1:]
    last = section.line + len(section.lines) - 1
    items = [(at, one) for at, line in enumerate(rest) if (one := _ITEM.fullmatch(line))]
    pairs = [(at, one) for at, line in enumerate(rest) if (one := _PAIR.fullmatch(line))]
    node = Node(Kind.TEXT, section.line, 1, last)
    if section.key in lists:
        node.kind = Kind.LIST
        inline = [part for part in first.strip("[]").split(",") if part.strip()]
        node.items = [_text(part, section.line) for part in inline]
        node.items += [_text(one["text"], section.line + 1 + at) for at, one in items]
    elif not first and pairs and len(pairs) >= len(items):
        node.kind = Kind.MAPPING
        for at, one in pairs:
            line = section.line + 1 + at
            value = _text(one["text"] or "", line)
            node.entries.append(Entry(one["key"], value, line, len(one["indent"]) + 1))
    else:
        node.text = _free_text(first, rest)
    return node


def _text(text: str, line: int) -> Node:
    """Return a scalar, without its quotes and without a comment."""
    text = re.split(r"\s#", text)[0].strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return Node(Kind.TEXT if text else Kind.NULL, line, 1, line, text.strip("\"'"))


def _free_text(first: str, rest: list[str]) -> str:
    """Return the text of a description that is not indented, or has wrong quotes."""
    if _BLOCK.fullmatch(first):
        first = ""
    body = textwrap.dedent("\n".join(line for line in rest))
    text = "\n".join(part for part in (first, body) if part).strip()
    if text[:1] in ("'", '"'):
        quote = text[0]
        text = text[1:].rstrip()
        text = text.removesuffix(quote)
        if quote == '"':
            text = text.replace('\\"', '"').replace("\\n", "\n").replace("\\'", "'")
        else:
            text = text.replace("''", "'")
    return text


def _written(value: Node) -> tuple[str, ...]:
    """Return the lines of a value below its key, as valid YAML."""
    if value.kind is Kind.LIST:
        return tuple(f"  - {quoted(item.text)}" for item in value.items if item.text)
    if value.kind is Kind.MAPPING:
        return tuple(f"  {one.key}: {quoted(one.value.text)}" for one in value.entries)
    lines = value.text.split("\n")
    return tuple(f"  {line}" if line else "" for line in lines)


def quoted(text: str) -> str:
    """Return a scalar of one line as YAML: plain if that is read as the same text."""
    if not text or "\n" in text:
        return yaml_text(text)
    problems = Problems()
    try:
        node = yaml_tree.parse(f"key: {text}\n", problems)
    except UnreadableError:
        return yaml_text(text)
    same = len(node.entries) == 1 and node.entries[0].value.is_scalar
    if same and node.entries[0].value.text == text and not problems.found:
        return text if node.entries[0].value.kind is Kind.TEXT else yaml_text(text)
    return yaml_text(text)


def yaml_text(text: str) -> str:
    """Return the text in double quotes, with escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
