"""``tnet exit-node``: the list by place, the suggestion, and the switch."""

import msgspec
from tests.support.tnet import BOX, RUNNING, Daemon

from tailnet.agent.localapi.schema.status import PeerStatus

OSLO = {"Country": "Norway", "CountryCode": "NO", "City": "Os\x1blo"}


def offering(daemon: Daemon, **nodes: PeerStatus) -> None:
    """These peers, all of them exit nodes."""
    peers = {
        f"nodekey:{name}": msgspec.structs.replace(
            node, exit_node_option=True, dns_name=f"{name}.x.ts.net."
        )
        for name, node in nodes.items()
    }
    daemon.backend.about = msgspec.structs.replace(RUNNING, peer=peers)


def test_the_list_has_places(daemon: Daemon) -> None:
    """And can be narrowed to a country, by name or code."""
    far = msgspec.structs.replace(BOX, location=OSLO)
    offering(daemon, box=msgspec.structs.replace(BOX, exit_node=True), far=far)
    lines = daemon.run("exit-node", "list").stdout.splitlines()
    assert lines[:3] == [
        "IP          HOSTNAME      COUNTRY  CITY  STATUS",
        "100.64.0.2  box.x.ts.net  -        -     selected",
        "100.64.0.2  far.x.ts.net  Norway   Oslo  -",
    ]
    for country in ("norway", "no"):
        narrowed = daemon.run("exit-node", "list", f"--filter={country}").stdout
        assert "far.x.ts.net" in narrowed
        assert "box.x.ts.net" not in narrowed
    none = daemon.run("exit-node", "list", "--filter=Chile")
    assert (none.exit_code, none.stderr) == (1, "no exit nodes found in 'Chile'\n")


def test_status_does_not_list_them_by_place(daemon: Daemon) -> None:
    """A provider has hundreds; the one in use is listed."""
    far = msgspec.structs.replace(BOX, location=OSLO)
    offering(daemon, far=far, used=msgspec.structs.replace(far, exit_node=True))
    shown = daemon.run("status").stdout
    assert "used" in shown
    assert "far" not in shown
    assert "tnet exit-node list" in shown


def test_without_a_suggestion_it_says_so(daemon: Daemon) -> None:
    """That is no failure."""
    result = daemon.run("exit-node", "suggest")
    assert (result.exit_code, result.stdout) == (0, "No exit node suggestion is available.\n")


def test_the_switch_remembers_which_it_was(daemon: Daemon) -> None:
    """Off and on again."""
    daemon.backend.current = msgspec.structs.replace(daemon.backend.current, exit_node_id="n2")
    assert daemon.run("exit-node", "disconnect").exit_code == 0
    assert daemon.backend.current.exit_node_id == ""
    assert daemon.run("exit-node", "connect").exit_code == 0
    assert daemon.backend.current.exit_node_id == "n2"
