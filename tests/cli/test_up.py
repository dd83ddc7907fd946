"""Which way ``tnet up`` goes."""

from typing import Any

import pytest

from tailnet.agent.backend.prefs import Prefs, to_json
from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.authkey import KeyInputs, resolve
from tailnet.cli.commands.up import Asked, decide
from tailnet.cli.errors import Failure
from tailnet.cli.login import UpPlan

URL = "https://controlplane.tailscale.com"
USED = Prefs(control_url=URL, logged_out=False)


def asked(
    auth_key: str = "",
    *,
    reset: bool = False,
    force_reauth: bool = False,
    **wishes: object,
) -> Asked:
    """Flags by the names of their prefs."""
    flags = {
        "RouteAll": "accept-routes",
        "Hostname": "hostname",
        "ControlURL": "login-server",
        "AdvertiseTags": "advertise-tags",
        "OperatorUser": "operator",
    }
    given = {flags[name]: str(value).lower() for name, value in wishes.items()}
    given |= {name: "true" for name in ("reset",) if reset}
    given |= {name: "true" for name in ("force-reauth",) if force_reauth}
    return Asked(
        wishes=wishes, given=given, auth_key=auth_key, reset=reset, force_reauth=force_reauth
    )


def way(state: str, what: Asked, prefs: Prefs = USED, *, logged_in: bool = True) -> UpPlan:
    """Decide in a state."""
    status = Status(backend_state=state, have_node_key=logged_in)
    return decide(what, status, to_json(prefs))


def test_while_running_prefs_are_only_edited() -> None:
    """What was mentioned, and nothing else; there is nothing to wait for."""
    plan = way("Running", asked(RouteAll=True))
    assert plan == UpPlan(edit={"RouteAll": True, "WantRunning": True}, start=False, wait=False)


def test_without_flags_it_only_connects() -> None:
    """When logged in."""
    plan = way("Stopped", asked())
    assert (plan.edit, plan.start, plan.wait) == ({"WantRunning": True}, False, True)


@pytest.mark.parametrize("state", ["NeedsLogin", "NoState"])
def test_a_first_login_without_key_asks_for_a_url(state: str) -> None:
    """The server is the default one."""
    plan = way(state, asked(), Prefs(), logged_in=False)
    assert (plan.start, plan.interactive, plan.edit["ControlURL"]) == (True, True, URL)


def test_a_first_login_with_key_asks_for_nothing() -> None:
    """All settings are sent."""
    plan = way("NeedsLogin", asked("key", RouteAll=True), Prefs(), logged_in=False)
    assert (plan.start, plan.interactive, plan.auth_key) == (True, False, "key")
    assert plan.edit["RouteAll"] is True
    assert plan.edit["CorpDNS"] is True


def test_a_new_tag_needs_a_login() -> None:
    """Tags belong to the registration."""
    assert way("Running", asked(AdvertiseTags=["tag:a"])).start


def test_force_reauth_waits_for_a_new_key() -> None:
    """With a URL, or with a key."""
    plan = way("Running", asked(force_reauth=True))
    assert (plan.start, plan.interactive, plan.fresh_key) == (True, True, True)
    assert way("Running", asked("key", force_reauth=True)).interactive


def test_the_server_cannot_change_while_connected() -> None:
    """Unless a new login is wanted anyway; synonyms of the default are no change."""
    with pytest.raises(Failure, match="can't change --login-server without --force-reauth"):
        way("Running", asked(ControlURL="https://other.example"))
    assert way("Running", asked(ControlURL="https://other.example", force_reauth=True)).start
    assert not way("Running", asked(ControlURL="https://login.tailscale.com/")).start


def test_nothing_is_reset_silently() -> None:
    """The message is a command line that can be run as it is."""
    prefs = Prefs(
        control_url=URL, route_all=True, corp_dns=False, advertise_routes=("192.0.2.0/24",)
    )
    with pytest.raises(Failure) as caught:
        way("Running", asked(Hostname="a b"), prefs)
    assert caught.value.message == (
        "Error: changing settings via 'tnet up' requires mentioning all\n"
        "non-default flags. To proceed, either re-run your command with --reset or\n"
        "use the command below to explicitly mention the current value of\n"
        "all non-default settings:\n"
        "\n"
        "\ttnet up --hostname='a b' --accept-dns=false --accept-routes "
        "--advertise-routes=192.0.2.0/24\n"
    )


def test_a_bare_up_keeps_everything() -> None:
    """Also when it has to log in anew."""
    prefs = Prefs(control_url="https://c.example", route_all=True)
    plan = way("NeedsLogin", asked(), prefs)
    assert (plan.start, plan.interactive) == (True, True)
    assert (plan.edit["ControlURL"], plan.edit["RouteAll"]) == ("https://c.example", True)


def test_reset_resets() -> None:
    """Everything that was not mentioned."""
    prefs = Prefs(control_url=URL, route_all=True, hostname="old")
    plan = way("Running", asked(reset=True, Hostname="new"), prefs)
    assert (plan.edit["RouteAll"], plan.edit["Hostname"], plan.start) == (False, "new", False)


def test_before_the_first_login_there_is_nothing_to_guard() -> None:
    """Prefs without a server were never used."""
    assert way("NeedsLogin", asked("key"), Prefs(route_all=True), logged_in=False).start


def test_an_operator_who_runs_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mention."""
    monkeypatch.setenv("USER", "alice")
    prefs = Prefs(control_url=URL, operator_user="alice")
    assert way("NeedsLogin", asked("key"), prefs).edit["OperatorUser"] == "alice"
    monkeypatch.setenv("USER", "bob")
    with pytest.raises(Failure, match="--operator=alice"):
        way("NeedsLogin", asked("key"), prefs)


def test_auth_keys_come_from_files(tmp_path: Any) -> None:  # noqa: ANN401
    """With ``file:``."""
    (tmp_path / "key").write_text(" tskey-auth-x\n")
    (tmp_path / "empty").write_text("\n")
    assert resolve(KeyInputs(f"file:{tmp_path}/key"), {}) == "tskey-auth-x"
    for name in ("missing", "empty"):
        with pytest.raises(Failure, match="cannot read the auth key"):
            resolve(KeyInputs(f"file:{tmp_path}/{name}"), {})
