"""The handshake in Rust, ``agent/native/src/handshake``; this module only translates."""

from typing import TYPE_CHECKING

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.noise.wireguard.interface import NO_PSK, TransportKeys

if TYPE_CHECKING:
    import tailnet_native


class NativeInitiator:
    """One attempt to reach a peer."""

    __slots__ = ("_native", "first")

    def __init__(self, native: "tailnet_native.Initiator") -> None:
        self._native = native
        self.first = native.first

    def finish_untrusted(self, second: bytes) -> TransportKeys:
        """Keys, if ``second`` answers."""
        try:
            return TransportKeys(*self._native.finish(second))
        except ValueError as error:
            raise BadPacket(str(error)) from None


class NativeResponder:
    """A first message that authenticated."""

    __slots__ = ("_native", "remote", "timestamp")

    def __init__(self, native: "tailnet_native.Responder") -> None:
        self._native = native
        self.remote = NodePublic(native.remote)
        self.timestamp = native.timestamp

    def answer(self) -> tuple[bytes, TransportKeys]:
        """The second message and the keys."""
        try:
            second, keys = self._native.answer()
        except ValueError as error:
            raise BadPacket(str(error)) from None
        return second, TransportKeys(*keys)


class NativeHandshakes:
    """The :class:`~tailnet.agent.noise.wireguard.interface.Handshakes` in Rust.

    Args:
        private: our static key.
        psk: 32 bytes.
    """

    __slots__ = ("_native",)

    def __init__(self, private: NodePrivate, psk: bytes = NO_PSK) -> None:
        from tailnet_native import Handshakes  # noqa: PLC0415 - optional

        self._native = Handshakes(private.raw, psk)

    def begin(self, remote: NodePublic, ephemeral: bytes, timestamp: bytes) -> NativeInitiator:
        """Try to reach ``remote``."""
        try:
            return NativeInitiator(self._native.begin(remote.raw, ephemeral, timestamp))
        except ValueError as error:
            raise BadPacket(str(error)) from None

    def read_untrusted(self, first: bytes, ephemeral: bytes) -> NativeResponder:
        """Open a first message."""
        try:
            return NativeResponder(self._native.read(first, ephemeral))
        except ValueError as error:
            raise BadPacket(str(error)) from None
