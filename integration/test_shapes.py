"""Every answer of the live LocalAPI has upstream's shape: fields, types, null or absent."""

import json
from typing import Any

import pytest
from integration import shapes
from integration.lab.host import Host
from integration.lab.lab import Lab
from tests.agent.localapi.test_upstream import ENDPOINTS
from tests.support.shapes import ANY, Absent, Each, Null, faults

from tailnet.agent.localapi.exchange import Access
from tailnet.agent.localapi.routes import Route, find
from tailnet.agent.localapi.schema.basics import BASE
from tailnet.agent.localapi.schema.bus import (
    INITIAL_HEALTH,
    INITIAL_NETMAP,
    INITIAL_PREFS,
    INITIAL_STATE,
    INITIAL_STATUS,
    PEER_CHANGES,
    WATCH_ENGINE_UPDATES,
)
from tailnet.client import Client

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

CAPABILITIES = Each(Null([ANY]))
SHAPES: dict[str, Any] = {
    "GET status": shapes.STATUS,
    "GET status?peers=false": shapes.STATUS,
    "GET prefs": shapes.PREFS,
    "PATCH prefs": shapes.PREFS,
    "POST check-prefs": shapes.PROBLEM,
    "GET profiles/": [shapes.LOGIN_PROFILE],
    "GET profiles/current": shapes.LOGIN_PROFILE,
    "POST reload-config": {"Reloaded": bool, "Err": str},
    "POST set-use-exit-node-enabled?enabled=false": shapes.PREFS,
    "GET suggest-exit-node": {"ID": str, "Name": str, "Location": Null({})},
    "GET whois?addr={peer}": {
        "Node": shapes.NODE,
        "UserProfile": shapes.USER,
        "CapMap": Null(CAPABILITIES),
    },
    "GET user-profile?id=1": shapes.USER,
    "GET peer-by-id?id={id}": shapes.NODE,
    "GET services": Each(ANY),
    "GET cert-domains": [str],
    "GET serve-config": {},
    "POST ping?ip={peer}&type=disco": shapes.PING,
    "POST ping?ip={own}&type=disco": shapes.PING,
    "POST ping?ip=192.0.2.1&type=TSMP": shapes.PING,
    "GET derpmap": shapes.DERP_MAP,
    "GET dns-config": Each(ANY),
    "GET dns-osconfig": shapes.DNS_OS,
    "GET dns-query?name=h2.lab.ts.net&type=A": shapes.DNS_ANSWER,
    "GET check-ip-forwarding": {"Warning": str},
    "POST netcheck": shapes.NETCHECK,
    "POST component-debug-logging?component=magicsock&secs=0": shapes.PROBLEM,
    "POST component-debug-logging?component=nothing&secs=0": shapes.PROBLEM,
    "GET debug-optional-features": {"Features": Each(bool)},
    "GET debug-packet-filter-rules": [ANY],
    "GET debug-peer-relay-sessions": shapes.RELAY_SESSIONS,
    "GET id-token?aud=x": {"id_token": str},
    "GET check-udp-gro-forwarding": {"Warning": str},
    "GET set-udp-gro-forwarding": {"Warning": str},
    "GET check-so-mark-in-use": {"UseSOMark": bool},
    "GET debug-packet-filter-matches": Each(ANY),  # ours: no client of upstream's reads it
    "GET debug-peer-endpoint-changes?ip={peer}": [
        {"When": str, "What": str, "From": Absent(str), "To": str}
    ],
    "POST debug-derp-region?region=900": {"Info": [str], "Warnings": [str], "Errors": [str]},
    "POST debug?action=control-knobs": CAPABILITIES,
    "POST debug?action=peer-relay-servers": [str],
    "POST debug?action=peer-disco-keys": Each(str),
    "POST debug?action=statedir": str,
    "POST debug?action=current-netmap": shapes.NETMAP,
}
BODIES = {
    "PATCH prefs": {"ShieldsUp": False, "ShieldsUpSet": True},
    "POST check-prefs": {},
}
TEXTS = frozenset(
    """
    GET-usermetrics GET-metrics GET-goroutines GET-logtap POST-bugreport POST-debug-dial-types
    GET-debug-portmap GET-pprof POST-debug-capture POST-set-expiry-sooner POST-dial
    """.split()  # noqa: SIM905 - one name a word reads better
)
"""No JSON: text, files, streams of bytes."""
SILENT = frozenset(
    """
    PUT-profiles/ GET-profiles/x POST-profiles/x DELETE-profiles/x POST-start POST-login-interactive
    POST-logout POST-reset-auth POST-shutdown POST-disconnect-control POST-debug-log
    POST-debug-rotate-disco-key
    """.split()  # noqa: SIM905
)
"""Nothing, or what is shown elsewhere: one profile as those of the list."""
ELSEWHERE = frozenset(
    ("GET-watch-ipn-bus", "POST-query-feature", "POST-set-dns", "PATCH-alpha-set-device-attrs")
)
"""The bus below; what only a control server with more than ours answers, in test_control_asks."""
REFUSED = {
    "PATCH prefs": (400, {"Hostname": 7, "HostnameSet": True}),
    "POST query-feature?feature=serve": (502, {}),
    "GET update/check": (501, {}),
    "GET tka/status": (501, {}),
    "GET conn25/state": (501, {}),
}


