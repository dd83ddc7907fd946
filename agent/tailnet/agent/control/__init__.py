"""The session with the control server: register, map stream, netmap."""
