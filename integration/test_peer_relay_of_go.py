"""A node of the Go implementation relays for two of ours; ``TAILSCALED`` names the program.

::

    a (tailnetd) ──┐                           UDP between a and b is dropped
    b (tailnetd) ──┼── bridge: control, DERP, STUN
    r (tailscaled)─┘   a peer relay
"""

import json

import pytest
from integration.conftest import MakeLab
from integration.lab.apart import apart, policy, together
from integration.lab.routing import named
from integration.lab.tailscaled import Tailscaled
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

PORT = 7000
TIMEOUT = 40.0  # seconds until the relay is used


def test_a_go_node_relays_for_two_of_ours(make_lab: MakeLab) -> None:
    """Both ways and without loss; when it stops they go by DERP, and use it again later."""
    program = named()
    if program is None:
        pytest.skip("TAILSCALED names no program")
    lab = make_lab(flat("a", "b", "r"))
    lab.join("a", "b")
    a, b = lab.hosts["a"], lab.hosts["b"]
    go = Tailscaled(lab.hosts["r"], program)
    go.up()
    a.wait_peers({"b", "r"})
    b.wait_peers({"a", "r"})
    apart(lab, "a", "b")
    lab.admin("set_filter", rules=policy(go.address, [a.ipv4, b.ipv4]))
    go.ask("set", f"--relay-server-port={PORT}")

    def kind() -> str:
        a.ping_os(b.ipv4, count=1, wait=1)
        return str(json.loads(a.tnet("path", "--json", "b").stdout)["Kind"])

    until("the relay to be used", lambda: kind() == "peer-relay", TIMEOUT)
    said = json.loads(a.tnet("path", "--json", "b").stdout)
    assert said["Addr"].split(":vni:")[0].endswith(f":{PORT}")
    assert a.ping_os(b.ipv4, count=20).lost == 0
    assert b.ping_os(a.ipv4, count=20).lost == 0
    go.ask("set", "--relay-server-port=")
    until("DERP instead of it", lambda: kind() == "relay", TIMEOUT)
    assert a.ping_os(b.ipv4, count=5).lost == 0
    go.ask("set", f"--relay-server-port={PORT}")
    until("the relay to be used again", lambda: kind() == "peer-relay", TIMEOUT)
    assert a.ping_os(b.ipv4, count=5).lost == 0
    go.process.stop()
    together(lab)
