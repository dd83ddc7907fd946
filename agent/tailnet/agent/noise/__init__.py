"""The two Noise handshakes: control (IK) and WireGuard (IKpsk2)."""
