"""The configuration file becomes a masked edit, or one line that says why not."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.config import Config, parse_config
from tailnet.agent.backend.prefs import Prefs, apply_masked
from tailnet.agent.errors import UserError


def config(**fields: object) -> Config:
    """Of a file with these fields."""
    return parse_config(json.dumps({"Version": "alpha0", **fields}).encode())


def prefs(**fields: object) -> Prefs:
    """What becomes of the prefs of a new login."""
    return apply_masked(Prefs(), config(**fields).masked)


def test_a_file_with_comments_is_read() -> None:
    """HuJSON."""
    text = b"""
    // what we are
    {
      "Version": "alpha0", /* the only one */
      "ServerURL": "https://control.example",
      "Hostname": "box",
    }
    """
    made = apply_masked(Prefs(), parse_config(text).masked)
    assert (made.control_url, made.hostname) == ("https://control.example", "box")


def test_a_minimal_file_turns_on_and_locks() -> None:
    """The defaults of Enabled and Locked; all else stays."""
    assert config().locked
    assert not config(Locked=False).locked
    assert prefs() == apply_masked(Prefs(), {"WantRunning": True, "WantRunningSet": True})
    assert not prefs(Enabled=False).want_running


@pytest.mark.parametrize(
    ("field", "value", "attribute", "want"),
    [
        ("ServerURL", "https://x.example", "control_url", "https://x.example"),
        ("OperatorUser", "ann", "operator_user", "ann"),
        ("Hostname", "box", "hostname", "box"),
        ("acceptDNS", False, "corp_dns", False),
        ("acceptRoutes", True, "route_all", True),
        ("exitNode", "100.64.0.9", "exit_node_ip", "100.64.0.9"),
        ("exitNode", "nABC", "exit_node_id", "nABC"),
        ("allowLANWhileUsingExitNode", True, "exit_node_allow_lan_access", True),
        ("AdvertiseRoutes", ["192.0.2.0/24"], "advertise_routes", ("192.0.2.0/24",)),
        ("AdvertiseExitNode", True, "advertise_routes", ("0.0.0.0/0", "::/0")),
        ("DisableSNAT", True, "no_snat", True),
        ("NoStatefulFiltering", False, "no_stateful_filtering", False),
        ("NetfilterMode", "nodivert", "netfilter_mode", 1),
        ("PostureChecking", True, "posture_checking", True),
        ("RunSSHServer", True, "run_ssh", True),
        ("RunWebClient", True, "run_web_client", True),
        ("ShieldsUp", True, "shields_up", True),
        ("RemoteConfig", True, "remote_config", True),
        ("RelayServerPort", 7, "relay_server_port", 7),
    ],
)
def test_each_field_sets_its_pref(field: str, value: object, attribute: str, want: object) -> None:
    """And nothing else."""
    made = prefs(**{field: value})
    assert getattr(made, attribute) == want
    plain = prefs()
    changed = {n for n in Prefs.__struct_fields__ if getattr(made, n) != getattr(plain, n)}
    assert changed == {attribute}


def test_nested_fields_set_their_parts() -> None:
    """AutoUpdate and AppConnector."""
    made = prefs(AutoUpdate={"Check": False}, AppConnector={"Advertise": True})
    assert (made.auto_update.check, made.auto_update.apply) == (False, None)
    assert made.app_connector.advertise


def test_some_fields_are_taken_from_the_file_even_if_absent() -> None:
    """A pref set before does not stay."""
    before = Prefs(advertise_services=("svc:x",), relay_server_port=7)
    after = apply_masked(before, config().masked)
    assert (after.advertise_services, after.relay_server_port) == (None, None)


def test_an_auth_key_means_logged_in_and_never_prints() -> None:
    """It is a secret."""
    made = config(AuthKey="tskey-secret")
    assert made.auth_key == "tskey-secret"
    assert made.masked["LoggedOut"] is False
    assert "secret" not in repr(made)


def test_not_being_an_exit_node_removes_the_default_routes() -> None:
    """And keeps the others."""
    routes = ["192.0.2.0/24", "0.0.0.0/0", "::/0"]
    assert prefs(AdvertiseRoutes=routes, AdvertiseExitNode=False).advertise_routes == (routes[0],)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"Hostname": "x"}', "there is no Version"),
        (b'{"Version": "beta1"}', "'beta1'; this one reads \"alpha0\""),
        (b'{"Version": "alpha0", "Hostnam": "x"}', "Hostnam"),
        (b'{"Version": "alpha0", "Hostname": 7}', "Hostname"),
        (b'{"Version": "alpha0", "NetfilterMode": "maybe"}', "off, nodivert, on"),
        (b'{"Version": "alpha0", "ServeConfigTemp": {"TCP": {}}}', "not supported yet"),
        (b'{"Version": "alpha0"} /*', "no end"),
        (b" " * (1 << 20) + b"{}", "larger than 1 MiB"),
    ],
)
def test_what_is_wrong_is_said(text: bytes, words: str) -> None:
    """In one line."""
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as caught:
        parse_config(text)
    assert "\n" not in str(caught.value)


@given(st.binary() | st.text().map(lambda s: json.dumps({"Version": "alpha0", s: s}).encode()))
def test_any_file_is_read_or_refused(data: bytes) -> None:
    """Nothing else happens."""
    with contextlib.suppress(UserError):
        parse_config(data)
