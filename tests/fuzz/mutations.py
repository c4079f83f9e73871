"""Strategies for hostile input: mutations of valid input, and sequences of tokens."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import strategies as st

Edit = tuple[str, int, int, bytes]
"""The kind of mutation, its position, its length, and a token."""

KINDS = ("insert", "delete", "replace", "repeat", "move", "truncate", "flip")


def apply(data: bytes, edit: Edit) -> bytes:
    """Return the data after one mutation."""
    kind, place, length, token = edit
    start = place % (len(data) + 1)
    end = min(start + length, len(data))
    before, part, after = data[:start], data[start:end], data[end:]
    match kind:
        case "insert":
            return before + token + part + after
        case "delete":
            return before + after
        case "replace":
            return before + token + after
        case "repeat":
            return before + part * 2 + after
        case "move":
            return before + after + part
        case "flip":
            return before + bytes(byte ^ (1 << place % 8) for byte in part[:1]) + part[1:] + after
        case _:
            return before


def edits(tokens: Sequence[bytes]) -> st.SearchStrategy[Edit]:
    return st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 2**14),
        st.integers(0, 40),
        st.sampled_from(list(tokens)) | st.binary(max_size=3),
    )


@st.composite
def mutated(
    draw: st.DrawFn, valid: st.SearchStrategy[bytes], tokens: Sequence[bytes], most: int = 5
) -> bytes:
    """Return valid input with up to `most` mutations."""
    data = draw(valid)
    for edit in draw(st.lists(edits(tokens), max_size=most)):
        data = apply(data, edit)
    return data


def of_tokens(tokens: Sequence[bytes], most: int = 25) -> st.SearchStrategy[bytes]:
    """Return up to `most` tokens in any order."""
    return st.lists(st.sampled_from(list(tokens)), max_size=most).map(b"".join)


def places() -> st.SearchStrategy[list[int]]:
    """Return positions for `cut`. An empty list cuts the data into single bytes."""
    return st.lists(st.integers(0, 2**14), max_size=8)


SINGLE_BYTES_UP_TO = 1500
"""Longer data would take too long to send byte by byte."""


def cut(data: bytes, chosen: Sequence[int]) -> list[bytes]:
    """Cut the data into non-empty pieces."""
    size = len(data)
    if not chosen and size <= SINGLE_BYTES_UP_TO:
        edges = list(range(size + 1))
    else:
        line_ends = [index for index, byte in enumerate(data) if byte == ord("\n")]
        edges = sorted({0, size, *(_place(number, size, line_ends) for number in chosen)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def _place(number: int, size: int, line_ends: Sequence[int]) -> int:
    """Return a position within the data; an odd `number` gives one near the end of a line."""
    if number % 2 == 0 or not line_ends:
        return number % (size + 1)
    nearby = line_ends[number // 10 % len(line_ends)] + number // 2 % 5 - 2
    return min(max(nearby, 0), size)
