"""Process calls one at a time, for models with a plain `predict`."""

from __future__ import annotations

import socket
from time import monotonic

from deepaas import context
from deepaas.model.v2.exchange import Reply
from deepaas.model.v2.invocation import Stream
from deepaas.protocol import messages
from deepaas.worker.host import Host
from deepaas.worker.reply_sender import Control, Flow, ReplySender, pieces


class SequentialLoop:
    def __init__(
        self, host: Host, requests: socket.socket, replies: ReplySender, control: Control
    ) -> None:
        self._host = host
        self._requests = requests
        self._replies = replies
        self._control = control

    def serve(self) -> None:
        buffer = bytearray(messages.MAX_PACKET)
        view = memoryview(buffer)
        while size := self._requests.recv_into(buffer):
            taken = monotonic()
            call_id, call = messages.decode_call(view[:size])
            context.set_requests((call.context,))
            if call.validate:
                reply: Reply | Stream = self._host.validate(call)
            else:
                reply = self._host.invocation.invoke(call, taken)
            if type(reply) is Reply:
                reply.unknown = call.unknown
                self._replies.send(call_id, reply)
            elif isinstance(reply, Stream):
                opened = messages.Opened(reply.headers, call.unknown, reply.measured)
                self._send(call_id, reply, opened)

    def _send(self, call_id: int, stream: Stream, opened: messages.Opened) -> None:
        """Send a stream to its end, unless it is cancelled."""
        self._replies.send_stream(call_id, opened)
        end = messages.Closed()
        flow = Flow(self._host.options.stream_buffer)
        try:
            while (data := stream.next()) is not None:
                if not self._send_item(call_id, flow, data):
                    break
        except EOFError:
            raise  # the server has closed the connection
        except BaseException as error:
            reply = self._host.runtime.failed(error)
            end = messages.Closed(reply.reason, reply.code)
        finally:
            stream.close()
        self._replies.send_stream(call_id, end)

    def _send_item(self, call_id: int, flow: Flow, data: bytes) -> bool:
        """Send an item when there is room for it. Return False if the call is cancelled."""
        for piece in pieces(data):
            while True:
                message = self._control.poll() if flow.is_open else self._control.receive()
                match message:
                    case None:
                        break
                    case messages.Taken(id, size) if id == call_id:
                        flow.taken(size)
                    case messages.Cancel(id) if id == call_id:
                        return False
            self._replies.send_stream(call_id, messages.Part(piece))
            flow.sent(len(piece))
        return True
