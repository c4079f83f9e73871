"""JSON as a tree with positions. Small mistakes are repaired, and each becomes a problem."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from deepaas.catalog.problems import Problems
from deepaas.catalog.text import NOT_TEXT
from deepaas.catalog.tree import MOST_DEPTH, MOST_NODES, Entry, Kind, Node

_TOKEN = re.compile(
    r"""(?P<blank>[\s]+)
    |(?P<mark>[{}\[\]:,])
    |(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<open>"[^\n]*)
    |(?P<word>[^\s{}\[\]:,"]+)""",
    re.VERBOSE,
)
_REST = re.compile(r'(?:[^"\\]|\\[\s\S]){0,20000}?"(?=\s{0,1000}[,:\]}])')
"""The rest of a text that goes over several lines, up to its closing quote."""

_MOST_OPEN = 50
"""After so many texts without a closing quote in their line, no text goes over several lines."""

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_WORDS = {"null": Kind.NULL, "true": Kind.BOOLEAN, "false": Kind.BOOLEAN}
_END = "end"


@dataclass
class _Token:
    kind: str
    text: str
    line: int
    column: int


def parse(text: str, problems: Problems) -> Node:
    """Return the value of the text. Never raises; an empty text is null."""
    return _Parser(text, problems).value_of_file()


class _Parser:
    def __init__(self, text: str, problems: Problems) -> None:
        self._problems = problems
        self._tokens = _tokens(text)
        self._at = 0
        self._nodes = 0
        self._is_cut = False

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        if token.kind != _END:
            self._at += 1
        return token

    def _error(self, message: str, token: _Token) -> None:
        self._problems.error("json", message, token.line, token.column)

    def value_of_file(self) -> Node:
        while self._next.text in ("}", "]", ",", ":"):
            self._error(f"remove the {self._take().text}", self._tokens[self._at - 1])
        if self._next.kind == _END:
            return Node(Kind.NULL)
        node = self._value(0)
        if self._next.kind != _END:
            self._error("only the first value counts; remove the rest", self._next)
        return node

    def _value(self, depth: int) -> Node:
        token = self._take()
        self._nodes += 1
        if depth > MOST_DEPTH or self._nodes > MOST_NODES:
            what = (
                "values are nested too deeply"
                if depth > MOST_DEPTH
                else "there are too many values"
            )
            self._error(f"{what}; the rest is not read", token)
            self._is_cut = True
            self._at = len(self._tokens) - 1
            return Node(Kind.NULL, token.line, token.column, token.line)
        if token.text == "{":
            return self._mapping(token, depth)
        if token.text == "[":
            return self._list(token, depth)
        return self._scalar(token)

    def _scalar(self, token: _Token) -> Node:
        node = Node(Kind.TEXT, token.line, token.column, token.line)
        node.text = token.text
        if token.kind == "word":
            kind = _WORDS.get(token.text)
            if kind is None and _NUMBER.fullmatch(token.text):
                kind = Kind.NUMBER
            if kind is None:
                self._error(f"{token.text[:40]} is not JSON; write it in quotes", token)
            node.kind = kind or Kind.TEXT
            return node
        if token.kind == "lines":
            self._error("a text must stay in one line; write \\n for a line feed", token)
        elif token.kind == "open":
            self._error("the text has no closing quote; write it", token)
        node.text = _unescaped(token.text)
        return node

    def _list(self, first: _Token, depth: int) -> Node:
        node = Node(Kind.LIST, first.line, first.column)
        while not self._ends(node, "]", first):
            if self._next.text == ":":
                self._error("remove the colon", self._take())
            else:
                node.items.append(self._value(depth + 1))
                self._comma("]")
        return node

    def _mapping(self, first: _Token, depth: int) -> Node:
        node = Node(Kind.MAPPING, first.line, first.column)
        while not self._ends(node, "}", first):
            key = self._take()
            if key.text in ("{", "[", ":"):
                self._error(f"expected a name in quotes, and not {key.text}", key)
                continue
            if key.kind == "word":
                self._error(f"write the name {key.text[:40]} in quotes", key)
            if self._next.text == ":":
                self._take()
            else:
                self._error("write a colon after the name", self._next)
            if self._next.text in ("}", ",") or self._next.kind == _END:
                self._error("write a value after the colon", self._next)
                value = Node(Kind.NULL, key.line, key.column, key.line)
            else:
                value = self._value(depth + 1)
            node.entries.append(Entry(_unescaped(key.text), value, key.line, key.column))
            self._comma("}")
        return node

    def _ends(self, node: Node, mark: str, first: _Token) -> bool:
        """Return whether the list or mapping ends here, and take its bracket."""
        while self._next.text == ",":
            self._error("remove the comma", self._take())
        token = self._next
        node.last_line = token.line
        if token.kind == _END:
            if not self._is_cut:
                self._error(f"{first.text} of line {first.line} is not closed; write {mark}", token)
            return True
        if token.kind == "mark" and token.text in ("]", "}"):
            if token.text == mark:
                self._take()
            else:
                self._error(f"write {mark} before {token.text}", token)
            return True
        return False

    def _comma(self, mark: str) -> None:
        token = self._next
        if token.kind == _END or (token.kind == "mark" and token.text in ("]", "}")):
            return
        if token.text != "," or token.kind != "mark":
            self._error("write a comma here", token)
            return
        self._take()
        after = self._next
        if after.kind == "mark" and after.text == mark:
            self._error(f"remove the comma before {mark}", token)


def _tokens(text: str) -> list[_Token]:
    found = []
    line, start = 1, 0  # the current line, and the position at which it begins
    at = opened = 0
    while match := _TOKEN.match(text, at):
        kind = match.lastgroup or "word"
        at = match.end()
        if kind == "open" and opened < _MOST_OPEN:
            opened += 1
            if rest := _REST.match(text, match.start() + 1):
                kind, at = "lines", rest.end()
        part = text[match.start() : at]
        if kind != "blank":
            found.append(_Token(kind, part, line, match.start() - start + 1))
        feeds = part.count("\n")
        if feeds:
            line += feeds
            start = match.start() + part.rfind("\n") + 1
    found.append(_Token(_END, "", line, len(text) - start + 1))
    return found


def _unescaped(text: str) -> str:
    if not text.startswith('"'):
        return text
    body = text[1:-1] if len(text) > 1 and text.endswith('"') else text[1:]
    try:
        value = json.loads(f'"{body}"', strict=False)
    except ValueError:
        return NOT_TEXT.sub(" ", body)
    # Half of a surrogate pair cannot be written as UTF-8.
    text = str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return NOT_TEXT.sub(" ", text)
