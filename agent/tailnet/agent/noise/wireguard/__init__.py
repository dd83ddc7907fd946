"""WireGuard's handshake, Noise IKpsk2: two implementations behind :mod:`.interface`."""
