"""A crowd of peers with the fields that a real server sends, and changes to it."""

import random
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from tailnet.agent.keys import DiscoPublic, MachinePublic, NodePublic
from tailnet.agent.tailcfg.mapping import MapResponse
from tailnet.agent.tailcfg.node import (
    Hostinfo,
    NetInfo,
    NodeID,
    PeerChange,
    StableNodeID,
    UserID,
    UserProfile,
)
from tailnet.agent.tailcfg.node import Node as Peer

REGION = 900  # their home relay
USERS = 200
KINDS = ("endpoints", "relay", "online", "disco", "key", "whole", "removed", "added", "routes")


class Peers:
    """A crowd, and changes to it; the same crowd every time."""

    def __init__(self, count: int) -> None:
        self._random = random.Random(count)
        self._next = 1000
        self.users = tuple(
            UserProfile(
                id=UserID(5000 + n),
                login_name=f"user{n}@example.com",
                display_name=f"User Number {n}",
                profile_pic_url=f"https://pictures.example.com/{n}.png",
            )
            for n in range(USERS if count else 0)
        )
        self.nodes: dict[NodeID, Peer] = {}
        for _ in range(count):
            peer = self._new()
            self.nodes[peer.id] = peer

    def _new(self) -> Peer:
        """One more peer; one in twenty is a subnet router."""
        number = self._next
        self._next += 1
        make, rest = self._random.randbytes, number & 0xFFFF
        high, low = 64 + number // 65_536, f"{rest >> 8}.{rest & 255}"
        own = (f"100.{high}.{low}/32", f"fd7a:115c:a1e0::{number:x}/128")
        subnet = (f"10.{low}.0/24",) if number % 20 == 0 else ()
        seen = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
        return Peer(
            id=NodeID(number),
            stable_id=StableNodeID(f"n{number}CNTRL"),
            name=f"machine-{number}.tail1234.ts.net.",
            user=UserID(5000 + number % USERS),
            key=NodePublic(make(32)),
            key_expiry=seen + timedelta(days=20_000),
            machine=MachinePublic(make(32)),
            disco_key=DiscoPublic(make(32)),
            addresses=own,
            allowed_ips=own + subnet,
            primary_routes=subnet or None,
            endpoints=tuple(self._endpoint() for _ in range(4)),
            home_derp=REGION,
            hostinfo=Hostinfo(
                os="linux",
                os_version="6.12.0",
                hostname=f"machine-{number}",
                net_info=NetInfo(preferred_derp=REGION, working_udp=True),
            ),
            created=seen,
            cap=130,
            online=True,
            machine_authorized=True,
            cap_map={
                "https://tailscale.com/cap/is-admin": None,
                "https://tailscale.com/cap/file-sharing": None,
                "probe-udp-lifetime": None,
                "store-appc-routes": None,
            },
        )

    def _endpoint(self) -> str:
        a, b, c, port = (self._random.randrange(1, 254) for _ in range(4))
        return f"198.{a}.{b}.{c}:{40_000 + port}"

    def delta(self, kind: str) -> MapResponse:
        """A message with one change of that kind; ``mixed`` is any."""
        if kind == "mixed":
            kind = self._random.choice(KINDS)
        peer = self.nodes[self._random.choice(list(self.nodes))]
        make = self._random.randbytes
        match kind:
            case "endpoints":
                fresh = tuple(self._endpoint() for _ in range(4))
                return _patch(PeerChange(node_id=peer.id, endpoints=fresh))
            case "relay":
                return _patch(PeerChange(node_id=peer.id, derp_region=REGION + 1))
            case "disco":
                return _patch(PeerChange(node_id=peer.id, disco_key=DiscoPublic(make(32))))
            case "key":
                return _patch(PeerChange(node_id=peer.id, key=NodePublic(make(32))))
            case "online":
                return MapResponse(online_change={peer.id: bool(self._random.getrandbits(1))})
            case "removed":
                del self.nodes[peer.id]
                return MapResponse(peers_removed=(peer.id,))
            case "added":
                peer = self._new()
            case "routes":
                number = self._random.randrange(1 << 14)
                subnet = (f"172.20.{number >> 6}.{(number & 63) << 2}/30",)
                peer = replace(peer, allowed_ips=(*(peer.addresses or ()), *subnet))
            case _:
                peer = replace(peer, hostinfo=Hostinfo(os="linux", hostname=make(4).hex()))
        self.nodes[peer.id] = peer
        return MapResponse(peers_changed=(peer,))


def _patch(change: PeerChange) -> MapResponse:
    return MapResponse(peers_changed_patch=(change,))
