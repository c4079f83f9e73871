"""Limits how many bytes a connection passes to aiohttp's parser, in total and at a time.

aiohttp limits each line of a head, but not the whole head. It parses all data that has arrived
without a pause, however many chunks it contains. If garbage follows requests in the same data, it
drops these requests.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import EMPTY_PAYLOAD, StreamReader

from deepaas.exceptions import BadRequestError, HeadTooLargeError, RequestError
from deepaas.http.aiohttp_adapter import AiohttpConnection, buffered_pieces, is_fault, set_error

if TYPE_CHECKING:
    from deepaas.http.connection import HTTPServer

logger = logging.getLogger("deepaas.api")

MAX_HELD = 64 * 1024
"""Bytes that are read before the parser can take them."""

MAX_LINES = 1000
"""Line ends that are parsed without a pause; a chunk has two of them."""

MAX_PIECES = 1000
"""Pieces of a body that are buffered for their reader, which may take all of them at once."""

SLICE = 4 * 1024
"""Bytes that are parsed without a pause if there are more than MAX_LINES line ends."""

LINE_COST = 400
"""Bytes of memory that a header takes in addition to its text."""

FREE_FRAMING = 64 * 1024
MAX_FRAMING = 16
"""A chunked body may have FREE_FRAMING bytes of framing, and MAX_FRAMING per byte of content."""

_BLANK_LINE = b"\r\n\r\n"


class UnfinishedHeads:
    """The connections with unfinished request heads, and the memory that these heads take.

    If it exceeds `most` bytes (0 is no limit), the connections whose heads began first are closed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[Intake, int] = {}
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    def add(self, connection: Intake, size: int) -> None:
        self._sizes[connection] = self._sizes.get(connection, 0) + size
        self._total += size
        if self._most and self._total > self._most:
            self._close_oldest()

    def remove(self, connection: Intake) -> None:
        self._total -= self._sizes.pop(connection, 0)

    def _close_oldest(self) -> None:
        count = 0
        while self._total > self._most:
            oldest = next(iter(self._sizes))
            self.remove(oldest)
            oldest.force_close()
            count += 1
        logger.warning(
            "Closed %d connection(s) with the oldest unfinished request heads: unfinished heads "
            "took more memory than --max-heads-memory (%d bytes)",
            count,
            self._most,
        )


