"""What was carried is counted by the kind of path it took."""

import asyncio
import socket

from tests.agent.datapath.test_contract_via import HEAD, IN, OUT, use
from tests.support.datapath import PEER, Rig, udp_socket

from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath.interface import NO_PATH, Carried, NewSource, Path, UdpPort

KINDS = ["direct_ipv4", "direct_ipv6", "derp", "peer_relay_ipv4", "peer_relay_ipv6"]
BOTH = Carried(1, len(IN), 1, len(OUT))


def carried(rig: Rig) -> dict[str, Carried]:
    """What is not zero."""
    return {kind: count for kind, count in rig.datapath.traffic().items() if any(count)}


async def test_all_kinds_are_there_from_the_start(rig: Rig) -> None:
    """And a keepalive is no packet."""
    await rig.connect()
    assert rig.datapath.traffic() == dict.fromkeys(KINDS, Carried())


async def test_direct_packets_count_as_such(rig: Rig) -> None:
    """Also while the relay carries them, too."""
    await rig.connect()
    rig.datapath.set_path(PEER, Path(rig.remote_addr, relay=True))
    rig.host.send(OUT)
    _ = await rig.receive()
    rig.send(IN)
    assert await rig.delivered() == IN
    await rig.upcalls()
    assert carried(rig) == {"direct_ipv4": BOTH}


async def test_a_path_by_ipv6_uses_the_socket_of_its_family(rig: Rig) -> None:
    """One socket of each family; what comes by the other one is a new source."""
    await rig.connect()
    four = udp_socket()
    six, remote = udp_socket(family=socket.AF_INET6), udp_socket(family=socket.AF_INET6)
    rig.udp_addr, here = four.getsockname(), six.getsockname()
    source = AddrPort.of(*remote.getsockname()[:2])
    ports = [(four, socket.AF_INET), (six, socket.AF_INET6)]
    rig.datapath.set_udp(
        [UdpPort(sock.detach(), family, gso=True, gro=False) for sock, family in ports]
    )
    with remote:
        remote.sendto(rig.seal(IN, 0), here)
        assert await rig.delivered() == IN
        assert await rig.upcalls() == [NewSource(PEER, source)]
        rig.datapath.set_path(PEER, Path(source, relay=False))
        rig.host.send(OUT)
        async with asyncio.timeout(5):
            got = await asyncio.get_running_loop().sock_recvfrom(remote, 70000)
        assert rig.open(got[0]).startswith(OUT)
        assert got[1][:2] == here[:2]
    assert carried(rig) == {"direct_ipv6": BOTH}
    assert rig.dropped() == {}


async def test_relayed_packets_count_as_such(rig: Rig) -> None:
    """Both DERP and a peer relay."""
    await rig.connect()
    rig.datapath.set_path(PEER, Path(None, relay=True))
    rig.datapath.send_plain(PEER, [OUT])
    rig.datapath.relay_in([rig.seal(IN, 0)])
    assert await rig.delivered() == IN
    await rig.upcalls()
    assert carried(rig) == {"derp": BOTH}
    use(rig)
    rig.host.send(OUT)
    _ = await rig.receive()
    rig.remote.sendto(HEAD + rig.seal(IN, 1), rig.udp_addr)
    assert await rig.delivered() == IN
    assert carried(rig) == {"derp": BOTH, "peer_relay_ipv4": BOTH}


async def test_what_has_no_path_is_not_carried(rig: Rig) -> None:
    """It is among the drops."""
    await rig.connect()
    rig.datapath.set_path(PEER, NO_PATH)
    rig.datapath.send_plain(PEER, [OUT])
    rig.send(IN)
    assert await rig.delivered() == IN
    assert carried(rig) == {"direct_ipv4": Carried(1, len(IN), 0, 0)}


async def test_counts_outlive_the_peer(rig: Rig) -> None:
    """They are the node's."""
    await rig.connect()
    rig.send(IN)
    assert await rig.delivered() == IN
    rig.datapath.set_peers({})
    assert carried(rig)["direct_ipv4"].in_packets == 1
