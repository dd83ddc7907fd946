"""The plan as text."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import Plan, make_plan
from tailnet.agent.backend.planview import describe
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.fold import Folder
from tailnet.agent.keys import DiscoPublic, NodePublic
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.agent.tailcfg.mapping import MapResponse
from tailnet.agent.tailcfg.node import Node, NodeID

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def plan(*numbers: int, ids: PeerIds | None = None) -> Plan:
    """Of a network with these peers."""
    folder = Folder()

    def node(number: int) -> Node:
        return Node(
            id=NodeID(number),
            name=f"h{number}.x.",
            key=NodePublic(bytes([number]) * 32),
            disco_key=DiscoPublic(bytes([number]) * 32),
            addresses=(f"100.64.0.{number}/32",),
            endpoints=("192.0.2.1:41641",),
            home_derp=7,
        )

    ports = (NetPortRange(ip="100.64.0.1", ports=PortRange(22, 22)),)
    message = MapResponse(
        node=node(1),
        peers=tuple(map(node, numbers)) or None,
        packet_filter=(FilterRule(src_ips=("100.64.0.2-100.64.0.9",), dst_ports=ports),),
    )
    folder.fold(message, NOW)
    return make_plan(Prefs(), folder.netmap(NOW), ids or PeerIds())


def test_the_plan_says_who_what_and_where() -> None:
    """In words of the field."""
    tree = json.loads(json.dumps(describe(plan(2))))
    assert tree["Peers"] == [
        {
            "Key": f"nodekey:{'02' * 32}",
            "Name": "h2.x.",
            "Allowed": ["100.64.0.2/32"],
            "DiscoKey": f"discokey:{'02' * 32}",
            "Endpoints": ["192.0.2.1:41641"],
            "HomeRegion": 7,
            "WireGuardOnly": False,
        }
    ]
    assert tree["Router"]["Routes"] == ["100.100.100.100/32", "100.64.0.2/32"]
    assert tree["Local"] == ["100.64.0.1/32"]
    (match,) = tree["Filter"]["IPv4"]
    assert match["Sources"] == ["100.64.0.2-100.64.0.9"]
    assert match["Destinations"] == [{"Addresses": "100.64.0.1", "Ports": "22-22"}]


@given(st.lists(st.integers(2, 200), max_size=10, unique=True))
def test_the_same_plan_is_the_same_text(numbers: list[int]) -> None:
    """Whatever handles the peers have."""
    ids = PeerIds()
    for number in reversed(numbers):
        ids.of(NodePublic(bytes([number]) * 32))
    first, second = plan(*numbers), plan(*reversed(numbers), ids=ids)
    assert json.dumps(describe(first)) == json.dumps(describe(second))


def test_without_a_network_there_is_no_plan() -> None:
    """But there is a tree."""
    assert describe(None) == {"Peers": [], "Router": None}
