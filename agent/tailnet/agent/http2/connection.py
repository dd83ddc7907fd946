"""HTTP/2 over any byte stream, for both ends, on top of ``h2``.

``h2`` frames and keeps the rules; this adds what every user of it needs: bodies that wait for the
other end's window, and windows of our own that open as data is consumed.  The connection's window
is so large that one slow stream never blocks another.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from tailnet.agent.errors import BadPacket, LocalProtocolError
from tailnet.agent.http2.goodbye import Goodbye, Goodbyes

STREAM_WINDOW = 4 << 20  # bytes
CONNECTION_WINDOW = 1 << 30  # bytes
MAX_FRAME = 256 << 10  # bytes that the other end may put into one frame
MAX_STREAMS = 250  # that a client may have open at once
MAX_HEADERS = 64 << 10  # bytes
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
PREFACE_LEN = 24  # bytes that a client sends before its first frame; RFC 9113 section 3.4


@dataclass(frozen=True, slots=True)
class Head:
    """Head of a request or response; names are lower case, ``:status`` and the like included."""

    stream: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Body:
    """Part of a body.  Call ``consumed`` with ``size`` once it is dealt with."""

    stream: int
    data: bytes
    size: int
    """Bytes of window that it holds, padding included."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The other end has sent all of this stream; ``reason`` is empty if it ended well."""

    stream: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The other end takes no further streams; those up to ``last`` may still finish."""

    reason: str
    last: int


HttpEvent = Head | Body | Ended | GoneAway


@dataclass(slots=True)
class _Outgoing:
    data: bytearray = field(default_factory=bytearray)
    end: bool = False


class Http2:
    """One end of an HTTP/2 connection with prior knowledge."""

    def __init__(self, *, client: bool) -> None:
        config = h2.config.H2Configuration(client_side=client, header_encoding=None)
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings = h2.settings.Settings(
            client=client,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                h2.settings.SettingCodes.MAX_FRAME_SIZE: MAX_FRAME,
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self._h2.max_inbound_frame_size = MAX_FRAME
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW)
        self._events: deque[HttpEvent] = deque()
        self._outgoing: dict[int, _Outgoing] = {}
        self._goodbyes = Goodbyes(skip=0 if client else PREFACE_LEN)
        self._gone = False

    @property
    def has_room(self) -> bool:
        """The other end takes one more stream now."""
        most = self._h2.remote_settings.max_concurrent_streams
        return not self._gone and self._h2.open_outbound_streams < most

    def ping(self) -> None:
        """Ask for a sign of life; the answer is not an event, but it is bytes."""
        self._h2.ping(bytes(8))

    def open(
        self,
        method: str,
        path: str,
        authority: str,
        body: bytes,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> int:
        """Send a request (client) with more ``headers``; the new stream's number.

        Raises:
            LocalProtocolError: the connection takes no more streams.
        """
        if self._gone:
            msg = "the server takes no more requests on this connection"
            raise LocalProtocolError(msg)
        head = [
            (":method", method),
            (":scheme", "https"),
            (":authority", authority),
            (":path", path),
            *headers.items(),
        ]
        if body:
            head.append(("content-length", str(len(body))))
        try:
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, head, end_stream=not body)
        except (h2.exceptions.ProtocolError, h2.exceptions.NoAvailableStreamIDError) as error:
            msg = f"cannot open a stream: {error}"
            raise LocalProtocolError(msg) from None
        if body:
            self.write(stream, body, end=True)
        return stream

    def respond(self, stream: int, status: int, headers: dict[str, str], *, end: bool) -> None:
        """Send a response head (server); nothing if the stream is gone."""
        head = [(":status", str(status)), *headers.items()]
        try:
            self._h2.send_headers(stream, head, end_stream=end)
        except h2.exceptions.ProtocolError:
            self._outgoing.pop(stream, None)

    def write(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send body bytes as the other end's window allows; nothing if the stream is gone."""
        out = self._outgoing.setdefault(stream, _Outgoing())
        out.data += data
        out.end |= end
        self._flush(stream)

    def queued(self, stream: int) -> int:
        """Body bytes that wait for the other end's window."""
        out = self._outgoing.get(stream)
        return len(out.data) if out else 0

    def consumed(self, stream: int, size: int) -> None:
        """Give back the window that a :class:`Body` held."""
        try:
            self._h2.acknowledge_received_data(size, stream)
        except (h2.exceptions.ProtocolError, ValueError):
            return  # the connection is closed

    def cancel(self, stream: int) -> None:
        """Give a stream up."""
        self._outgoing.pop(stream, None)
        try:
            self._h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        except h2.exceptions.ProtocolError:
            return  # it is gone already

    def receive_untrusted(self, data: bytes) -> None:
        """Bytes of the connection, in any chunks.

        Raises:
            BadPacket: the other end broke HTTP/2; the connection is over.
        """
        data, goodbyes = self._goodbyes.split_untrusted(data)
        try:
            events = self._h2.receive_data(data) if data else []
        except (h2.exceptions.ProtocolError, ValueError, KeyError) as error:
            msg = f"bad HTTP/2: {error}"
            raise BadPacket(msg) from None
        for event in events:
            self._handle(event)
        for goodbye in goodbyes:
            self._leave(goodbye)

    def poll_transmit(self) -> bytes | None:
        """Bytes to send, or ``None``."""
        return self._h2.data_to_send() or None

    def poll_event(self) -> HttpEvent | None:
        """Next event, or ``None``."""
        return self._events.popleft() if self._events else None

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived() | h2.events.ResponseReceived():
                headers = {_text(name).lower(): _text(value) for name, value in event.headers or ()}
                self._events.append(Head(event.stream_id or 0, headers))
            case h2.events.DataReceived():
                size = event.flow_controlled_length or 0
                self._events.append(Body(event.stream_id or 0, event.data or b"", size))
            case h2.events.StreamEnded():
                self._events.append(Ended(event.stream_id or 0))
            case h2.events.StreamReset():
                self._outgoing.pop(event.stream_id or 0, None)
                self._events.append(Ended(event.stream_id or 0, f"reset ({event.error_code})"))
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for stream in list(self._outgoing):
                    self._flush(stream)
            case _:
                pass  # pings and settings are answered by h2

    def _leave(self, goodbye: Goodbye) -> None:
        self._gone = True
        for stream in [number for number in self._outgoing if number > goodbye.last]:
            del self._outgoing[stream]
        reason = f"the other end said goodbye ({goodbye.error})"
        self._events.append(GoneAway(reason, goodbye.last))

    def _flush(self, stream: int) -> None:
        out = self._outgoing[stream]
        try:
            while out.data or out.end:
                room = min(
                    self._h2.local_flow_control_window(stream),
                    self._h2.max_outbound_frame_size,
                )
                if out.data and room <= 0:
                    return
                chunk = bytes(memoryview(out.data)[:room])
                last = out.end and len(chunk) == len(out.data)
                self._h2.send_data(stream, chunk, end_stream=last)
                del out.data[: len(chunk)]
                if last:
                    break
        except (h2.exceptions.ProtocolError, KeyError):
            out.end = True  # the stream is gone
        if out.end:
            del self._outgoing[stream]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
