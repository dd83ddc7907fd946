"""One machine, two accounts of two control servers: the other one takes over without a restart.

::

    h1 ── bridge: two times control, DERP, STUN ── h2   (first tailnet)
                                                 ── h3, h4   (second tailnet)
"""

import json
from typing import Any

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until
from integration.test_nothing_left import configuration

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]

ROUNDS = 10
SECOND = "second.example"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h2 in one tailnet, h3 and h4 in the other; h1 has a daemon and no account."""
    lab = make_lab(flat("h1", "h2", "h3", "h4"))
    other = lab.start_another_tailnet(SECOND)
    for name in ("h3", "h4"):
        lab.hosts[name].login_server = other
    lab.join("h2")
    lab.join("h3")
    lab.join("h4")
    lab.hosts["h1"].start()
    return lab


def accounts(host: Host) -> list[dict[str, Any]]:
    """``tnet switch --list --json``."""
    listed: list[dict[str, Any]] = json.loads(host.tnet("switch", "--list", "--json").stdout)
    return listed


def selected(host: Host) -> str:
    """The nickname of the account in use."""
    return next((a["nickname"] for a in accounts(host) if a["selected"]), "")


def login(host: Host, server: str, nickname: str) -> None:
    """``tnet login``."""
    host.tnet(
        "login",
        f"--login-server={server}",
        f"--auth-key={AUTH_KEY}",
        f"--nickname={nickname}",
        "--hostname=h1",
    )


def settled(host: Host, there: Host) -> dict[str, list[str]]:
    """Rules, routes, addresses and firewall, once a peer is reached directly."""
    host.wait_running()
    until("a direct path", lambda: host.ping_os(there.ipv4, count=1, wait=1).received == 1, 15)
    return configuration(host)


def test_switching_back_and_forth(lab: Lab) -> None:
    """Each time its peers answer, the others' are gone, and the kernel's tables are as before."""
    one, two, three = (lab.hosts[name] for name in ("h1", "h2", "h3"))
    login(one, two.login_server, "home")
    login(one, three.login_server, "work")
    assert [(a["nickname"], a["selected"]) for a in accounts(one)] == [
        ("work", True),
        ("home", False),
    ]
    assert {a["tailnet"] for a in accounts(one)} == {"lab.ts.net", SECOND}
    seen: dict[str, dict[str, list[str]]] = {}
    own: dict[str, str] = {}
    for number in range(2 * ROUNDS):
        name, there, peers = [("home", two, {"h2"}), ("work", three, {"h3", "h4"})][number % 2]
        said = one.tnet("switch", name)
        assert said.stdout == f"Switching to account '{name}'\nSuccess.\n"
        assert selected(one) == name
        one.wait_peers(peers)
        now = settled(one, there)
        assert seen.setdefault(name, now) == now
        own[name] = f" {one.ipv4}/32 "
    for name, other in (("home", "work"), ("work", "home")):
        addresses = "\n".join(seen[name]["ip -o address"])
        assert own[name] in addresses
        assert own[other] not in addresses
    assert one.running.returncode is None


def test_a_restarted_daemon_uses_the_account_of_before(lab: Lab) -> None:
    """Also one that was killed."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    one.tnet("switch", "home")
    one.kill9()
    one.start()
    one.wait_running()
    assert selected(one) == "home"
    assert one.ping_os(two.ipv4).received


def test_another_server_is_refused_while_connected(lab: Lab) -> None:
    """As upstream does; ``tnet login`` is the way."""
    one, three = lab.hosts["h1"], lab.hosts["h3"]
    refused = one.tnet("up", f"--login-server={three.login_server}", check=False)
    assert (refused.returncode, refused.stderr) == (
        1,
        "can't change --login-server without --force-reauth\n",
    )
    assert selected(one) == "home"


def test_nicknames(lab: Lab) -> None:
    """Can be changed, and are not given twice."""
    one = lab.hosts["h1"]
    one.tnet("set", "--nickname=house")
    assert selected(one) == "house"
    refused = one.tnet("set", "--nickname=work", check=False)
    assert refused.returncode == 1
    assert "already in use" in refused.stderr
    one.tnet("set", "--nickname=home")


def test_remove_and_logout(lab: Lab) -> None:
    """What is removed is gone; what is left can be used."""
    one, three = lab.hosts["h1"], lab.hosts["h3"]
    one.tnet("switch", "remove", "work")
    assert [a["nickname"] for a in accounts(one)] == ["home"]
    login(one, three.login_server, "again")
    one.tnet("logout")
    assert [(a["nickname"], a["selected"]) for a in accounts(one)] == [("home", False)]
    assert one.status()["BackendState"] == "NeedsLogin"
    assert one.tnet("switch", "home").stdout.endswith("Success.\n")
    one.tnet("logout")
    assert accounts(one) == []
