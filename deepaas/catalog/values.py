"""Takes typed values from a parsed file, and reports each value that has another form."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence

from deepaas.catalog import vocabulary
from deepaas.catalog.problems import Edit, Problem, Problems, Replacement, Severity
from deepaas.catalog.sections import quoted
from deepaas.catalog.tree import Entry, Kind, Node

PLACEHOLDER = re.compile(r"^https?://add-?some-", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://[^\s/?#]+[^\s]*", re.IGNORECASE)
_CREDENTIALS = re.compile(r"^(\w+://)[^/@\s]+@")
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
MOST_TEXT = 200_000  # characters
MOST_ITEMS = 100  # of a list

Edits = tuple[Edit | Replacement, ...]


class Values:
    """The entries of one mapping. `path` is its own path, such as `links`."""

    def __init__(self, node: Node, problems: Problems, path: str = "") -> None:
        self.node = node
        self.problems = problems
        self.path = path
        self.used: set[str] = set()

    def name_of(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def rename_near(self, known: Sequence[str]) -> None:
        """Give entries with a misspelt key the known key that is meant, and report them."""
        present = {entry.key for entry in self.node.entries}
        for entry in self.node.entries:
            if entry.key in known:
                continue
            near = vocabulary.nearest(entry.key, [k for k in known if k not in present], 0.8)
            if near:
                message = f"there is no field {entry.key}; did you mean {near}?"
                self._report(Severity.ERROR, "unknown-field", message, entry, _renamed(entry, near))
                entry.key = near
                present.add(near)

    def entry(self, key: str) -> Entry | None:
        """Return the last entry with this key that is not empty; report a second one."""
        self.used.add(key)
        entries = self.node.all(key)
        if len(entries) > 1:
            lines = " and ".join(str(one.line) for one in entries)
            message = (
                f"{self.name_of(key)} is written more than once, in lines {lines}; write it once"
            )
            self._report(Severity.ERROR, "duplicate", message, entries[-1])
        filled = [one for one in entries if not one.value.is_empty] or entries
        return filled[-1] if filled else None

    def require(self, *keys: str) -> None:
        """Report each of these keys that is absent or empty."""
        for key in keys:
            entries = self.node.all(key)
            if any(not one.value.is_empty for one in entries):
                continue
            name = self.name_of(key)
            if entries:
                message = f"{name} is empty, but required; write a value"
                self._report(Severity.ERROR, "required", message, entries[-1])
            else:
                self.problems.error("required", f"{name} is missing; add it", name=name)

    # --- scalars

    def text(self, key: str) -> str:
        """Return a text; a list becomes lines, and other kinds are read as they are written."""
        entry = self.entry(key)
        if entry is None or entry.value.is_empty:
            return ""
        value = entry.value
        if value.kind is Kind.LIST:
            message = f"{self.name_of(key)} is a list; write a text"
            self._report(Severity.ERROR, "form", message, entry)
            return "\n".join(one.text for one in value.scalars())[:MOST_TEXT]
        if value.kind is Kind.MAPPING:
            message = f"{self.name_of(key)} is a mapping; write a text"
            self._report(Severity.ERROR, "form", message, entry)
            return ""
        if value.kind is not Kind.TEXT:
            message = f'{self.name_of(key)} is a {value.kind}; write it in quotes: "{value.text}"'
            self._report(
                Severity.ERROR, "form", message, entry, self._rewritten(entry, f'"{value.text}"')
            )
        return value.text[:MOST_TEXT].strip()

    def date(self, key: str) -> str:
        """Return a date as it is written; report one that does not exist."""
        entry = self.entry(key)
        if entry is None or not entry.value.is_scalar or entry.value.is_empty:
            return ""
        text = entry.value.text.strip()[:40]
        found = _DATE.match(text)
        if found is None or not _is_date(*map(int, found.groups())):
            message = f"{self.name_of(key)} is {text!r}, and not a date; write it as 2026-01-31"
            self._report(Severity.ERROR, "date", message, entry)
        return text

    # --- lists

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the texts of a list, each once; of all lists if the key stands there twice."""
        self.entry(key)  # reports duplicates
        found: dict[str, None] = {}
        for entry in self.node.all(key):
            value = entry.value
            if value.is_scalar and not value.is_empty:
                message = (
                    f"{self.name_of(key)} is a {value.kind}; write a list: [{value.text[:60]}]"
                )
                edit = self._rewritten(entry, f"[{quoted(value.text)}]")
                self._report(Severity.ERROR, "form", message, entry, edit)
            elif value.kind is Kind.MAPPING:
                message = f"{self.name_of(key)} is a mapping; write a list"
                self._report(Severity.ERROR, "form", message, entry)
            for one in value.scalars():
                found.setdefault(one.text.strip()[:200], None)
            if len(found) > MOST_ITEMS:
                message = (
                    f"{self.name_of(key)} has more than {MOST_ITEMS} entries; the rest is not read"
                )
                self._report(Severity.ERROR, "too-many", message, entry)
        found.pop("", None)
        return tuple(found)[:MOST_ITEMS]

    def words(self, key: str, words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the words of a vocabulary, and those that are in none."""
        known: dict[str, None] = {}
        others: dict[str, None] = {}
        for text in self.texts(key):
            word = vocabulary.match(text, words)
            (known if word else others).setdefault(word or text, None)
            if word != text:
                self._wrong_word(key, text, words, word)
        return tuple(known), tuple(others)

    def _wrong_word(self, key: str, text: str, words: Sequence[str], word: str) -> None:
        near = word or vocabulary.nearest(text, words)
        if near:
            remedy = (
                f"write {near!r}" if word else f"did you mean {near!r}? Otherwise make it a tag"
            )
        else:
            remedy = f"make it a tag, or write one of {', '.join(words)}"
        message = f"{text!r} is not a word of {self.name_of(key)}; {remedy}"
        for entry in self.node.all(key):
            for one in entry.value.scalars():
                if one.text.strip() == text:
                    edits = _replaced(one, text, word) if word else ()
                    problem = Problem(
                        *(Severity.ERROR, "unknown-word", message, one.line, one.column),
                        field=self.name_of(key),
                        edits=edits,
                    )
                    self.problems.add(problem)

    # --- mappings, addresses, the rest

    def mapping(self, key: str) -> Values:
        """Return the values of a mapping; those of all mappings if the key stands there twice."""
        self.entry(key)
        node = Node(Kind.MAPPING)
        for entry in self.node.all(key):
            if entry.value.kind is Kind.MAPPING:
                node.entries += entry.value.entries
                node.line = entry.line
            elif not entry.value.is_empty:
                message = f"{self.name_of(key)} is a {entry.value.kind}; write a mapping"
                self._report(Severity.ERROR, "form", message, entry)
        return Values(node, self.problems, self.name_of(key))

    def address(self, key: str) -> str:
        """Return an address of the web, or "" for one that must not be a link."""
        text = self.text(key)
        entry = self.entry(key)
        if not text or entry is None:
            return ""
        name = self.name_of(key)
        if PLACEHOLDER.match(text):
            message = f"{name} is the placeholder {text}; write the address, or remove the line"
            self._report(Severity.ERROR, "placeholder", message, entry, self._removed(entry))
            return ""
        if _CREDENTIALS.match(text):
            message = f"{name} has a user name or password; remove it from the address"
            self._report(Severity.ERROR, "credentials", message, entry)
            text = _CREDENTIALS.sub(r"\1", text)
        if not _ADDRESS.fullmatch(text):
            message = f"{name} is {text[:80]!r}, and not an address; write https://..."
            self._report(Severity.ERROR, "address", message, entry)
            return ""
        return text

    def rest(self) -> Iterable[Entry]:
        """Return the entries whose keys have not been used."""
        return [entry for entry in self.node.entries if entry.key not in self.used]

    def warn(self, code: str, message: str, entry: Entry, edits: Edits = ()) -> None:
        self._report(Severity.WARNING, code, message, entry, edits)

    def error(self, code: str, message: str, entry: Entry, edits: Edits = ()) -> None:
        self._report(Severity.ERROR, code, message, entry, edits)

    def _report(
        self,
        severity: Severity,
        code: str,
        message: str,
        entry: Entry,
        edits: Edits = (),
    ) -> None:
        name = self.name_of(entry.key)
        problem = Problem(severity, code, message, entry.line, entry.column, name, edits)
        self.problems.add(problem)

    def _line(self, entry: Entry) -> re.Match[str] | None:
        """Match the line of an entry if it has this entry only: `key: value  # comment`."""
        lines = self.problems.lines
        if entry.value.last_line != entry.line or entry.line > len(lines):
            return None
        key, value = re.escape(entry.key), re.escape(entry.value.text)
        written = rf"(?:{value}|'{value}'|\"{value}\")"
        form = rf"(?P<head>\s*{key}\s*:\s+){written}(?P<tail>\s*(?:#.*)?)"
        return re.fullmatch(form, lines[entry.line - 1])

    def _rewritten(self, entry: Entry, value: str) -> Edits:
        """Return the edit that writes another value in the line of the entry."""
        found = self._line(entry)
        if found is None:
            return ()
        return (Edit(entry.line, entry.line, (found["head"] + value + found["tail"],)),)

    def _removed(self, entry: Entry) -> Edits:
        return (Edit(entry.line, entry.line, ()),) if self._line(entry) else ()


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True


def _renamed(entry: Entry, key: str) -> Edits:
    return (Replacement(entry.line, entry.column, entry.key, key),)


def _replaced(node: Node, old: str, new: str) -> Edits:
    return (Replacement(node.line, node.column, old, new),)
