"""Each warning comes when its condition holds, and goes with it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.ailments import CONTROL, HealthFacts, conditions
from tailnet.agent.backend.health import Health
from tailnet.agent.backend.state import State
from tailnet.agent.backend.warnables import KEY_ENDS, TABLE, Severity
from tailnet.agent.control.trouble import Cause
from tailnet.agent.localapi.view.shapes import health as health_tree
from tailnet.agent.tailcfg.mapping import DisplayMessage, DisplayMessageAction

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FINE = HealthFacts(
    state=State.RUNNING,
    uptime=60.0,
    want_running=True,
    registered=True,
    relay_problems={},
    messages={},
)

BROKEN: dict[str, tuple[dict[str, object], str]] = {
    "state-store-health": ({"store_problem": "cannot write"}, "cannot write"),
    "apply-disk-config": ({"config_problem": "bad field"}, "bad field"),
    "warming-up": ({"state": State.STARTING, "uptime": 1.0}, "please wait"),
    "wantrunning-false": ({"want_running": False, "state": State.STOPPED}, "tnet up"),
    "login-state": ({"state": State.NEEDS_LOGIN}, "logged out"),
    "network-status": ({"has_network": False}, "no address"),
    "captive-portal-detected": ({"behind_portal": True}, "wants a login"),
    "using-kept-network-map": ({"map_age": "3 h"}, "a network map from 3 h ago; not in contact"),
    "not-in-map-poll": ({"control_problem": "hung up"}, "hung up"),
    "mapresponse-timeout": (
        {"control_problem": "silent", "control_cause": Cause.SILENCE},
        "nothing is heard from the control server",
    ),
    "tls-connection-failed": (
        {"control_problem": "bad certificate", "control_cause": Cause.TLS},
        "bad certificate",
    ),
    "clock-wrong": (
        {"clock_off": -365 * 86_400.0},
        "the clock of this machine is 365 days ahead of the control server's, so that",
    ),
    "derp-timed-out": ({"home": 7, "relay_silent": True}, "the relay of region 7 said nothing"),
    "docker-stateful-filtering": ({"containers_filtered": True}, "its containers may not reach"),
    "nosnat-with-advertised-exit-node": ({"exit_without_snat": True}, "--snat-subnet-routes"),
    "no-derp-home": ({"home": 0}, "no relay"),
    "no-derp-connection": ({"home": 7, "live_relays": 0}, "region 7 cannot be reached"),
    "derp-region-error": ({"relay_problems": {7: "too many"}}, "region 7: too many"),
    "no-udp4-bind": ({"has_udp": False}, "through relays only"),
    "udp-port-taken": ({"port_problem": "UDP port 5 is taken"}, "UDP port 5 is taken"),
    "ip-forwarding-off": ({"forwarding_problem": "sysctl -w x"}, "sysctl -w x"),
    "invalid-packet-filter": ({"filter_refused": True}, "nothing is let in"),
    "router": ({"router_problem": "table 52 is taken"}, "table 52 is taken"),
    "exit-node-missing": (
        {"exit_node_missing": True},
        (
            "the exit node is not there, so nothing leaves this machine but to peers; "
            "choose another with: tnet set --exit-node=NAME, or none with: tnet set --exit-node="
        ),
    ),
    "firewall": (
        {"firewall_problem": "this kernel has no nftables"},
        "this kernel has no nftables",
    ),
    "strict-reverse-path-filter": ({"strict_filter": True}, "rp_filter to 2"),
    "foreign-routing-rules": ({"foreign_rules": "rule 5208 comes first"}, "rule 5208 comes first"),
    "foreign-firewall": ({"foreign_firewall": "firewalld runs"}, "firewalld runs"),
    "dns-read-os-config-failed": ({"dns_unreadable": "no such file"}, "no such file"),
    "dns-set-os-config-failed": ({"dns_refused": "it is read-only"}, "it is read-only"),
    "resolv-conf-overwritten": ({"dns_overwritten": "by a program"}, "by a program"),
    "dns-forward-failing": ({"dns_failing": "192.0.2.1"}, "about a name from 192.0.2.1"),
    "peer-relay-port": (
        {"peer_relay_problem": "UDP port 7000 is taken; the peer relay uses 4321"},
        "port 7000 is taken",
    ),
    "dns-loop": ({"dns_looping": True}, "must not use 100.100.100.100"),
    "key-expires-soon": (
        {"key_left": 3 * 3600.0},
        "ends in 3 h; renew it with: tnet up --force-reauth",
    ),
    "accept-routes-off": ({"routes_ignored": True}, "--accept-routes is false"),
}


def changed(**facts: object) -> HealthFacts:
    """All is well but for these."""
    return replace(FINE, **facts)  # type: ignore[arg-type]


def shown(health: Health) -> list[str]:
    """Codes that show."""
    return [warning.what.code for warning in health.shown]


def settle(health: Health, facts: HealthFacts, now: float) -> float:
    """Hand the facts over again at each timeout; the time when nothing is to come."""
    health.handle_facts(facts, now, NOW)
    while (at := health.next_timeout()) is not None:
        now = at
        health.handle_facts(facts, now, NOW)
    return now


def test_every_warning_of_the_table_has_a_test() -> None:
    """So that none is forgotten."""
    assert set(BROKEN) == {what.code for what in TABLE}


@pytest.mark.parametrize("code", BROKEN)
def test_each_condition_raises_its_warning_and_clears_it(code: str) -> None:
    """After its delay, alone, with words about it."""
    health = Health()
    facts, words = BROKEN[code]
    now = settle(health, changed(**facts), 100.0)
    assert shown(health) == [code]
    (warning,) = health.shown
    assert words in warning.text
    assert now - 100.0 == warning.what.delay
    assert health.handle_facts(FINE, now, NOW)
    assert not health.shown
    assert health.next_timeout() is None


def test_nothing_shows_when_all_is_well() -> None:
    """Nor is there a timer."""
    health = Health()
    assert not health.handle_facts(FINE, 0.0, NOW)
    assert health.next_timeout() is None


def test_a_warning_that_goes_before_its_delay_never_shows() -> None:
    """A relay that is away for a moment is no news."""
    health = Health()
    gone = changed(live_relays=0)
    assert not health.handle_facts(gone, 0.0, NOW)
    assert health.next_timeout() == 10.0
    assert not health.handle_facts(FINE, 5.0, NOW)
    assert not health.handle_facts(gone, 8.0, NOW)
    assert health.next_timeout() == 18.0


def test_the_cause_hides_its_consequences() -> None:
    """Without a network the relay is out of reach too, and nobody needs to read that."""
    health = Health()
    settle(health, changed(has_network=False, live_relays=0, control_problem="hung up"), 0.0)
    assert shown(health) == ["network-status"]
    settle(health, changed(live_relays=0, control_problem="hung up"), 100.0)
    assert shown(health) == ["not-in-map-poll", "no-derp-connection"]


def test_a_kept_map_says_all_there_is_to_say_about_control() -> None:
    """One line, not two."""
    health = Health()
    settle(health, changed(map_age="3 h", login_problem="cannot connect"), 0.0)
    assert shown(health) == ["using-kept-network-map"]


def test_a_stopped_node_complains_of_nothing_else() -> None:
    """It has no relay because it wants none."""
    stopped = changed(
        want_running=False, state=State.STOPPED, live_relays=0, home=0, has_network=False
    )
    assert [what.code for what in conditions(stopped)] == ["wantrunning-false"]


def test_a_new_installation_is_asked_to_log_in_and_no_more() -> None:
    """Nothing is turned off that was never on."""
    fresh = changed(registered=False, want_running=False, state=State.NEEDS_LOGIN, home=0)
    assert [what.code for what in conditions(fresh)] == ["login-state"]


def test_the_servers_refusal_is_the_text_of_the_login_warning() -> None:
    """In its own words."""
    refused = changed(
        registered=False, state=State.NEEDS_LOGIN, login_problem="invalid key", live_relays=0
    )
    assert list(conditions(refused).values()) == ["invalid key"]


def test_messages_of_control_come_with_their_severity() -> None:
    """An unknown one counts as medium; empty ones do not exist."""
    health = Health()
    messages = {
        "a": DisplayMessage(title="Title", text="Text", severity="high", impacts_connectivity=True),
        "b": DisplayMessage(text="Plain", severity="extreme"),
        "c": DisplayMessage(),
    }
    settle(health, changed(messages=messages, lines=("old",)), 0.0)
    assert {w.what.code: (w.text, w.what.severity) for w in health.shown} == {
        f"{CONTROL}line-0": ("old", Severity.MEDIUM),
        f"{CONTROL}a": ("Title: Text", Severity.HIGH),
        f"{CONTROL}b": ("Plain", Severity.MEDIUM),
    }
    assert next(w for w in health.shown if w.what.code == f"{CONTROL}a").what.connectivity


def test_a_page_that_control_offers_is_at_the_end_of_the_text() -> None:
    """A page, not something that a browser would run; clients that show buttons get it apart."""
    page, script = "https://a.example/b", "javascript:alert(1)"
    messages = {
        str(number): DisplayMessage(text="Text", primary_action=action)
        for number, action in enumerate(
            (
                DisplayMessageAction(url=page, label="Help"),
                DisplayMessageAction(url=script, label="Help"),
                DisplayMessageAction(url=f"{page} c", label="Help"),
                DisplayMessageAction(url=page + "c" * 2000, label="Help"),
            )
        )
    }
    health = Health()
    settle(health, changed(messages=messages), 0.0)
    assert [w.text for w in health.shown] == [f"Text Help: {page}", "Text", "Text", "Text"]
    shown = health_tree(health.shown)["Warnings"]
    assert isinstance(shown, dict)
    first, second = shown[f"{CONTROL}0"], shown[f"{CONTROL}1"]
    assert (first["Text"], first["PrimaryAction"]) == ("Text", {"URL": page, "Label": "Help"})
    assert "PrimaryAction" not in second


@given(codes=st.sets(st.sampled_from(sorted(BROKEN))), start=st.floats(0, 1e6))
def test_any_mixture_settles_and_clears(codes: set[str], start: float) -> None:
    """Whatever is wrong at once; what shows never depends on what shows."""
    health = Health()
    facts: dict[str, object] = {}
    for code in sorted(codes):
        facts |= BROKEN[code][0]
    now = settle(health, changed(**facts), start)
    visible = set(shown(health))
    for warning in health.shown:
        assert visible.isdisjoint(warning.what.depends_on)
    settle(health, FINE, now)
    assert not health.shown


@pytest.mark.parametrize("left", [None, -1.0, 0.0, 4 * 86_400.0])
def test_no_word_of_a_login_that_lasts(left: float | None) -> None:
    """Nor of one that has ended: the state says so."""
    assert KEY_ENDS not in conditions(changed(key_left=left))
