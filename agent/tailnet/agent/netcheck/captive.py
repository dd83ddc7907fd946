"""Captive portals: networks that answer for everybody until somebody logs in by a web page.

Relays answer ``GET http://ADDRESS/generate_204`` with 204 and echo a challenge; a portal does not.
Only relays of the map are asked, so a network without any that serves port 80 is not judged.

Source: tailscale net/captivedetection/{captivedetection,endpoints}.go.
"""

from ipaddress import AddressValueError, IPv4Address

from tailnet.agent.netcheck.exchange import Answer, encode_get
from tailnet.agent.tailcfg.derpmap import DERPMap

PORT = 80
MAX_ENDPOINTS = 5
CLEAN = 204


def endpoints(derp_map: DERPMap, home: int) -> list[str]:
    """IPv4 addresses of relays that serve port 80, those of our home first."""
    found: list[str] = []
    regions = sorted((derp_map.regions or {}).items(), key=lambda item: (item[0] != home, item[0]))
    for _, region in regions:
        for node in (region.nodes if region is not None else None) or ():
            try:
                address = str(IPv4Address(node.ipv4)) if node.can_port80 else ""
            except AddressValueError:
                continue
            if address:
                found.append(address)
    return list(dict.fromkeys(found))[:MAX_ENDPOINTS]


def encode_check(address: str, stamp: int) -> bytes:
    """The request; ``stamp``, seconds of wall time, keeps caches out."""
    headers = {"X-Tailscale-Challenge": _challenge(address)}
    return encode_get(address, f"/generate_204?t={stamp}", headers)


def is_portal(address: str, answer: Answer) -> bool:
    """True if somebody else answered for the relay at ``address``."""
    echoed = answer.headers.get("x-tailscale-response", "")
    return answer.status != CLEAN or echoed != f"response {_challenge(address)}"


def _challenge(address: str) -> str:
    return f"ts_{address}"
