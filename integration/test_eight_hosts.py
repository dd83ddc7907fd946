"""Eight hosts that all reach each other; one leaves, another joins.

::

    h1 … h8, each ── bridge: control, DERP, STUN        UDP between hosts allowed
"""

import itertools

import pytest
from integration.conftest import MakeLab
from integration.lab.config import EPHEMERAL_KEY
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(150)]

FIRST_PING = 20.0  # seconds until a pair has a session
NAMES = [f"h{number}" for number in range(1, 9)]


@pytest.fixture(scope="module")
def eight(make_lab: MakeLab) -> Lab:
    """h1 to h8, joined; h9 has not started."""
    lab = make_lab(flat(*NAMES, "h9"))
    lab.join(*NAMES[:-1])
    lab.join(NAMES[-1], auth_key=EPHEMERAL_KEY)  # forgotten when it logs out
    lab.wait_complete(30)
    return lab


def streams(lab: Lab) -> dict[str, int]:
    """How many map streams each node has opened; each begins with a full map."""
    return {node["name"]: node["streams"] for node in lab.admin("nodes")}


def test_all_reach_each_other(eight: Lab) -> None:
    """Every ordered pair, IPv4 and IPv6."""
    hosts = [eight.hosts[name] for name in NAMES]
    addresses = {host.name: (host.ipv4, host.ipv6) for host in hosts}
    for here, there in itertools.permutations(hosts, 2):
        for address in addresses[there.name]:
            until(
                f"{here.name} to reach {address}",
                lambda h=here, a=address: h.ping_os(a, count=1, wait=1).lost == 0,  # type: ignore[misc]
                FIRST_PING,
            )


def test_leaving_and_joining_reach_the_others_as_deltas(eight: Lab) -> None:
    """One logs out, one joins: seven see both, and nobody got a second full map."""
    stay = [eight.hosts[name] for name in NAMES[:-1]]
    before = streams(eight)
    leaving, joining = eight.hosts["h8"], eight.hosts["h9"]
    leaving.tnet("logout")
    left = {host.name for host in stay}
    for host in stay:
        host.wait_peers(left - {host.name}, 10)
    eight.join(joining.name)
    for host in stay:
        host.wait_peers(left - {host.name} | {joining.name}, 10)
        until(
            f"{host.name} to reach the newcomer",
            lambda h=host: h.ping_os(joining.ipv4, count=1, wait=1).lost == 0,  # type: ignore[misc]
            FIRST_PING,
        )
    after = streams(eight)
    assert {name: after[name] for name in left} == {name: before[name] for name in left}
