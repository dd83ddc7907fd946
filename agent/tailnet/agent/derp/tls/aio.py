"""TLS over a connected socket, as a transport of asyncio.

asyncio has one, which is a protocol upon a transport: each side of it has its own buffers, states
and callbacks.  A relayed packet passes four of them on its way there and back, and what the
processor has not at hand after some milliseconds of sleep costs ten times what a benchmark says.
So this is one layer: socket, OpenSSL's memory, protocol.
"""

import asyncio
import contextlib
import socket
import ssl
from typing import Any

READ_SIZE = 124 << 10  # bytes of one read; from 128 KiB on malloc maps and unmaps each buffer
RECORD = 1 << 14  # bytes; OpenSSL gives at most one record a time
HIGH_WATER = 1 << 16  # bytes that the socket did not take, from which on the protocol shall wait


class TlsTransport(asyncio.Transport):
    """Made by :func:`connect`; silent until :meth:`begin`."""

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        buffer: memoryview,
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._buffer = buffer
        self._protocol: asyncio.Protocol | None = None
        self._unsent = b""
        self._high = HIGH_WATER
        self._paused = False
        self._closed = False

    @property
    def certificate(self) -> bytes:
        """The relay's own, in DER; empty if it showed none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Give the stream to its owner."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._loop.call_soon(self._decrypt)  # what came right behind the handshake
        self._loop.add_reader(self._sock, self._readable)

    # --- asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's
        """``socket`` and ``sockname``."""
        match name:
            case "socket":
                return self._sock
            case "sockname":
                return self._sock.getsockname()
            case _:
                return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """``high`` [bytes]; the protocol goes on when all is sent, whatever ``low`` is."""
        del low
        self._high = HIGH_WATER if high is None else high

    def pause_reading(self) -> None:
        """The protocol wants nothing for now."""
        self._loop.remove_reader(self._sock)

    def resume_reading(self) -> None:
        """It does again."""
        if not self._closed:
            self._loop.add_reader(self._sock, self._readable)

    def is_closing(self) -> bool:
        """Nothing more is read or written."""
        return self._closed

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Never blocks; what the socket does not take waits."""
        if self._closed:
            return
        try:
            # A view, since OpenSSL takes records of 16 KiB and the rest must not be cut by copying.
            rest = memoryview(data)
            while rest:
                rest = rest[self._tls.write(rest) :]
            self._flush()
        except OSError as error:
            self._end(error)

    def abort(self) -> None:
        """Close at once."""
        self._end(None)

    def close(self) -> None:
        """Close at once: nobody waits for the last bytes to a relay."""
        self._end(None)

    # --- inside

    def _flush(self) -> None:
        """Send all ciphertext; raises ``OSError``."""
        unsent = self._unsent + self._outgoing.read() if self._unsent else self._outgoing.read()
        if not unsent:
            return
        sent = 0
        with contextlib.suppress(BlockingIOError, InterruptedError):
            sent = self._sock.send(unsent)
        waited = bool(self._unsent)
        self._unsent = unsent[sent:]
        if not self._unsent:
            if waited:
                self._loop.remove_writer(self._sock)
                self._resume()
            return
        if not waited:
            self._loop.add_writer(self._sock, self._writable)
        if len(self._unsent) > self._high and not self._paused and self._protocol is not None:
            self._paused = True
            self._protocol.pause_writing()

    def _resume(self) -> None:
        if self._paused and self._protocol is not None:
            self._paused = False
            self._protocol.resume_writing()

    def _writable(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self._end(error)

    def _readable(self) -> None:
        try:
            size = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if not size:
            self._eof()
            return
        self._incoming.write(self._buffer[:size])
        self._decrypt()

    def _decrypt(self) -> None:
        """Hand over what is whole."""
        if self._closed or self._protocol is None:
            return
        clear: list[bytes] = []
        over = False
        try:
            while self._incoming.pending or self._tls.pending():
                if not (record := self._tls.read(RECORD)):
                    over = True
                    break
                clear.append(record)
        except ssl.SSLWantReadError:
            pass  # half a record
        except ssl.SSLZeroReturnError:
            over = True
        except OSError as error:
            self._end(error)
            return
        if self._outgoing.pending:  # an answer of TLS itself: new keys
            self._writable()
        if clear:
            self._protocol.data_received(clear[0] if len(clear) == 1 else b"".join(clear))
        if over:
            self._eof()

    def _eof(self) -> None:
        if self._protocol is not None and not self._closed:
            self._protocol.eof_received()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)


async def connect(
    sock: socket.socket, context: ssl.SSLContext, server_name: str, buffer: memoryview
) -> TlsTransport:
    """Shake hands over a connected socket, which is owned from here on.

    Args:
        sock: not blocking.
        context: says what of the certificate is checked.
        server_name: whom we want.
        buffer: is only used while reading: all connections can share one.

    Raises:
        OSError: the connection broke, or TLS failed.
    """
    loop = asyncio.get_running_loop()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, outgoing.read())
                if not (data := await loop.sock_recv(sock, READ_SIZE)):
                    msg = "the relay closed the connection"
                    raise ConnectionResetError(msg) from None
                incoming.write(data)
            except OSError:
                with contextlib.suppress(OSError):
                    sock.send(outgoing.read())  # says why
                raise
            else:
                await loop.sock_sendall(sock, outgoing.read())
                return TlsTransport(sock, tls, incoming, outgoing, buffer)
    except BaseException:
        sock.close()
        raise
