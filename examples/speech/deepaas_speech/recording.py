"""From a WAV file to the chunks of sound that the detector takes."""

import wave
from collections.abc import Iterator

RATE = 16_000
CHUNK = 512


class BadRecordingError(ValueError):
    """The upload is not a recording that can be used; the message says why, for the caller."""


def read_chunks(path: str) -> Iterator[bytes]:
    """A recording in chunks of 512 samples (32 ms), read from the file as they are asked for.

    What is left after the last whole chunk is left out. Raises BadRecordingError if the file is
    not WAV of 16000 Hz, mono, 16 bit.
    """
    try:
        with wave.open(path, "rb") as recording:
            _check(recording)
            size = CHUNK * recording.getsampwidth()
            while len(chunk := recording.readframes(CHUNK)) == size:
                yield chunk
    except (wave.Error, EOFError, RuntimeError) as error:  # what the reader of wave raises
        why = f": {error}" if isinstance(error, wave.Error) else ""
        raise BadRecordingError(f"audio is not a readable WAV file{why}") from error


def _check(recording: wave.Wave_read) -> None:
    rate, channels = recording.getframerate(), recording.getnchannels()
    bits = 8 * recording.getsampwidth()
    if (rate, channels, bits) != (RATE, 1, 16):
        raise BadRecordingError(
            f"audio must be {RATE} Hz, 1 channel, 16 bit; this is {rate} Hz, {channels} "
            f"channel{'s' if channels > 1 else ''}, {bits} bit"
        )
