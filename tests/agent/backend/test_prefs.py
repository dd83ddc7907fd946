"""Masked edits of prefs, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.prefs import (
    FIELDS,
    NOT_SETTABLE,
    AutoUpdatePrefs,
    Prefs,
    apply_masked,
    from_json,
    to_json,
    validate,
)
from tailnet.agent.errors import UserError

SAMPLES: dict[str, object] = {
    "ControlURL": "https://control.example",
    "ExitNodeID": "n1",
    "ExitNodeIP": "100.64.0.9",
    "AutoExitNode": "any",
    "InternalExitNodePrior": "n2",
    "AdvertiseTags": ["tag:a", "tag:b"],
    "Hostname": "box",
    "AdvertiseRoutes": ["192.0.2.0/24"],
    "AdvertiseServices": ["svc:web"],
    "Sync": False,
    "NoStatefulFiltering": False,
    "NetfilterMode": 0,
    "OperatorUser": "alice",
    "ProfileName": "work",
    "AutoUpdate": {"Check": False, "Apply": True},
    "AppConnector": {"Advertise": True},
    "NetfilterKind": "nftables",
    "DriveShares": [{"name": "docs"}],
    "RelayServerPort": 0,
    "RelayServerStaticEndpoints": ["192.0.2.1:9"],
    "PathPolicy": ["n2=relay-only"],
    "AcceptRoutes": ["192.0.2.0/24", "peer:box", "tag:web"],
    "EndpointInterfaces": ["-docker*"],
    "StaticEndpoints": ["192.0.2.1:41641"],
    "DNSRecords": ["nas.home=192.168.1.9,fd00::9", "*.dev.lan=127.0.0.1"],
    "CorpDNS": False,
    "LoggedOut": False,
}
# What each pref does, in its sample's value: "acts", "kept: why nothing follows", "refused: text".
MATRIX = {
    "ControlURL": "acts",
    "RouteAll": "acts",
    "AcceptRoutes": "acts",
    "ExitNodeID": "acts",
    "ExitNodeIP": "acts",
    "AutoExitNode": "acts",
    "InternalExitNodePrior": "kept: upstream's memory of an exit node, not settable",
    "ExitNodeAllowLANAccess": "acts",
    "CorpDNS": "acts",
    "RunSSH": "refused: the SSH server is not supported yet",
    "RunWebClient": "refused: the web client is not supported yet",
    "WantRunning": "acts",
    "LoggedOut": "acts",
    "ShieldsUp": "acts",
    "AdvertiseTags": "acts",
    "Hostname": "acts",
    "NotepadURLs": "kept: upstream's debugging aid on Windows",
    "ForceDaemon": "refused: unattended mode exists on Windows only",
    "Egg": "kept: upstream's joke",
    "AdvertiseRoutes": "acts",
    "AdvertiseServices": "refused: advertising services is not supported yet",
    "Sync": "refused: turning off sync is not supported yet",
    "NoSNAT": "acts",
    "NoStatefulFiltering": "acts",
    "NetfilterMode": "acts",
    "OperatorUser": "acts",
    "ProfileName": "acts",
    "AutoUpdate": "refused: automatic updates are not supported",
    "AppConnector": "refused: app connectors are not supported yet",
    "PostureChecking": "refused: posture checking is not supported yet",
    "NetfilterKind": "refused: choosing the kind of netfilter is not supported yet",
    "RemoteConfig": "refused: remote configuration is not supported yet",
    "DriveShares": "refused: Taildrive is not supported yet",
    "PathPolicy": "acts",
    "EndpointInterfaces": "acts",
    "StaticEndpoints": "acts",
    "DNSRecords": "acts",
    "KillSwitch": "acts",
    "NoKeptMap": "acts",
    "RelayServerPort": "acts",
    "RelayServerStaticEndpoints": "acts",
}
SETTABLE = sorted(FIELDS.keys() - NOT_SETTABLE)


def sample(name: str) -> object:
    """A value that is not the default."""
    return SAMPLES.get(name, True)


@pytest.mark.parametrize("name", SETTABLE)
def test_a_masked_field_and_nothing_else_changes(name: str) -> None:
    """One mask bit changes one field of the JSON form."""
    before = to_json(Prefs())
    after = to_json(apply_masked(Prefs(), {name: sample(name), f"{name}Set": True}))
    assert {key for key in after if after[key] != before[key]} == {name}


@given(st.sets(st.sampled_from(SETTABLE)), st.sets(st.sampled_from(SETTABLE)))
def test_only_masked_fields_change(given_names: set[str], masked: set[str]) -> None:
    """Values without a mask bit are ignored, whatever else is in the object."""
    edit: dict[str, object] = {name: sample(name) for name in given_names | masked}
    edit |= {f"{name}Set": name in masked for name in SETTABLE}
    edit["Unheard"] = 1
    before, after = to_json(Prefs()), to_json(apply_masked(Prefs(), edit))
    assert {key for key in after if after[key] != before[key]} == masked


@given(st.sets(st.sampled_from(sorted(FIELDS))))
def test_json_form_round_trips(names: set[str]) -> None:
    """``from_json`` inverts ``to_json``, and every field is always present."""
    prefs = from_json({name: sample(name) for name in names})
    tree = to_json(prefs)
    assert from_json(tree) == prefs
    assert tree.keys() == FIELDS.keys()


def test_nested_mask_changes_one_half_of_auto_update() -> None:
    """``AutoUpdateSet`` has a mask of its own."""
    edit = {"AutoUpdate": {"Apply": True, "Check": False}, "AutoUpdateSet": {"ApplySet": True}}
    assert apply_masked(Prefs(), edit).auto_update == AutoUpdatePrefs(check=True, apply=True)


def test_masked_field_without_value_becomes_zero() -> None:
    """Go leaves zero values out of some fields; the mask alone clears them."""
    prefs = Prefs(hostname="box", operator_user="alice", advertise_routes=("192.0.2.0/24",))
    masks = {"OperatorUserSet": True, "AdvertiseRoutes": None, "AdvertiseRoutesSet": True}
    after = apply_masked(prefs, masks)
    assert (after.hostname, after.operator_user, after.advertise_routes) == ("box", "", None)


@pytest.mark.parametrize(
    "edit",
    [
        {"Hostnam": "x", "HostnamSet": True},
        {"Hostname": 5, "HostnameSet": True},
        {"Hostname": "x", "HostnameSet": "yes"},
        {"Hostname": "x", "HostnameSet": {"a": True}},
        {"AutoUpdate": {"X": True}, "AutoUpdateSet": {"XSet": True}},
        {"AutoUpdate": 1, "AutoUpdateSet": {"ApplySet": True}},
        {"InternalExitNodePrior": "n", "InternalExitNodePriorSet": True},
    ],
)
def test_wrong_edits_are_refused(edit: dict[str, object]) -> None:
    """Unknown settings, wrong types and the daemon's own fields."""
    with pytest.raises(UserError):
        apply_masked(Prefs(), edit)


