"""A relay with TLS and a STUN server on loopback, and what measures them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from integration.lab.derp import DerpServer
from integration.lab.stun import StunServer
from integration.lab.tls import make_server_tls

from tailnet.agent import clock
from tailnet.agent.derp.dial.aio import Dialer
from tailnet.agent.keys import NodePrivate
from tailnet.agent.netcheck.aio import Netcheck
from tailnet.agent.netcheck.probes.aio import Probes
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

V4 = frozenset({4})
LOOPBACK = "127.0.0.1"


def make_dialer(*, plain_http: bool = False) -> Dialer:
    """On this machine, without proxies."""
    return Dialer(
        mark=lambda _: None, wall=clock.wall, ca_file=None, plain_http=plain_http, environ={}
    )


def make_probes(*, plain_http: bool = False) -> Probes:
    """On this machine."""
    dialer = make_dialer(plain_http=plain_http)
    return Probes(
        dialer, mark=lambda _: None, now=clock.now, wall=clock.wall, random_bytes=os.urandom
    )


def make_netcheck() -> Netcheck:
    """The same."""
    return Netcheck(make_probes(), mark=lambda _: None, now=clock.now, random_bytes=os.urandom)


class Site:
    """A relay with TLS, and STUN.

    Attributes:
        relay: runs.
        stun: runs.
        derp_map: both, as region 7.
    """

    def __init__(self, relay: DerpServer, stun: StunServer, pin: str) -> None:
        self.relay, self.stun = relay, stun
        self.derp_map = self.map_with(cert_name=f"sha256-raw:{pin}")

    def map_with(self, **fields: object) -> DERPMap:
        """A map of one region and node."""
        usual: dict[str, object] = {
            "name": "7a",
            "region_id": 7,
            "host_name": LOOPBACK,
            "ipv4": LOOPBACK,
            "ipv6": "none",
            "stun_port": self.stun.port,
            "derp_port": self.relay.port,
        }
        node = DERPNode(**{**usual, **fields})  # type: ignore[arg-type]
        return DERPMap(regions={7: DERPRegion(region_id=7, region_code="x", nodes=(node,))})

    @property
    def node(self) -> DERPNode:
        """The one of the map."""
        region = (self.derp_map.regions or {})[7]
        assert region is not None
        assert region.nodes is not None
        return region.nodes[0]


@asynccontextmanager
async def running_site() -> AsyncIterator[Site]:
    """One, for a while."""
    tls, pin, _ = make_server_tls([LOOPBACK])
    key = NodePrivate.from_random(os.urandom(32))
    relay = DerpServer(key, now=clock.now, random_bytes=os.urandom)
    stun = StunServer()
    await relay.start(LOOPBACK, 0, tls)
    await stun.start(LOOPBACK, 0)
    try:
        yield Site(relay, stun, pin)
    finally:
        await stun.stop()
        await relay.stop()
