"""What the resolver and the host are told, and when."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from itertools import pairwise
from types import MappingProxyType

from dnslib import DNSRecord
from msgspec.structs import replace
from tests.support import virtual
from tests.support.nodes import no_https

from tailnet.agent.addr import AddrPort
from tailnet.agent.backend.naming.aio import Naming
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.dns.names import ROOT
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.slices import finish
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.dns import DNSConfig, Resolver
from tailnet.agent.tailcfg.dns import DNSRecord as TailnetRecord
from tailnet.agent.tailcfg.node import Hostinfo, Node, NodeID, Service
from tailnet.platform.fake import FakeDns
from tailnet.platform.interface import NO_DNS, DnsConfig, DnsEvent, PlatformError

SRC = AddrPort(ip_address("100.64.0.1"), 1000)
MAGIC = DNSConfig(proxied=True, domains=("lab.ts.net",))
US = ip_address("100.100.100.100")
BASE = DnsConfig(nameservers=(ip_address("192.0.2.53"),), search=("home",))


def node(number: int, label: str) -> Node:
    """With an IPv4 address."""
    return Node(
        id=NodeID(number), name=f"{label}.lab.ts.net.", addresses=(f"100.64.0.{number}/32",)
    )


ME = node(1, "me")


def netmap(dns: DNSConfig, *peers: Node) -> NetworkMap:
    """Of us and these."""
    return NetworkMap(
        self_node=ME,
        peers=MappingProxyType({peer.id: peer for peer in peers}),
        derp_map=DERPMap(),
        dns=dns,
        packet_filter=(),
        user_profiles={},
        domain="",
        health=(),
        display_messages={},
    )


@asynccontextmanager
async def opened(host: FakeDns) -> AsyncIterator[Naming]:
    """The device is there."""
    naming = Naming(MagicDns(Forwarder(no_https, random_bytes=os.urandom), lambda: 0.0))
    await naming.open(host)
    await settle()
    yield naming
    await naming.close()


def follow(
    naming: Naming,
    prefs: Prefs,
    current: NetworkMap | None,
    changed: frozenset[NodeID] | None = None,
    exit_node: NodeID | None = None,
) -> None:
    """As a node does: names of others, and what the tailnet wants."""
    finish(naming.apply(current, changed))
    naming.follow(prefs, current, exit_node)


async def settle() -> None:
    """The task has had its turns."""
    for _ in range(5):
        await asyncio.sleep(0)


def ask(naming: Naming, name: str) -> list[str]:
    """What we know ourselves."""
    said = naming.resolver(bytes(DNSRecord.question(name).pack()), SRC, tcp=False)
    assert isinstance(said, bytes)
    return [str(record.rdata) for record in DNSRecord.parse(said).rr]


async def test_a_host_that_can_split_gets_the_domains_of_the_tailnet() -> None:
    """And everything else stays as it was."""
    host = FakeDns(split=True)
    async with opened(host) as naming:
        assert host.history == [NO_DNS]
        follow(naming, Prefs(), netmap(MAGIC, node(2, "peer")))
        await settle()
        assert host.config.nameservers == (US,)
        assert "lab.ts.net" in host.config.match
        assert ask(naming, "peer.lab.ts.net") == ["100.64.0.2"]
    assert host.config == NO_DNS


async def test_another_host_sends_all_questions_and_we_ask_whom_it_asked() -> None:
    """Our own address among its resolvers is of an earlier time."""
    host = FakeDns(split=False, before=BASE)
    async with opened(host) as naming:
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        assert host.config == DnsConfig(nameservers=(US,), search=("lab.ts.net", "home"))
        assert naming.compiled.routes[ROOT] == (Resolver(addr="192.0.2.53"),)


async def test_names_follow_at_once_and_the_host_is_told_only_news() -> None:
    """Peers that come and go are no news to it."""
    host = FakeDns(split=True)
    async with opened(host) as naming:
        peer = node(2, "peer")
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        told = len(host.history)
        follow(naming, Prefs(), netmap(MAGIC, peer), frozenset({peer.id}))
        assert ask(naming, "peer.lab.ts.net") == ["100.64.0.2"]
        follow(naming, Prefs(), netmap(MAGIC), frozenset({peer.id}))
        assert ask(naming, "peer.lab.ts.net") == []
        await settle()
        assert len(host.history) == told
        naming.recompile()
        await settle()
        assert len(host.history) == told + 1


async def test_off_and_on_again() -> None:
    """Down, a user who does not want it, and back."""
    host = FakeDns(split=True)
    async with opened(host) as naming:
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        on = host.config
        follow(naming, Prefs(corp_dns=False), netmap(MAGIC))
        await settle()
        assert host.config == NO_DNS
        assert ask(naming, "me.lab.ts.net") == ["100.64.0.1"]
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        assert host.config == on
        follow(naming, Prefs(), None)
        assert ask(naming, "me.lab.ts.net") == []
        await settle()
        assert host.config == NO_DNS


async def test_nobody_is_sent_to_us_before_routes_lead_here() -> None:
    """The names are ready, and the host is told when the routes are."""
    host = FakeDns(split=False, before=BASE)
    async with opened(host) as naming:
        naming.set_routed(routed=False)
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        assert host.config == NO_DNS
        assert ask(naming, "me.lab.ts.net") == ["100.64.0.1"]
        naming.set_routed(routed=True)
        await settle()
        assert host.config.nameservers == (US,)


async def test_routes_go_after_the_host_was_told_and_a_moment_more() -> None:
    """A program may just have read whom to ask; what it asks is still passed on."""
    host = FakeDns(split=False, before=BASE)
    async with opened(host) as naming:
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        host_was: list[DnsConfig] = []

        async def routes() -> None:
            await naming.let_go()
            host_was.append(host.config)

        follow(naming, Prefs(), None)
        going = asyncio.create_task(routes())
        await settle()
        assert (host.config, host_was) == (NO_DNS, [])
        said = naming.resolver(bytes(DNSRecord.question("a.example").pack()), SRC, tcp=False)
        assert isinstance(said, Awaitable)  # it is being asked of somebody else
        asking = asyncio.ensure_future(said)
        await going
        asking.cancel()
        assert host_was == [NO_DNS]


async def test_routes_do_not_wait_for_a_host_that_refuses_for_ever() -> None:
    """Or for one that never asked us."""
    host = Stubborn(split=True)
    async with opened(host) as naming:
        await naming.let_go()
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        host.reason = "it is on fire"
        follow(naming, Prefs(), None)
        async with asyncio.timeout(10):
            await naming.let_go()
        host.reason = ""


class Stubborn(FakeDns):
    """Refuses while there is a reason."""

    reason = ""

    async def apply(self, config: DnsConfig) -> None:
        """Or do not."""
        if self.reason:
            raise PlatformError(self.reason)
        await FakeDns.apply(self, config)


async def test_a_refusal_is_said_and_tried_again() -> None:
    """By whatever comes next; the resolver works all the time."""
    host = Stubborn(split=True)
    heard: list[str] = []
    async with opened(host) as naming:
        naming.on_change = lambda: heard.append(naming.refused)
        host.reason = "it is on fire"
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        assert heard == ["it is on fire"]
        assert ask(naming, "me.lab.ts.net") == ["100.64.0.1"]
        host.reason = ""
        naming.recompile()
        await settle()
        assert heard == ["it is on fire", ""]
        assert host.config.nameservers == (US,)


def test_a_refusal_is_tried_again_soon_and_then_ever_later() -> None:
    """Every five minutes in the end; what comes meanwhile is tried at once."""

    class Counting(Stubborn):
        async def base(self) -> DnsConfig | None:
            """When we were asked."""
            attempts.append(asyncio.get_running_loop().time())
            return await super().base()

    async def main() -> None:
        host = Counting(split=True)
        async with opened(host) as naming:
            host.reason = "it is on fire"
            attempts.clear()
            follow(naming, Prefs(), netmap(MAGIC))
            await asyncio.sleep(1600)
            pauses = [after - before for before, after in pairwise(attempts)]
            assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
            host.reason = ""
            naming.recompile()
            await settle()
            assert naming.refused == ""
            assert host.config.nameservers == (US,)

    attempts: list[float] = []
    virtual.run(main())


async def test_a_host_that_cannot_be_read_is_left_as_it_is() -> None:
    """Names of the tailnet are answered to whoever asks."""
    host = FakeDns(split=False, before=BASE)
    async with opened(host) as naming:
        host.fail_next = PlatformError("no such file")
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        assert (naming.unreadable, host.config) == ("no such file", NO_DNS)
        assert ask(naming, "me.lab.ts.net") == ["100.64.0.1"]
        naming.recompile()
        await settle()
        assert naming.unreadable == ""
        assert host.config.nameservers == (US,)


async def test_what_others_do_to_the_host_is_repaired_and_said() -> None:
    """For as long as it lasts."""
    host = FakeDns(split=True)
    async with opened(host) as naming:
        follow(naming, Prefs(), netmap(MAGIC))
        await settle()
        wanted, host.config = host.config, NO_DNS
        host.happens.put_nowait(DnsEvent(again=True, trouble="somebody rewrites it"))
        await settle()
        assert (naming.trouble, host.config) == ("somebody rewrites it", wanted)
        host.happens.put_nowait(DnsEvent(again=False, overwritten="and again"))
        await settle()
        assert (naming.trouble, naming.overwritten) == ("", "and again")
        host.happens.put_nowait(DnsEvent(again=False))
        await settle()
        assert naming.overwritten == ""


async def test_a_record_outside_every_domain_is_answered_too() -> None:
    """The host is told of its name as well."""
    host = FakeDns(split=True)
    async with opened(host) as naming:
        record = TailnetRecord(name="db.corp.", value="10.0.0.1")
        follow(naming, Prefs(), netmap(DNSConfig(proxied=True, extra_records=(record,))))
        await settle()
        assert ask(naming, "db.corp") == ["10.0.0.1"]
        assert "db.corp" in host.config.match


async def test_an_exit_node_that_answers_for_names_is_asked_for_all_of_them() -> None:
    """At its peer API; one that does not is passed by, for the fallback."""
    exit_node = replace(
        node(2, "exit"),
        allowed_ips=("100.64.0.2/32", "0.0.0.0/0", "::/0"),
        cap=26,
        hostinfo=Hostinfo(services=(Service(proto="peerapi4", port=4711),)),
    )
    mute = replace(exit_node, hostinfo=None)
    dns = replace(MAGIC, fallback_resolvers=(Resolver(addr="192.0.2.7"),))
    async with opened(FakeDns(split=True)) as naming:
        follow(naming, Prefs(), netmap(dns, exit_node), exit_node=exit_node.id)
        await settle()
        asked = naming.compiled.routes[ROOT]
        assert [r.addr for r in asked] == ["http://100.64.0.2:4711/dns-query"]
        follow(naming, Prefs(), netmap(dns, mute), exit_node=mute.id)
        await settle()
        assert naming.wanted.defaults == dns.fallback_resolvers
        follow(naming, Prefs(), netmap(dns), exit_node=mute.id)  # it went just now
        await settle()
        assert naming.wanted.defaults == ()