class Intake(AiohttpConnection):
    """A connection that limits the bytes that its parser gets, in total and at a time.

    `_left` is the number of bytes of the present body that have not arrived; 0 before a head, and
    -1 if it is not known where the request ends.
    """

    __slots__ = (
        "_answered",
        "_answered_at_once",
        "_ending",
        "_goes_on",
        "_head_size",
        "_held",
        "_ignores_input",
        "_is_chunked",
        "_is_held_back",
        "_left",
        "_max_head",
        "_payload",
        "_seen",
        "_unfinished",
        "_wire",
    )

    def __init__(
        self, manager: HTTPServer, max_head: int, unfinished: UnfinishedHeads, **kwargs: Any
    ) -> None:
        super().__init__(manager, **kwargs)
        self._max_head = max_head
        self._unfinished = unfinished
        self._left = 0
        self._head_size = 0  # bytes of the unfinished head that the parser has
        self._ending = b""  # the last three bytes that the parser has
        self._wire = 0  # bytes of the present body with its framing
        self._is_chunked = False
        self._held = b""  # data that has arrived, but not reached the parser
        self._goes_on = False  # whether `_go_on` is scheduled
        self._is_held_back = False  # whether reading is paused because of `_held`
        self._ignores_input = False  # whether all further data is ignored
        self._payload: StreamReader = EMPTY_PAYLOAD  # of the last request that was parsed
        self._seen = 0  # the number of requests when `_payload` was set
        self._answered: StreamReader = EMPTY_PAYLOAD  # body of the last request with a response
        self._answered_at_once = False  # whether that response was sent in one write

    def discard_fast_request(self) -> None:
        """Discard what the fast path has begun for the present request, if no handler took it."""

    # --- from the client to the parser

    def take(self, data: bytes) -> None:
        """Pass data to the parser; b"" makes it parse the data that it has buffered."""
        if self._ignores_input:
            return
        if self._left < 0 and data:
            self._take_carefully(data)
            return
        was_in_body = not self._payload.is_eof()
        self._wire += len(data)
        super().data_received(data)
        if self.request_count != self._seen:
            self._note_request()
        elif was_in_body and self._left < 0:
            self._check_body(at_end=False)

    def _take_carefully(self, data: bytes) -> None:
        """Pass data to the parser in pieces; each contains the end of at most one head or body.

        So a request is parsed before the garbage that follows it, and no turn of the event loop
        takes long.
        """
        stop = len(data)
        if stop > SLICE and data.count(b"\r\n") > MAX_LINES:
            stop = SLICE
        start = 0
        while start < stop and not self.has_to_wait():
            end = self._end_of_piece(data, start, stop)
            self._feed(data[start:end])
            start = end
            if self._ignores_input or self.is_force_closed or self.transport is None:
                return
        if start < len(data):
            self._held = data[start:]
            self._hold_back()
            self._go_on_soon()

    def _end_of_piece(self, data: bytes, start: int, stop: int) -> int:
        """Return where the first blank line ends; it may have begun in the piece before."""
        before = len(self._ending)
        seam = (self._ending + data[start : min(start + 3, stop)]).find(_BLANK_LINE)
        if seam >= 0:
            return start + seam + 4 - before
        end = data.find(_BLANK_LINE, start, stop)
        return stop if end < 0 else end + 4

    def _feed(self, piece: bytes) -> None:
        self._left = -1
        last = (self._ending + piece[-4:])[-4:]
        self._ending = last[1:]
        is_at_end = last == _BLANK_LINE
        if self._payload.is_eof():
            self._head_size += len(piece)
            if self._refuse_large_head():
                return
            super().data_received(piece)
            if self.request_count != self._seen:
                self._note_request()
            elif not is_at_end:
                self._unfinished.add(self, len(piece) + LINE_COST * piece.count(b"\n"))
        else:
            self._wire += len(piece)
            super().data_received(piece)
            if self.request_count != self._seen:
                self._head_size = self._wire - self._payload.total_bytes
                if not self._refuse_large_head():
                    self._note_request()
            else:
                self._check_body(is_at_end)
            self._pause_if_scattered()
        if is_at_end and self._payload.is_eof() and not self.has_to_wait():
            self._left = 0
            self._ending = b""
            self._end_head()

    def _pause_if_scattered(self) -> None:
        """Stop reading if the body is buffered in very many pieces."""
        content = self._payload
        if self.is_reading_paused or content.is_eof():
            return
        if buffered_pieces(content) > MAX_PIECES:
            # pause_reading() would also pause the parser, which must not stop between two pieces.
            self.note_reading_paused()
            self._stop_reading()

    def _check_body(self, at_end: bool) -> None:
        """Limit the bytes besides a body's content: its framing, or the head that follows it."""
        content = self._payload.total_bytes
        extra = self._wire - content
        if self._payload.is_eof():
            if extra > 0 and not at_end and not self._is_chunked:
                self._head_size = extra
                if not self._refuse_large_head():
                    self._unfinished.add(self, extra)
        elif extra > FREE_FRAMING + MAX_FRAMING * content:
            self._refuse(
                BadRequestError(
                    "The request body has too little content in its chunks: more than "
                    f"{MAX_FRAMING} bytes of framing for each byte; send larger chunks"
                )
            )

    def _note_request(self) -> None:
        """Note the body of the request that was just parsed, or refuse a malformed request."""
        self._end_head()
        self._seen = self.request_count
        message, payload = self.latest()
        if not is_fault(message):
            self._payload = payload
            self._wire = payload.total_bytes
            self._is_chunked = message.chunked
            return
        self.drop_latest()
        what = "request" if self._payload.is_eof() else "request body"
        why = message.message.partition("\n")[0].strip(" :")
        self._refuse(BadRequestError(f"The {what} is malformed: {why}"))

    def _end_head(self) -> None:
        if self._head_size:
            self._head_size = 0
            self._unfinished.remove(self)

    # --- refusals

    def _refuse_large_head(self) -> bool:
        if not self._max_head or self._head_size <= self._max_head:
            return False
        if self.request_count != self._seen:  # the head has been parsed
            self.drop_latest()
            self._seen = self.request_count
        self._refuse(
            HeadTooLargeError(f"The head of the request has more than {self._max_head} bytes")
        )
        return True

    def _refuse(self, error: RequestError) -> None:
        """Send the error after the responses to earlier requests, then end the connection."""
        self._ignores_input = True
        self._held = b""
        self._head_size = 0
        self._unfinished.remove(self)
        if not self._payload.is_eof():  # this request is already being answered
            if self._payload is not self._answered:
                set_error(self._payload, error)
            elif self._answered_at_once:
                self._end_output()
            return
        # aiohttp waits a while for the end of this body, so that the client can read the response.
        endless = StreamReader(self, 2**16, loop=self.loop)
        self.add_error(error.status, error, endless)
        self._seen = self.request_count

    def note_answer(self, body: StreamReader, at_once: bool) -> None:
        """Note that the request with this body has a response, which one write sends if `at_once`.

        Afterwards aiohttp reads and ignores the rest of the body for a while. An error in this rest
        no longer matters, and is not a failure of the server.
        """
        self._answered = body
        self._answered_at_once = at_once
        if body.exception() is not None:
            set_error(body, None)
            if at_once:
                self.loop.call_soon(self._end_output)  # after the response has been written

    def _end_output(self) -> None:
        """Close the sending side: the client reads the end of the stream."""
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    # --- data that has to wait

    def hold(self, data: bytes) -> None:
        """Keep data until the parser may take it; pause reading beyond MAX_HELD bytes."""
        self._held += data
        self._hold_back()

    def _hold_back(self) -> None:
        if len(self._held) > MAX_HELD and not self._is_held_back and self.transport is not None:
            self._is_held_back = True
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self.transport is not None:
            with contextlib.suppress(RuntimeError):  # it is being closed
                self.transport.pause_reading()

    def _go_on_soon(self) -> None:
        if self._held and not self._goes_on and not self.has_to_wait():
            self._goes_on = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Pass the held data on, unless the connection is closed."""
        self._goes_on = False
        if self.transport is None or not self._held or self.has_to_wait():
            return
        held, self._held = self._held, b""
        try:
            self.data_received(held)
        except Exception:
            logger.exception("A connection failed and is closed")
            self.force_close()
        self._let_read()

    def _let_read(self) -> None:
        if self._is_held_back and len(self._held) <= MAX_HELD and self.transport is not None:
            self._is_held_back = False
            if not self.has_to_wait():
                with contextlib.suppress(RuntimeError):  # it is being closed
                    self.transport.resume_reading()

    def resume_reading(self, *args: Any, **kwargs: Any) -> None:
        # Newer releases of aiohttp call this for each piece of a body.
        if not self.is_reading_paused:
            return
        super().resume_reading(*args, **kwargs)
        self.reading_resumed()

    def reading_resumed(self) -> None:
        if self._is_held_back:
            self._stop_reading()
        self._go_on_soon()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._unfinished.remove(self)
        self._held = b""
        super().connection_lost(exc)
