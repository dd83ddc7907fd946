"""Routes and permissions, without a socket."""

import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_backend import FakeBackend

from tailnet.agent.backend.loginprofile import LoginProfile
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Access, Request, Response
from tailnet.agent.localapi.routes import ROUTES, Route, access_of, find, refuse_headers
from tailnet.agent.localapi.schema.basics import BASE
from tailnet.agent.localapi.schema.paths import PingResult
from tailnet.agent.localapi.upgrades import parse_mask
from tailnet.agent.tailcfg.node import UserID, UserProfile


async def ask(
    backend: FakeBackend, method: str, name: str, /, body: bytes = b"", **query: str
) -> Response:
    """Call a route's handler."""
    route = find(method, BASE + name, Access.WRITE)
    assert isinstance(route, Route)
    assert route.handler is not None
    return await route.handler(backend, Request(method, BASE + name, query, body))


@pytest.mark.parametrize(
    ("uid", "want"),
    [
        (0, Access.WRITE),
        (500, Access.WRITE),
        (600, Access.WRITE),
        (700, Access.READ),
        (None, Access.NONE),
    ],
)
def test_root_the_daemons_user_and_the_operator_write(uid: int | None, want: Access) -> None:
    """Others read; without credentials nothing is allowed."""
    assert access_of(uid, daemon_uid=500, operator_uid=600) is want


ALL = [
    (name, method, route) for name, methods in ROUTES.items() for method, route in methods.items()
]


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize(("name", "method", "route"), ALL)
def test_every_route_checks_who_asks(name: str, method: str, route: Route, access: Access) -> None:
    """403 below what the route needs."""
    found = find(method, BASE + name, access)
    if access.value >= route.needs.value:
        assert found is route
    else:
        assert isinstance(found, Response)
        assert found.status == 403
        assert b"access denied" in found.body


def test_what_changes_something_needs_write() -> None:
    """Everything but looking, measuring, ping and dial."""
    readable = {(name, method) for name, method, route in ALL if route.needs is Access.READ}
    assert readable == {
        ("status", "GET"),
        ("prefs", "GET"),
        ("profiles/", "GET"),
        ("profiles/current", "GET"),
        ("profiles/{id}", "GET"),
        ("watch-ipn-bus", "GET"),
        ("usermetrics", "GET"),
        ("query-feature", "POST"),
        ("check-ip-forwarding", "GET"),
        ("bugreport", "POST"),
        ("debug-peer-relay-sessions", "GET"),
        ("debug-peer-endpoint-changes", "GET"),
        ("check-so-mark-in-use", "GET"),
        ("ping", "POST"),
        ("path", "GET"),
        ("routes", "GET"),
        ("check-udp-gro-forwarding", "GET"),
        ("derpmap", "GET"),
        ("netcheck", "POST"),
        ("dial", "POST"),
        ("serve-config", "GET"),
        ("openapi.json", "GET"),
        ("dns-config", "GET"),
        ("dns-osconfig", "GET"),
        ("dns-query", "GET"),
        ("dns-records", "GET"),
        ("suggest-exit-node", "GET"),
        ("cert-domains", "GET"),
        ("services", "GET"),
        ("debug-optional-features", "GET"),
        ("debug-log", "POST"),
        ("trace", "GET"),
        ("whois", "GET"),
        ("user-profile", "GET"),
        ("peer-by-id", "GET"),
    }


async def test_accounts_are_shown_and_chosen() -> None:
    """Under upstream's paths, with its status codes and in its form."""
    alice = UserProfile(id=UserID(7), login_name="alice@example.com")
    work = LoginProfile(id="3f2a", name="work", key="profile-3f2a", user_profile=alice, node_id="n")
    backend = FakeBackend(accounts=[work])
    listed = await ask(backend, "GET", "profiles/")
    assert listed.status == 200
    assert json.loads(listed.body) == [
        {
            "ID": "3f2a",
            "Name": "work",
            "NetworkProfile": {"MagicDNSName": "", "DomainName": "", "DisplayName": ""},
            "Key": "profile-3f2a",
            "UserProfile": {"ID": 7, "LoginName": "alice@example.com"},
            "NodeID": "n",
            "LocalUserID": "",
            "ControlURL": "",
        }
    ]
    assert json.loads((await ask(backend, "GET", "profiles/current")).body)["ID"] == ""
    assert (await ask(backend, "POST", "profiles/3f2a")).status == 204
    assert json.loads((await ask(backend, "GET", "profiles/current")).body)["ID"] == "3f2a"
    assert json.loads((await ask(backend, "GET", "profiles/3f2a")).body)["Name"] == "work"
    assert (await ask(backend, "GET", "profiles/ffff")).status == 404
    with pytest.raises(UserError, match="no profile"):
        await ask(backend, "POST", "profiles/ffff")
    assert (await ask(backend, "PUT", "profiles/")).status == 201
    assert (await ask(backend, "DELETE", "profiles/3f2a")).status == 204
    assert (await ask(backend, "GET", "profiles/")).body == b"[]"