def test_synonyms_of_the_default_server() -> None:
    """The empty URL and the login host mean the default."""
    default = Prefs().server_url
    assert Prefs(control_url="https://login.tailscale.com/").server_url == default
    assert Prefs(control_url="http://lab:8080/").server_url == "http://lab:8080"


@pytest.mark.parametrize(
    ("prefs", "says"),
    [
        (Prefs(advertise_routes=("192.0.2.7/24",)), "192.0.2.7/24 has non-address bits set; "),
        (Prefs(advertise_routes=("192.0.2.7/24",)), "expected 192.0.2.0/24"),
        (Prefs(advertise_routes=("192.0.2.7",)), "not a valid CIDR"),
        (Prefs(advertise_routes=("fe80::%1/64",)), "not a valid CIDR"),
        (Prefs(advertise_routes=("nonsense/24",)), "not a valid CIDR"),
        (Prefs(advertise_routes=("fd7a:115c:a1e0:b1a::/64",)), "must be at least a /96"),
        (
            Prefs(advertise_routes=("fd7a:115c:a1e0:b1a:1:0::/96",)),
            "invalid site ID 00010000; must",
        ),
        (Prefs(advertise_routes=("127.0.0.0/8",)), "127.0.0.0/8 leads to no other machine"),
        (Prefs(advertise_routes=("10.0.0.0/8", "fe80::/64")), "fe80::/64 leads to no other"),
        (Prefs(advertise_routes=("224.0.0.0/24",)), "loopback, link-local or multicast"),
        (Prefs(advertise_routes=("0.0.0.0/0",)), "please also advertise ::/0"),
        (Prefs(advertise_routes=("::/0",)), "please also advertise 0.0.0.0/0"),
        (Prefs(advertise_routes=("0.0.0.0/0", "::/0"), auto_exit_node="any"), "and use one"),
        (Prefs(advertise_tags=("web",)), "bad tag 'web'"),
        (Prefs(advertise_tags=("tag:",)), "bad tag"),
        (Prefs(advertise_tags=("tag:1a",)), "bad tag"),
        (Prefs(advertise_tags=("tag:a\n",)), "bad tag"),
        (Prefs(hostname="-a"), "bad hostname"),
        (Prefs(hostname="a_b"), "bad hostname"),
        (Prefs(hostname="a..b"), "bad hostname"),
        (Prefs(hostname="a" * 64), "bad hostname"),
        (Prefs(hostname="a." * 130 + "a"), "too long"),
        (Prefs(control_url="ftp://x"), "bad login server"),
        (Prefs(control_url="https://"), "bad login server"),
        (Prefs(control_url="https://x:99999"), "bad login server"),
        (Prefs(control_url="https://[x"), "bad login server"),
        (Prefs(control_url="https://x/ y"), "bad login server"),
        (Prefs(operator_user="a b"), "bad operator"),
        (Prefs(run_ssh=True), "SSH server is not supported yet"),
        (Prefs(exit_node_id="a b"), "bad exit node 'a b'"),
        (Prefs(exit_node_ip="100.64.0"), "bad exit node '100.64.0'"),
        (Prefs(auto_exit_node="best"), "only any is known"),
        (Prefs(sync=False), "sync"),
        (Prefs(netfilter_mode=3), "on, nodivert or off"),
        (Prefs(relay_server_port=70000), "bad relay server port 70000"),
        (Prefs(relay_server_static_endpoints=("192.0.2.1",)), "bad endpoint '192.0.2.1'"),
        (Prefs(advertise_routes=("192.0.2.0/24",) * 2000), "too many routes"),
    ],
)
def test_bad_prefs_are_refused_in_one_line(prefs: Prefs, says: str) -> None:
    """The text names what is wrong."""
    with pytest.raises(UserError) as caught:
        validate(prefs)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "prefs",
    [
        Prefs(),
        Prefs(want_running=True, logged_out=False, route_all=True, shields_up=True, corp_dns=False),
        Prefs(advertise_routes=("192.0.2.0/24", "2001:db8::/32"), advertise_tags=("tag:a-1",)),
        Prefs(advertise_routes=("fd7a:115c:a1e0:b1a:0:ffff:a01:0/112", "fd7a::/16")),
        Prefs(hostname="box.example", control_url="http://[::1]:8080", operator_user="alice"),
        Prefs(no_stateful_filtering=None, sync=True),
    ],
)
def test_good_prefs_pass(prefs: Prefs) -> None:
    """What exists can be set."""
    validate(prefs)


def test_the_matrix_has_every_pref() -> None:
    """And no other."""
    assert MATRIX.keys() == FIELDS.keys()


@pytest.mark.parametrize("name", MATRIX)
def test_each_pref_acts_is_kept_or_refused(name: str) -> None:
    """As the matrix says; what is not refused comes back from the disk."""
    prefs = from_json({name: sample(name)})
    verdict, _, text = MATRIX[name].partition(": ")
    if verdict == "refused":
        with pytest.raises(UserError) as caught:
            validate(prefs)
        assert str(caught.value) == text
    else:
        validate(prefs)
        assert from_json(to_json(prefs)) == prefs


def test_an_unknown_setting_is_named() -> None:
    """So that a typing error is found."""
    with pytest.raises(UserError, match="unknown setting 'Hostnam'"):
        apply_masked(Prefs(), {"Hostnam": "x", "HostnamSet": True})


def test_a_nickname_is_one_line() -> None:
    """It is shown in tables."""
    for bad in ("a\nb", " a", "a ", "x" * 300):
        with pytest.raises(UserError, match="one line of text"):
            validate(Prefs(profile_name=bad))
    validate(Prefs(profile_name="Zoë's tailnet"))
