"""What came from a gateway's port 5351, in whichever of the two protocols."""

from tailnet.agent.portmap import natpmp, pcp
from tailnet.agent.portmap.interface import Protocol

Answer = natpmp.Answer | pcp.Answer


def parse_untrusted(data: bytes) -> Answer:
    """By the version in the first byte.

    Raises:
        BadPacket: neither.
    """
    return pcp.parse_untrusted(data) if data[:1] == b"\x02" else natpmp.parse_untrusted(data)


def protocol_of(answer: Answer) -> Protocol | None:
    """What an answer shows that the gateway speaks; ``None``: that it does not."""
    if isinstance(answer, pcp.Refused):
        seen = answer.result in {pcp.Result.NOT_AUTHORIZED, pcp.Result.ADDRESS_MISMATCH}
        return Protocol.PCP if seen else None
    if isinstance(answer, natpmp.Refused):
        return None
    return Protocol.PCP if isinstance(answer, pcp.Announced | pcp.Mapped) else Protocol.PMP