async def test_nothing_is_served() -> None:
    """An empty configuration, so that upstream's ``status`` finds nothing to complain of."""
    answer = await ask(FakeBackend(), "GET", "serve-config")
    assert (answer.status, answer.body) == (200, b"{}")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("POST", "/", 405),
        ("GET", "/elsewhere", 404),
        ("GET", f"{BASE}nonsense", 404),
        ("GET", f"{BASE}profiles", 404),
        ("PUT", f"{BASE}profiles/current", 405),
        ("PATCH", f"{BASE}profiles/3f2a", 405),
        ("GET", f"{BASE}files/a/b", 501),
        ("GET", f"{BASE}tka/status", 501),
        ("POST", f"{BASE}status", 405),
        ("get", f"{BASE}status", 405),
    ],
)
def test_what_is_not_there(method: str, path: str, status: int) -> None:
    """Upstream's other endpoints are told apart from nonsense."""
    found = find(method, path, Access.WRITE)
    assert isinstance(found, Response)
    assert found.status == status
    if status == 501:
        assert "not supported yet" in json.loads(found.body)["Error"]


@given(st.text(), st.text(), st.sampled_from(Access))
def test_any_request_is_answered(method: str, path: str, access: Access) -> None:
    """No path raises."""
    for prefix in ("", BASE):
        assert isinstance(find(method, prefix + path, access), Route | Response)


@pytest.mark.parametrize(
    ("host", "origin", "referer", "refused"),
    [
        ("local-tailscaled.sock", None, None, False),
        ("", None, None, False),
        ("evil.example", None, None, True),
        ("", "https://evil.example", None, True),
        ("", "", None, True),
        ("", None, "https://evil.example/", True),
    ],
)
def test_web_pages_are_kept_out(
    host: str, origin: str | None, referer: str | None, refused: bool
) -> None:
    """By the headers a browser cannot leave away."""
    assert (refuse_headers(host, origin, referer) is not None) is refused


@pytest.mark.parametrize(
    "mask",
    ["x", "-1", "9999999999", "65536", "٣", *(str(256 | 1 << bit) for bit in (12, 13, 14, 15))],
)
def test_bad_masks_are_refused(mask: str) -> None:
    """Not a number, not over the socket, not together."""
    with pytest.raises(UserError):
        parse_mask({"mask": mask})


def test_masks() -> None:
    """Absent is zero."""
    assert parse_mask({}) == 0
    assert parse_mask({"mask": "6"}) == 6


async def test_prefs_are_edited_and_returned() -> None:
    """``PATCH prefs`` answers with the whole of them."""
    backend = FakeBackend()
    body = b'{"Hostname": "box", "HostnameSet": true}'
    response = await ask(backend, "PATCH", "prefs", body)
    assert (response.status, json.loads(response.body)["Hostname"]) == (200, "box")
    assert backend.current.hostname == "box"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"RunSSH": true, "RunSSHSet": true}'])
async def test_a_refused_edit_is_400_in_json(body: bytes) -> None:
    """Nothing changes."""
    backend = FakeBackend()
    response = await ask(backend, "PATCH", "prefs", body)
    assert response.status == 400
    assert json.loads(response.body)["Error"]
    assert backend.calls == []


async def test_check_prefs_says_what_is_wrong() -> None:
    """200 either way; the text is in ``Error``."""
    backend = FakeBackend()
    good = await ask(backend, "POST", "check-prefs", b'{"Hostname": "box"}')
    bad = await ask(backend, "POST", "check-prefs", b'{"Hostname": "-"}')
    assert (good.status, json.loads(good.body)) == (200, {"Error": ""})
    assert (bad.status, "bad hostname" in json.loads(bad.body)["Error"]) == (200, True)


async def test_start_takes_what_can_be_set() -> None:
    """Whole prefs of any client: keys, the daemon's own fields and unknown ones are left out."""
    backend = FakeBackend()
    update = {"Hostname": "box", "Config": {}, "InternalExitNodePrior": "x", "Newer": 1}
    body = json.dumps({"UpdatePrefs": update, "AuthKey": "key", "FrontendLogID": ""}).encode()
    assert (await ask(backend, "POST", "start", body)).status == 204
    assert backend.calls == [("start", "key")]
    assert backend.current.hostname == "box"
    assert backend.current.internal_exit_node_prior == ""


@pytest.mark.parametrize("body", [b'{"UpdatePrefs": 1}', b'{"AuthKey": 5}'])
async def test_start_refuses_wrong_types(body: bytes) -> None:
    """400, and nothing is started."""
    backend = FakeBackend()
    assert (await ask(backend, "POST", "start", body)).status == 400
    assert backend.calls == []


async def test_ping_parses_its_arguments() -> None:
    """And gives the backend's answer."""
    backend = FakeBackend(pings=[PingResult(ip="100.64.0.2", endpoint="192.0.2.1:5")])
    response = await ask(backend, "POST", "ping", ip="100.64.0.2", type="disco", size="100")
    assert json.loads(response.body)["Endpoint"] == "192.0.2.1:5"
    assert backend.calls == [("ping", str(ip_address("100.64.0.2")), "disco", 100)]


@pytest.mark.parametrize(
    "query",
    [
        {"ip": "x", "type": "disco"},
        {"type": "disco"},
        {"ip": "100.64.0.2"},
        {"ip": "100.64.0.2", "type": "smoke"},
        {"ip": "100.64.0.2", "type": "disco", "size": "-1"},
        {"ip": "100.64.0.2", "type": "disco", "size": "99999"},
        {"ip": "100.64.0.2", "type": "TSMP", "size": "10"},
    ],
)
async def test_bad_pings_are_refused(query: dict[str, str]) -> None:
    """400 each."""
    assert (await ask(FakeBackend(), "POST", "ping", b"", **query)).status == 400


async def test_status_without_peers() -> None:
    """``peers=false`` reaches the backend."""
    backend = FakeBackend()
    await ask(backend, "GET", "status", peers="false")
    await ask(backend, "GET", "status")
    assert backend.calls == [("status", False), ("status", True)]
