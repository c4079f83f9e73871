"""From the probability of speech in each chunk to the segments in which somebody speaks."""

from collections.abc import Iterable, Iterator

from .recording import CHUNK, RATE


def find_segments(
    probabilities: Iterable[float], threshold: float, min_silence: float
) -> Iterator[tuple[float, float]]:
    """Where speech begins and ends, in seconds, each as soon as it is over.

    A chunk is speech if its probability is not below `threshold`. Segments with less than
    `min_silence` seconds between them are one.
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
