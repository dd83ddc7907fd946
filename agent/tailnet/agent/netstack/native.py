"""The stack of the extension, where that is built."""

from tailnet.agent.netstack.interface import MAX_HALF_OPEN, MAX_STREAMS, MakeStack


def native_stack() -> MakeStack | None:
    """What makes one; ``None`` where there is no extension."""
    try:
        from tailnet_native import Netstack  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return lambda fd: Netstack(fd, max_streams=MAX_STREAMS, max_half_open=MAX_HALF_OPEN)
