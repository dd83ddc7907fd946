"""Upstream's endpoints: each is here, or says that it is not, and the reference says which."""

import re
from pathlib import Path

import pytest

from tailnet.agent.localapi.exchange import Access, Response
from tailnet.agent.localapi.handlers.debug import DEBUG_ACTIONS, EXPERIMENTS
from tailnet.agent.localapi.routes import LATER, LATER_FAMILIES, LATER_METHODS, Route, find
from tailnet.agent.localapi.schema.basics import BASE

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference.md"
# Source: tailscale ipn/localapi, its handlers at 1.103.
UPSTREAM = """
GET status; GET prefs; PATCH prefs; POST check-prefs; GET profiles/; PUT profiles/; POST start
GET profiles/current; GET profiles/x; POST profiles/x; DELETE profiles/x; POST login-interactive
POST logout; POST reset-auth; POST set-expiry-sooner; POST shutdown; POST reload-config
GET watch-ipn-bus; POST disconnect-control; POST set-use-exit-node-enabled; GET suggest-exit-node
GET user-profile; GET peer-by-id; GET services; GET whois; GET id-token
PATCH alpha-set-device-attrs; POST query-feature; POST set-dns; GET cert-domains
GET prefs/service-clients; GET pins; POST ping; POST dial; GET derpmap; GET dns-config
GET dns-osconfig; GET dns-query; GET check-ip-forwarding; GET check-udp-gro-forwarding
GET set-udp-gro-forwarding; GET check-so-mark-in-use; GET appc-route-info; POST routecheck
GET conn25/state; POST bugreport; GET goroutines; GET pprof; GET metrics; GET usermetrics
POST upload-client-metrics; POST component-debug-logging; GET logtap; POST debug-log; POST debug
GET debug-packet-filter-rules; GET debug-packet-filter-matches; GET debug-peer-endpoint-changes
POST debug-derp-region; GET debug-portmap; POST debug-capture; POST debug-dial-types
GET debug-optional-features; GET debug-bus-events; GET debug-bus-graph; GET debug-bus-queues
GET debug-peer-relay-sessions; POST dev-set-state-store; POST debug-rotate-disco-key
GET update/check; POST update/install; GET update/progress; GET policy/device
POST set-gui-visible; POST set-push-device-token; POST handle-push-message; GET serve-config
POST serve-config; GET cert/x; GET file-targets; PUT file-put/x/y; GET files/; GET files/x
DELETE files/x; PUT drive/fileserver-address; GET drive/shares; GET tka/status; POST tka/init
POST tka/sign; POST tka/modify; POST tka/disable; POST tka/force-local-disable; GET tka/log
POST tka/affected-sigs; POST tka/wrap-preauth-key; POST tka/verify-deeplink
POST tka/generate-recovery-aum; POST tka/cosign-recovery-aum; POST tka/submit-recovery-aum
"""
ACTIONS = """
derp-set-homeless derp-unset-homeless rebind restun notify break-tcp-conns break-derp-conns
force-netmap-update control-knobs pick-new-derp force-prefer-derp peer-relay-servers
peer-disco-keys rotate-disco-key statedir clear-netmap-cache current-netmap
"""
ENDPOINTS = [tuple(each.split()) for each in re.split(r"[;\n]\s*", UPSTREAM) if each]


@pytest.mark.parametrize(("method", "name"), ENDPOINTS)
def test_an_endpoint_of_upstream_is_here_or_says_that_it_is_not(method: str, name: str) -> None:
    """Nothing of theirs is simply unknown, nor has another method."""
    found = find(method, BASE + name, Access.WRITE)
    if isinstance(found, Response):
        assert (found.status, found.content_type) == (501, "application/json")


def test_every_debug_action_is_here() -> None:
    """All of upstream's."""
    assert set(ACTIONS.split()) <= {*DEBUG_ACTIONS, *EXPERIMENTS, "current-netmap"}


def test_the_reference_names_exactly_those_that_are_not_here() -> None:
    """With the reason, so that nobody must try."""
    text = REFERENCE.read_text().partition("### Upstream's endpoints that are not here\n")[2]
    table = text.partition("\n#")[0]
    named = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
             for name in re.findall(r"`([^`]+)`", row)}  # fmt: skip
    families = {f"{family}/…" for family in LATER_FAMILIES}
    assert named == {*LATER, *families, *LATER_METHODS}


def test_what_is_not_here_is_no_route() -> None:
    """A name is in one of the two."""
    for name in LATER:
        assert not isinstance(find("GET", BASE + name, Access.WRITE), Route)
