"""Daemons that start while the control server is away use the network map of before.

Control stopped, every daemon killed and started again: peers are reachable, through the relay and
directly, although each has a disco key that control could tell nobody of.
"""

from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

PATIENCE = 20.0  # seconds


def restart_without_control(lab: Lab) -> None:
    """All daemons die and come back; control is stopped before."""
    lab.admin("stop-control")
    for host in lab.hosts.values():
        host.kill9()
    for host in lab.hosts.values():
        host.start()
    for host in lab.hosts.values():
        host.wait_running(PATIENCE)


def keep_maps(lab: Lab) -> None:
    """Wait until every daemon has the others on disk."""
    names, hosts = set(lab.hosts), lab.hosts.values()

    def kept() -> bool:
        maps = ["".join(p.read_text() for p in h.statedir.glob("*.netmap")) for h in hosts]
        return all(f'"{name}.' in text for name in names for text in maps)

    until("maps on disk", kept, PATIENCE)


def health(lab: Lab, name: str) -> str:
    """All problems of a host, as status has them."""
    return "\n".join(lab.hosts[name].status()["Health"] or ())


@pytest.fixture(scope="module")
def direct(make_lab: MakeLab) -> Lab:
    """Three hosts that reach each other directly."""
    lab = make_lab(flat("h1", "h2", "h3"))
    lab.join()
    lab.wait_complete()
    return lab


def test_peers_are_reached_through_the_relay_without_control(relayed: Lab) -> None:
    """And when it is back, all is current again."""
    one, two = relayed.hosts["h1"], relayed.hosts["h2"]
    keep_maps(relayed)
    restart_without_control(relayed)
    until("a ping", lambda: one.ping_os(two.ipv4, count=1, wait=1).lost == 0, PATIENCE)
    until(
        "a word about the age of the map",
        lambda: "using a network map from" in health(relayed, "h1"),
        PATIENCE,
    )
    relayed.admin("start-control")
    until("both to be back", lambda: relayed.online() == {"h1", "h2"}, 60)
    until("the word to go", lambda: "using a network map" not in health(relayed, "h1"), PATIENCE)
    assert one.ping_os(two.ipv4).lost == 0


def test_peers_are_reached_directly_without_control(direct: Lab) -> None:
    """They tell each other their new disco keys; one that was removed meanwhile goes at once."""
    one, two, three = (direct.hosts[name] for name in ("h1", "h2", "h3"))
    keep_maps(direct)
    restart_without_control(direct)
    until("a ping", lambda: one.ping_os(two.ipv4, count=1, wait=1).lost == 0, PATIENCE)

    def is_direct() -> bool:
        one.ping_os(two.ipv4, count=1, wait=1)
        peers = one.status()["Peer"].values()
        return any(p["HostName"] == "h2" and p["CurAddr"] for p in peers)

    until("a direct path", is_direct, PATIENCE)
    assert {p["HostName"] for p in one.status()["Peer"].values()} == {"h2", "h3"}
    three.kill9()
    direct.admin("start-control")
    direct.admin("delete", name="h3")
    until(
        "the removed peer to go",
        lambda: {p["HostName"] for p in one.status()["Peer"].values()} == {"h2"},
        60,
    )
    assert one.ping_os(two.ipv4).lost == 0


def test_no_map_is_left_where_none_is_wanted(direct: Lab) -> None:
    """``tnet set --keep-network-map=false``: gone at once and at the next start; on again, back."""
    one = direct.hosts["h1"]

    def maps() -> list[Path]:
        return list(one.statedir.glob("*.netmap"))

    until("a map", lambda: maps() != [], PATIENCE)
    one.tnet("set", "--keep-network-map=false")
    assert maps() == []
    one.kill9()
    one.start()
    one.wait_running(PATIENCE)
    assert maps() == []
    one.tnet("set", "--keep-network-map")
    until("a map again", lambda: maps() != [], PATIENCE)
