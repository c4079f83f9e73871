"""YAML as a tree with positions.

Only the events of the parser are used. So tags construct nothing, an alias is a text and cannot
multiply, and a key that occurs twice is kept twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.resolver import Resolver

from deepaas.catalog.problems import Problems
from deepaas.catalog.text import NOT_TEXT
from deepaas.catalog.tree import MOST_DEPTH, MOST_NODES, Entry, Kind, Node, UnreadableError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_KINDS = {
    "tag:yaml.org,2002:null": Kind.NULL,
    "tag:yaml.org,2002:bool": Kind.BOOLEAN,
    "tag:yaml.org,2002:int": Kind.NUMBER,
    "tag:yaml.org,2002:float": Kind.NUMBER,
    "tag:yaml.org,2002:timestamp": Kind.DATE,
}
_resolver = Resolver()


def parse(text: str, problems: Problems, first_line: int = 1) -> Node:
    """Return the first document; its first line has the number `first_line`.

    Raises UnreadableError for text that is not YAML, or that has too many or too deep values.
    """
    builder = _Builder(problems, first_line - 1)
    try:
        for event in _events(text):
            if builder.is_complete and isinstance(event, yaml.DocumentStartEvent):
                line = event.start_mark.line + first_line
                problems.error("documents", "only the first document counts; remove `---`", line, 1)
                break
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        message = str(error.problem or error.context or "this is not YAML")
        raise UnreadableError(message, line + first_line, column + 1) from None
    except yaml.YAMLError as error:
        raise UnreadableError(str(error).partition("\n")[0], first_line, 1) from None
    return builder.root or Node(Kind.NULL, first_line)


def _events(text: str) -> Iterator[Any]:
    loader = _LOADER(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Builder:
    def __init__(self, problems: Problems, offset: int) -> None:
        self._problems = problems
        self._offset = offset  # of the line numbers
        self._open: list[tuple[Node, Entry | None]] = []
        self._nodes = 0
        self.root: Node | None = None
        self.is_complete = False

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._add(self._scalar(event))
            case yaml.AliasEvent():
                node = self._node(Kind.TEXT, event)
                node.text = f"*{event.anchor}"
                self._note("alias", f"{node.text} is an alias; write the value itself", node)
                self._add(node)
            case yaml.MappingStartEvent():
                self._begin(self._node(Kind.MAPPING, event))
            case yaml.SequenceStartEvent():
                self._begin(self._node(Kind.LIST, event))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                node, _ = self._open.pop()
                end = event.end_mark
                last = end.line if end.column else end.line - 1
                node.last_line = max(node.line, last + 1 + self._offset)
                self.is_complete = not self._open

    def _node(self, kind: Kind, event: Any) -> Node:
        self._nodes += 1
        mark = event.start_mark
        line = mark.line + 1 + self._offset
        if self._nodes > MOST_NODES or len(self._open) > MOST_DEPTH:
            deep = len(self._open) > MOST_DEPTH
            message = "values are nested too deeply" if deep else "there are too many values"
            raise UnreadableError(message, line, mark.column + 1)
        return Node(kind, line, mark.column + 1, event.end_mark.line + 1 + self._offset)

    def _scalar(self, event: Any) -> Node:
        plain = event.implicit[0]
        tag = event.tag
        if tag is None and plain:
            tag = _resolver.resolve(yaml.ScalarNode, event.value, (True, False))
        node = self._node(_KINDS.get(tag or "", Kind.TEXT), event)
        node.text = NOT_TEXT.sub(" ", event.value)  # escapes in quotes can make any character
        if event.tag and not event.tag.startswith("tag:yaml.org,2002:str"):
            self._note("tag", f"remove the tag {event.tag}", node)
            node.kind = Kind.TEXT
        return node

    def _note(self, code: str, message: str, node: Node) -> None:
        self._problems.error(code, message, node.line, node.column)

    def _begin(self, node: Node) -> None:
        self._add(node)
        self._open.append((node, None))

    def _add(self, node: Node) -> None:
        if not self._open:
            self.root = self.root or node
            self.is_complete = node.is_scalar
            return
        parent, entry = self._open[-1]
        if parent.kind is Kind.LIST:
            parent.items.append(node)
        elif entry is None:
            key = node.text if node.is_scalar else "?"
            self._open[-1] = (parent, Entry(key, Node(Kind.NULL), node.line, node.column))
        else:
            entry.value = node
            parent.entries.append(entry)
            self._open[-1] = (parent, None)
