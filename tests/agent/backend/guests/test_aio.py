"""Who may have names resolved here, by whom, and which names are not for them."""

import os
from dataclasses import replace
from ipaddress import ip_address
from types import MappingProxyType

import pytest
from dnslib import RCODE, DNSRecord
from msgspec.structs import replace as alter

from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.guests.aio import Guests
from tailnet.agent.backend.naming.aio import Naming
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.tunnel.interface import EMPTY
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.dns.compile import Compiled
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.dns.names import ROOT
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.dns.upstream import Https
from tailnet.agent.filter.rules import Filter, compile_filter
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.dns import DNSConfig, Resolver
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.agent.tailcfg.node import Node, NodeID, UserID
from tailnet.platform.fake import FakeDns
from tailnet.platform.interface import NO_DNS, DnsConfig

OFFERS = Prefs(advertise_routes=("0.0.0.0/0", "::/0"))
DEFAULT, CIRCLE = Resolver(addr="https://dns.example/q"), Resolver(addr="http://100.64.0.9/x")
ME = Node(
    id=NodeID(1), user=UserID(7), name="me.lab.ts.net.", addresses=("100.64.0.1/32", "fd7a::1/128")
)
PEER = Node(
    id=NodeID(2),
    user=UserID(8),
    name="peer.lab.ts.net.",
    addresses=("100.64.0.2/32", "fd7a::2/128"),
)
V4, V6 = ip_address("100.64.0.2"), ip_address("fd7a::2")
QUAD = ip_address("100.100.100.100")


def anywhere(src: str, dst: str, port: int = 53) -> Filter:
    """Peers of ``src`` may reach this port there."""
    to = NetPortRange(ip=dst, ports=PortRange(port, port))
    return compile_filter([FilterRule(src_ips=(src,), dst_ports=(to,))])


def netmap(me: Node, *hidden: str) -> NetworkMap:
    """With names that are not for guests."""
    return NetworkMap(
        self_node=me,
        peers=MappingProxyType({PEER.id: PEER}),
        derp_map=DERPMap(),
        dns=DNSConfig(exit_node_filtered_set=hidden),
        packet_filter=(),
        user_profiles={},
        domain="",
        health=(),
        display_messages={},
    )


async def told(to: Https, message: bytes) -> bytes:
    """The tailnet's resolver knows all."""
    assert to.url == DEFAULT.addr
    return bytes(DNSRecord.parse(message).reply().pack())


class Rig:
    """A node, with what is in force."""

    def __init__(self) -> None:
        self.me, self.peer, self.prefs, self.filter = ME, PEER, OFFERS, Filter()
        self.hidden: tuple[str, ...] = ()
        forwarder = Forwarder(told, random_bytes=os.urandom)
        self.naming = Naming(MagicDns(forwarder, lambda: 0.0))
        self.naming.compiled = Compiled({ROOT: (CIRCLE, DEFAULT)}, NO_DNS)
        self.guests = Guests(
            self.naming,
            forwarder,
            at=self._at,
            plan=lambda: replace(EMPTY, filter=self.filter),
            prefs=lambda: self.prefs,
            netmap=lambda: netmap(self.me, *self.hidden),
        )

    def _at(self, ip: IPAddress) -> Node | None:
        return self.peer if ip in (V4, V6) else None

    def may_ask(self, ip: IPAddress) -> bool:
        """What is known of whoever is there."""
        caller = self.guests.who(ip)
        assert caller is not None
        assert caller.name == "peer.lab.ts.net"
        return caller.may_ask

    async def asked(self, *servers: str) -> tuple[Resolver, ...]:
        """Whom a guest's question goes to, where the host has these servers."""
        host = FakeDns(before=DnsConfig(nameservers=tuple(map(ip_address, servers))))
        await self.naming.open(host)
        try:
            return await self.guests._resolvers()
        finally:
            await self.naming.close()


@pytest.fixture
def rig() -> Rig:
    """Ours offers to be an exit node, the peer is another user's, no rule allows anything."""
    return Rig()


def test_a_stranger_is_nobody(rig: Rig) -> None:
    """No node has that address for its own."""
    assert rig.guests.who(ip_address("100.64.0.3")) is None


def test_others_may_ask_if_the_policy_lets_them_through_an_exit_that_is_offered(rig: Rig) -> None:
    """To port 53 anywhere, by their family; a rule of the LAN or another port is not enough."""
    assert not rig.may_ask(V4)
    rig.filter = anywhere("100.64.0.2", "192.168.0.0/16")
    assert not rig.may_ask(V4)
    rig.filter = anywhere("100.64.0.2", "*", 443)
    assert not rig.may_ask(V4)
    rig.filter = anywhere("100.64.0.2", "*")
    assert rig.may_ask(V4)
    assert not rig.may_ask(V6)
    rig.prefs = Prefs()
    assert not rig.may_ask(V4)


def test_devices_of_one_user_may_always_ask_each_other(rig: Rig) -> None:
    """But tagged ones belong to nobody."""
    rig.peer, rig.prefs = alter(PEER, user=ME.user), Prefs()
    assert rig.may_ask(V4)
    rig.me = alter(ME, tags=("tag:x",))
    assert not rig.may_ask(V4)
    rig.me, rig.peer = ME, alter(rig.peer, tags=("tag:x",))
    assert not rig.may_ask(V4)


@pytest.mark.parametrize(
    ("hidden", "name", "refused"),
    [
        (".corp.example", "a.corp.example", True),
        (".corp.example", "a.b.Corp.example", True),
        (".corp.example", "corp.example", False),
        (".corp.example", "acorp.example", False),
        ("corp.example", "corp.example", True),
        ("corp.example", "a.corp.example", False),
    ],
)
async def test_names_that_control_reserves_are_refused(
    rig: Rig, hidden: str, name: str, *, refused: bool
) -> None:
    """With a dot in front, all below; others are passed on."""
    rig.hidden = (hidden,)
    answer = DNSRecord.parse(await rig.guests.resolve(bytes(DNSRecord.question(name).pack())))
    assert (answer.header.rcode == RCODE.REFUSED) == refused
    assert str(answer.q.qname) == f"{name}."


async def test_the_hosts_own_resolvers_are_asked(rig: Rig) -> None:
    """Never ourselves, who would ask them; the tailnet's where the host has no others."""
    assert await rig.asked("192.0.2.1", str(QUAD)) == (Resolver(addr="192.0.2.1"),)
    assert await rig.asked(str(QUAD), "100.64.0.1") == (DEFAULT,)


async def test_nothing_goes_in_a_circle(rig: Rig) -> None:
    """Not to another exit node; nor to a server of this host, which may ask one that we use."""
    assert await rig.asked("127.0.0.53") == (Resolver(addr="127.0.0.53"),)
    rig.prefs = Prefs(exit_node_ip="100.64.0.9")
    assert await rig.asked("127.0.0.53") == (DEFAULT,)
