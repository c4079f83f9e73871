"""Reads a WAV file in chunks for the detector."""

import wave
from collections.abc import Iterator

RATE = 16_000
CHUNK = 512


class BadRecordingError(ValueError):
    """The upload is not a usable recording; the message tells the caller why."""


def read_chunks(path: str) -> Iterator[bytes]:
    """Yield a recording in chunks of 512 samples (32 ms), and read each only when it is needed.

    An incomplete last chunk is dropped. Raises BadRecordingError if the file is not WAV of
    16000 Hz, mono, 16 bit.
    """
    try:
        with wave.open(path, "rb") as recording:
            _check(recording)
            size = CHUNK * recording.getsampwidth()
            while len(chunk := recording.readframes(CHUNK)) == size:
                yield chunk
    except (wave.Error, EOFError, RuntimeError) as error:  # raised by the reader of wave
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
