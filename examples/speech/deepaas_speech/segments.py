"""Turns the probability of speech in each chunk into segments of speech."""

from collections.abc import Iterable, Iterator

from .recording import CHUNK, RATE


def find_segments(
    probabilities: Iterable[float], threshold: float, min_silence: float
) -> Iterator[tuple[float, float]]:
    """Yield the start and the end of each segment of speech, in seconds, as soon as it has ended.

    A chunk is speech if its probability is not below `threshold`. Segments with less than
    `min_silence` seconds between them are joined.
    """
    start: int | None = None
    end = 0
    for position, probability in enumerate(probabilities):
        if probability >= threshold:
            start = position if start is None else start
            end = position + 1
        elif start is not None and _seconds(position + 1 - end) >= min_silence:
            yield _seconds(start), _seconds(end)
            start = None
    if start is not None:
        yield _seconds(start), _seconds(end)


def _seconds(chunks: int) -> float:
    return chunks * CHUNK / RATE
