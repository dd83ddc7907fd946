"""A peer relay behind a translator that gives its port another number.

::

    a ──┐                                UDP between a and b is dropped
    b ──┼── bridge: control, DERP, STUN
        └── router ── r                  r is a peer relay: its port 7000 is 9777 outside
"""

import json

import pytest
from integration.conftest import MakeLab
from integration.lab.apart import apart, policy, together
from integration.lab.kinds import translated
from integration.lab.process import run
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

PORT, OUTSIDE = 7000, 9777
TIMEOUT = 40.0  # seconds until the relay is used


def test_a_relay_behind_a_nat_is_reached_where_stun_sees_it(make_lab: MakeLab) -> None:
    """Not at its own port, which the router lets nobody reach."""
    lab = make_lab(translated(a="open", b="open", r="port"))
    lab.join()
    lab.wait_complete(30)
    a, b, relay = (lab.hosts[name] for name in "abr")
    (router,) = lab.network.topology.routers
    inner, outer = router.inner[0], router.wan.ip
    rules = f"""
        insert rule ip lab prerouting iifname eth0 udp dport {OUTSIDE} dnat to {inner}:{PORT}
        insert rule ip lab postrouting ip saddr {inner} udp sport {PORT} snat to {outer}:{OUTSIDE}
    """
    run(["nft", "-f", "-"], namespace=lab.network.namespace(router.name), feed=rules)
    apart(lab, "a", "b")
    lab.admin("set_filter", rules=policy(relay.ipv4, [a.ipv4, b.ipv4]))
    relay.tnet("set", f"--relay-server-port={PORT}")

    def relayed() -> str:
        a.ping_os(b.ipv4, count=1, wait=1)
        said = json.loads(a.tnet("path", "--json", "b").stdout)
        return str(said["Addr"]) if said["Kind"] == "peer-relay" else ""

    said = until("the relay to be used", relayed, TIMEOUT)
    assert said.startswith(f"{outer}:{OUTSIDE}:vni:")
    assert a.ping_os(b.ipv4, count=10).lost == 0
    together(lab)
