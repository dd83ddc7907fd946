"""Names of the drop counters; the set is fixed."""

from tailnet.agent.filter.match import Verdict

# Outbound.
OUT_MALFORMED = "out_malformed"
OUT_CHECKSUM = "out_checksum"
OUT_FILTER = "out_filter"  # multicast, link-local, unknown protocols
OUT_TSMP = "out_tsmp"
OUT_SERVICE = "out_service"  # nobody took it
OUT_NO_PEER = "out_no_peer"
OUT_QUEUE_FULL = "out_queue_full"
OUT_DISCARDED = "out_discarded"  # waited for a session that never came
OUT_NO_PATH = "out_no_path"
OUT_SEND = "out_send"  # refused by the kernel
OUT_BACKLOG = "out_backlog"  # sockets stayed full for too long
# Inbound, before authentication.
IN_UNKNOWN = "in_unknown"
IN_NO_SESSION = "in_no_session"
IN_EXPIRED = "in_expired"
IN_FORGED = "in_forged"
# Inbound, after it.
IN_REPLAY = "in_replay"
IN_MALFORMED = "in_malformed"
IN_CHECKSUM = "in_checksum"
IN_SOURCE = "in_source"
IN_SERVICE = "in_service"
IN_MULTICAST = "in_multicast"
IN_LINK_LOCAL = "in_link_local"
IN_NOT_LOCAL = "in_not_local"
IN_DENIED = "in_denied"
TUN_WRITE = "tun_write"
UDP_READ = "udp_read"  # errors the kernel reported on reading
UPCALLS_FULL = "upcalls_full"
CAPTURE = "capture"  # copies for a capture, not the packets

NAMES = (
    OUT_MALFORMED,
    OUT_CHECKSUM,
    OUT_FILTER,
    OUT_TSMP,
    OUT_SERVICE,
    OUT_NO_PEER,
    OUT_QUEUE_FULL,
    OUT_DISCARDED,
    OUT_NO_PATH,
    OUT_SEND,
    OUT_BACKLOG,
    IN_UNKNOWN,
    IN_NO_SESSION,
    IN_EXPIRED,
    IN_FORGED,
    IN_REPLAY,
    IN_MALFORMED,
    IN_CHECKSUM,
    IN_SOURCE,
    IN_SERVICE,
    IN_MULTICAST,
    IN_LINK_LOCAL,
    IN_NOT_LOCAL,
    IN_DENIED,
    TUN_WRITE,
    UDP_READ,
    UPCALLS_FULL,
    CAPTURE,
)

INBOUND = {
    Verdict.UNKNOWN: IN_MALFORMED,
    Verdict.MULTICAST: IN_MULTICAST,
    Verdict.LINK_LOCAL: IN_LINK_LOCAL,
    Verdict.NOT_LOCAL: IN_NOT_LOCAL,
    Verdict.DENIED: IN_DENIED,
}


def counters() -> dict[str, int]:
    """All counters at zero."""
    return dict.fromkeys(NAMES, 0)