@pytest.fixture(scope="module")
def host(pair: Lab) -> Host:
    """Who is asked."""
    return pair.hosts["h1"]


def test_every_endpoint_of_upstreams_is_looked_at() -> None:
    """Those that are here have a shape, or are known for having no JSON."""
    here = {
        f"{method}-{name}"
        for method, name in ENDPOINTS
        if isinstance(find(method, BASE + name, Access.WRITE), Route)
    }
    shown = {asked.partition("?")[0].replace(" ", "-") for asked in SHAPES}
    assert here - shown == TEXTS | SILENT | ELSEWHERE


def ask(host: Host, asked: str, body: object = None) -> tuple[int, str]:
    """Status and text."""
    method, _, name = asked.partition(" ")
    data = b"" if body is None else json.dumps(body).encode()
    return host.ask(method, name, data)


@pytest.mark.parametrize("asked", SHAPES)
def test_an_answer_has_upstreams_shape(pair: Lab, host: Host, asked: str) -> None:
    """No field too many, none missing, each of its type."""
    peer = host.peer("h2") or {}
    filled = asked.format(peer=pair.hosts["h2"].ipv4, own=host.ipv4, id=peer["NodeID"])
    status, text = ask(host, filled, BODIES.get(asked))
    assert status == 200, text
    assert faults(json.loads(text), SHAPES[asked]) == []


@pytest.mark.parametrize("asked", REFUSED)
def test_a_refusal_in_json_says_error(host: Host, asked: str) -> None:
    """The endpoints that upstream's clients expect JSON of."""
    wanted, body = REFUSED[asked]
    status, text = ask(host, asked, body)
    assert status == wanted
    assert faults(json.loads(text), shapes.PROBLEM) == []
    assert json.loads(text)["Error"]


def test_the_bus_has_upstreams_shape(pair: Lab, host: Host) -> None:
    """The first message with everything, then changes and traffic; absent is not null."""
    first = INITIAL_STATE | INITIAL_PREFS | INITIAL_NETMAP | INITIAL_STATUS | INITIAL_HEALTH
    watch = Client(str(host.socket)).watch(first | PEER_CHANGES | WATCH_ENGINE_UPDATES)
    tree = json.loads(watch.next_line(10))
    assert faults(tree, shapes.NOTIFY) == []
    assert len(tree["SessionID"]) == 16
    assert tree["State"] == 6
    for field in ("Prefs", "NetMap", "InitialStatus", "Health"):
        assert tree[field] is not None, field
    pair.hosts["h2"].tnet("set", "--hostname=h2again")
    seen: set[str] = set()
    while not {"Engine", "PeersChanged"} <= seen:
        tree = json.loads(watch.next_line(20))
        assert faults(tree, shapes.NOTIFY) == []
        seen |= {name for name, value in tree.items() if value is not None}
    watch.close()
    pair.hosts["h2"].tnet("set", "--hostname=h2")


def test_only_what_the_shapes_say_may_be_absent(host: Host) -> None:
    """The suite can fail: a status without a field is found, and a null that should be absent."""
    tree = json.loads(ask(host, "GET status")[1])
    for name, shape in shapes.STATUS.items():
        if not isinstance(shape, Absent):
            assert faults({k: v for k, v in tree.items() if k != name}, shapes.STATUS)
        else:
            assert faults({**tree, name: None}, shapes.STATUS)


def test_headers_say_version_and_capability(host: Host) -> None:
    """As upstream's clients read them."""
    done = host.exec(
        "curl", "-sS", "-o", "/dev/null", "-D", "-", "--unix-socket", str(host.socket),
        "http://local-tailscaled.sock/localapi/v0/status?peers=false",
    )  # fmt: skip
    headers = done.stdout.lower()
    assert "tailscale-version: " in headers
    assert "tailscale-cap: " in headers
