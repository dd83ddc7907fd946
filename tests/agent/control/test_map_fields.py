"""Every field of a map message does something, or is declined by name.

Source of the list: tailscale tailcfg/tailcfg.go, MapResponse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pytest

from tailnet.agent.control.events import NetmapChanged, PopBrowser
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.session import MapSession, SessionEvent
from tailnet.agent.dates import Calendar
from tailnet.agent.tailcfg.mapping import ControlDialPlan, MapResponse, PingRequest

E = TypeVar("E")
WALL = datetime(2026, 3, 1, tzinfo=UTC)
WHOLE: dict[str, Any] = {
    "Node": {"ID": 1, "Name": "one.lab."},
    "Peers": [{"ID": 2, "Name": "two.lab."}, {"ID": 3, "Name": "three.lab."}],
}


@dataclass
class Heard:
    """What a session made of one more message."""

    session: MapSession
    calendar: Calendar
    events: list[SessionEvent]

    @property
    def map(self) -> NetworkMap:
        """The newest."""
        return [e for e in self.events if isinstance(e, NetmapChanged)][-1].netmap

    def one(self, kind: type[E]) -> E:
        """The only event of a kind."""
        (event,) = [e for e in self.events if isinstance(e, kind)]
        return event


def hear(*trees: dict[str, Any]) -> Heard:
    """Feed messages as a server writes them."""
    calendar = Calendar(lambda: 0.0, lambda: WALL)
    session = MapSession(0.0, calendar, compressed=False)
    for tree in trees:
        body = msgspec.json.encode(tree)
        session.receive_untrusted(len(body).to_bytes(4, "little") + body, 0.0)
    events = []
    while (event := session.poll_event()) is not None:
        events.append(event)
    return Heard(session, calendar, events)


LATER = (WALL + timedelta(hours=1)).isoformat()
RULE = {"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}
Claim = Callable[[Heard], bool]
HANDLED: dict[str, tuple[Any, Claim]] = {
    "MapSessionHandle": ("h", lambda h: h.session.resume is None),  # in a first message only
    "Seq": (7, lambda h: h.session._seq == 7),
    "KeepAlive": (True, lambda h: len(h.events) == 2),
    "PingRequest": ({"URL": "https://x/1"}, lambda h: h.one(PingRequest).url == "https://x/1"),
    "PopBrowserURL": ("https://x/", lambda h: h.one(PopBrowser).url == "https://x/"),
    "Node": ({"ID": 1, "Name": "new."}, lambda h: h.map.self_node.name == "new."),
    "DERPMap": (
        {"Regions": {"9": {"RegionID": 9}}},
        lambda h: h.map.derp_map.region(9) is not None,
    ),
    "Peers": ([{"ID": 4}], lambda h: list(h.map.peers) == [4]),
    "PeersChanged": ([{"ID": 4}], lambda h: list(h.map.peers) == [2, 3, 4]),
    "PeersRemoved": ([2], lambda h: list(h.map.peers) == [3]),
    "PeersChangedPatch": (
        [{"NodeID": 2, "DERPRegion": 9}],
        lambda h: h.map.peers[2].home_derp == 9,  # type: ignore[index]
    ),
    "PeerSeenChange": ({"2": True}, lambda h: h.map.peers[2].last_seen == WALL),  # type: ignore[index]
    "OnlineChange": ({"2": True}, lambda h: h.map.peers[2].online is True),  # type: ignore[index]
    "DNSConfig": ({"Proxied": True}, lambda h: h.map.dns.proxied),
    "Domain": ("lab", lambda h: h.map.domain == "lab"),
    "CollectServices": (True, lambda h: h.map.collect_services),
    "PacketFilter": ([RULE], lambda h: len(h.map.packet_filter or ()) == 1),
    "PacketFilters": ({"a": [RULE], "b": [RULE]}, lambda h: len(h.map.packet_filter or ()) == 2),
    "UserProfiles": ([{"ID": 5}], lambda h: list(h.map.user_profiles) == [5]),
    "Health": (["odd"], lambda h: h.map.health == ("odd",)),
    "DisplayMessages": (
        {"a": {"Title": "T", "Text": "t", "Severity": "high", "ImpactsConnectivity": True}},
        lambda h: h.map.display_messages["a"].impacts_connectivity,
    ),
    "ControlTime": (LATER, lambda h: h.calendar.ahead == 3600.0),
    "Debug": ({"SleepSeconds": 9, "DisableLogTail": True, "Exit": 1}, lambda h: h.session.paused),
    "ControlDialPlan": (
        {"Candidates": [{"IP": "1.2.3.4"}]},
        lambda h: len(h.one(ControlDialPlan).candidates or ()) == 1,
    ),
}
DECLINED = {
    "SSHPolicy": "there is no SSH server",
    "TKAInfo": "a locked tailnet is told at the login",
    "DomainDataPlaneAuditLogID": "flows are not logged",
    "ClientVersion": "versions of another program say nothing about this one",
    "DefaultAutoUpdate": "packages are updated by the system",
}


@pytest.mark.parametrize("name", HANDLED)
def test_each_field_has_its_effect(name: str) -> None:
    """Alone in a second message."""
    value, claim = HANDLED[name]
    assert claim(hear(WHOLE, {name: value}))


@pytest.mark.parametrize("name", DECLINED)
@pytest.mark.parametrize("value", [True, "x", {"a": 1}, [], None])
def test_declined_fields_are_no_error(name: str, value: object) -> None:
    """As far as they have the type that upstream gives them; null counts as absent."""
    kinds = {"SSHPolicy": dict, "DefaultAutoUpdate": bool}
    if value is None or name not in kinds or isinstance(value, kinds[name]):
        assert list(hear(WHOLE, {name: value}).map.peers) == [2, 3]


def test_the_lists_are_complete() -> None:
    """Nothing is decoded that neither of them names."""
    names = {f.encode_name for f in msgspec.structs.fields(MapResponse)}
    assert names <= HANDLED.keys() | DECLINED.keys()
    assert HANDLED.keys() <= names
    assert not HANDLED.keys() & DECLINED.keys()


@pytest.mark.parametrize("name", sorted(HANDLED.keys() | DECLINED.keys()))
def test_null_is_absent(name: str) -> None:
    """Go writes it for an empty list or map."""
    assert list(hear(WHOLE, {name: None}).map.peers) == [2, 3]


def test_messages_of_control_come_and_go() -> None:
    """A patch: set, delete, clear; while there are any, the old list does not count."""
    one = {"Title": "T", "Text": "t", "Severity": "low"}
    heard = hear(WHOLE, {"Health": ["odd"]}, {"DisplayMessages": {"a": one, "b": one}})
    assert (set(heard.map.display_messages), heard.map.health) == ({"a", "b"}, ())
    more: list[dict[str, Any]] = [
        {"DisplayMessages": {"a": one, "b": one}},
        {"DisplayMessages": {"a": None}},
    ]
    assert set(hear(WHOLE, *more).map.display_messages) == {"b"}
    more.append({"DisplayMessages": {"*": None, "c": one}})
    assert set(hear(WHOLE, *more).map.display_messages) == {"c"}
