"""``tnet switch``: the list of accounts, and which one is meant."""

import json

import pytest
from tests.support.tnet import Daemon

from tailnet.agent.backend.loginprofile import LoginProfile, NetworkProfile
from tailnet.agent.tailcfg.node import UserID, UserProfile


def two_accounts(daemon: Daemon) -> None:
    """One with a nickname, in use, and one without."""
    lab = NetworkProfile(domain_name="lab.ts.net", display_name="The lab")
    alice, bob = (UserProfile(id=UserID(n), login_name=f"{n}@example.com") for n in (1, 2))
    daemon.backend.accounts = [
        LoginProfile(id="3f2a", name="work", user_profile=alice, node_id="a", network_profile=lab),
        LoginProfile(id="00ff", name="2@example.com", user_profile=bob, node_id="b"),
    ]
    daemon.backend.chosen = "3f2a"
    daemon.state("Running", have_node_key=True)


def test_the_list_of_accounts(daemon: Daemon) -> None:
    """A table for people, JSON for programs."""
    two_accounts(daemon)
    assert daemon.run("switch", "--list").output.splitlines() == [
        "ID    Tailnet  Account",
        "3f2a  The lab  work*",
        "00ff  -        2@example.com",
    ]
    assert json.loads(daemon.run("switch", "--list", "--json").output)[0] == {
        "id": "3f2a",
        "nickname": "work",
        "tailnet": "The lab",
        "account": "1@example.com",
        "selected": True,
    }


@pytest.mark.parametrize("name", ["3f2a", "lab.ts.net", "work", "1@example.com", "The lab"])
def test_an_account_has_many_names(daemon: Daemon, name: str) -> None:
    """Any of them chooses it; the one in use stays."""
    two_accounts(daemon)
    assert daemon.run("switch", name).output == "Already on account 'work'.\n"
    daemon.backend.chosen = "00ff"
    result = daemon.run("switch", name)
    assert (result.exit_code, result.output) == (0, "Switching to account 'work'\nSuccess.\n")
    assert daemon.backend.chosen == "3f2a"


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        ("NeedsLogin", 0, "To log in, run:\n  tnet up\n"),
        ("Stopped", 1, "that account is disconnected; connect with: tnet up\n"),
        ("NeedsMachineAuth", 1, "this machine is not approved yet in that tailnet\n"),
    ],
)
def test_switching_says_how_it_went(daemon: Daemon, state: str, code: int, said: str) -> None:
    """As soon as that is settled."""
    two_accounts(daemon)
    daemon.state(state)
    result = daemon.run("switch", "00ff")
    assert result.exit_code == code
    assert (result.output + result.stderr).endswith(said)


def test_removing_an_account(daemon: Daemon) -> None:
    """By any of its names."""
    two_accounts(daemon)
    assert daemon.run("switch", "remove", "2@example.com").output == ""
    assert ("delete", "00ff") in daemon.backend.calls
    result = daemon.run("switch", "remove", "nobody")
    assert (result.exit_code, result.stderr) == (
        1,
        "no account is called 'nobody'; see: tnet switch --list\n",
    )
    for words in ((), ("a", "b"), ("remove", "a", "b"), ("--list", "a")):
        assert daemon.run("switch", *words).exit_code == 2
