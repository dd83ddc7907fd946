"""A control connection after the handshake: HTTP/2 inside records, for both ends."""

from tailnet.agent.control.records import EarlyPayload, RecordStream, early_payload
from tailnet.agent.http2.connection import Http2
from tailnet.agent.noise.control import TransportKeys


class Channel:
    """Bytes of the connection on one side, :class:`Http2` on the other.

    Args:
        early: JSON that a server sends before HTTP/2; ``None`` sends none.

    Attributes:
        http: open requests and read events here, then send what :meth:`poll_transmit` gives.
    """

    def __init__(self, keys: TransportKeys, *, client: bool, early: bytes | None = None) -> None:
        self.http = Http2(client=client)
        self._records = RecordStream(keys)
        self._early = EarlyPayload() if client else None
        self._pending = b"" if early is None else early_payload(early)

    def receive_untrusted(self, data: bytes) -> None:
        """Bytes from the network, in any chunks.

        Raises:
            BadPacket: damaged or out of order; the connection is over.
        """
        plain = self._records.open_untrusted(data)
        if self._early is not None:
            plain = self._early.strip_untrusted(plain)
        if plain:
            self.http.receive_untrusted(plain)

    def poll_transmit(self) -> bytes | None:
        """Bytes for the network, or ``None``."""
        plain = self._pending + (self.http.poll_transmit() or b"")
        self._pending = b""
        return self._records.seal(plain) or None
