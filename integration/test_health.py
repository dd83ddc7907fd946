"""What befalls a real daemon, as ``tnet status`` tells of it, and that it tells no more afterwards.

``tests/agent/backend/test_ailments.py`` has the whole table, with the world played; here the world
is real.  Others are beside what they are about: the port in ``test_repair``, rules of others in
``test_foreign_rules`` and ``firewall/``, the kept map in ``test_without_control``, control itself
in ``test_control_faults``, the file in ``test_config_file``, Docker, firewall and names in
``test_containers`` and ``test_names_of_the_host``.
"""

import json
from collections.abc import Callable
from typing import NamedTuple

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.translator import UPLINK
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

PATIENCE = 20.0  # seconds; some are shown after ten

Do = Callable[[Lab, Host], object]


class Row(NamedTuple):
    """``text``: is in the health of ``tnet status`` after ``befall``, and not after ``cure``."""

    text: str
    befall: Do
    cure: Do


def tnet(*words: str) -> Do:
    """A command of the user of h1."""
    return lambda _lab, host: host.tnet(*words)


def other(*words: str) -> Do:
    """A command of the user of h2."""
    return lambda lab, _host: lab.hosts["h2"].tnet(*words)


def admin(do: str, **words: object) -> Do:
    """Something that a server does."""
    return lambda lab, _host: lab.admin(do, **words)


def link(state: str) -> Do:
    """The cable is pulled or put in; IPv6 addresses go with it."""
    return lambda _lab, host: host.exec("ip", "link", "set", UPLINK, state)


def sysctl(value: int) -> Do:
    """The host forwards packets, or does not."""
    return lambda _lab, host: host.exec("sysctl", "-qw", f"net.ipv4.ip_forward={value}")


def message(**fields: object) -> Do:
    """Control has something to tell."""
    return admin("push", name="h1", message=fields)


def both(*parts: Do) -> Do:
    """One after the other."""
    return lambda lab, host: [part(lab, host) for part in parts]


ALL = [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}]
OTHER_PIN = {
    "RegionID": 900,
    "Nodes": [
        {
            "Name": "900a",
            "RegionID": 900,
            "HostName": "10.99.0.1",
            "IPv4": "10.99.0.1",
            "DERPPort": 3340,
            "CertName": "sha256-raw:" + "0" * 64,
        }
    ],
}
ROWS = {
    "wantrunning-false": Row("turned off; turn it on with: tnet up", tnet("down"), tnet("up")),
    "ip-forwarding-off": Row(
        "sysctl",
        both(sysctl(0), tnet("set", "--advertise-routes=192.0.2.0/24")),
        tnet("set", "--advertise-routes="),
    ),
    "nosnat-with-advertised-exit-node": Row(
        "this machine is an exit node, but --snat-subnet-routes is off",
        tnet("set", "--advertise-exit-node", "--snat-subnet-routes=false"),
        tnet("set", "--advertise-exit-node=false", "--snat-subnet-routes"),
    ),
    "accept-routes-off": Row(
        "Some peers are advertising routes but --accept-routes is false",
        both(tnet("set", "--accept-routes=false"), other("set", "--advertise-routes=192.0.2.0/24")),
        both(other("set", "--advertise-routes="), tnet("set", "--accept-routes")),
    ),
    "invalid-packet-filter": Row(
        "the packet filter of the control server makes no sense; nothing is let in",
        admin("set-filter", rules=[{"SrcIPs": ["*"], "SrcBits": [8]}]),
        admin("set-filter", rules=ALL),
    ),
    "clock-wrong": Row(
        "the clock of this machine is 400 days ahead of the control server's",
        admin("restart-control", skew=-400 * 24.0),
        admin("restart-control", skew=0.0),
    ),
    "key-expires-soon": Row(
        "the login of this machine ends in ",
        admin("expire", name="h1", left=7200.0),
        admin("expire", name="h1", left=90 * 86400.0),
    ),
    "control-health": Row(
        "Quota: 3 of 3 machines",
        message(DisplayMessages={"quota": {"Title": "Quota", "Text": "3 of 3 machines"}}),
        message(DisplayMessages={"quota": None}),
    ),
    "no-derp-connection": Row(
        "the relay of region 900 cannot be reached",
        admin("stop-derp", region=900),
        admin("start-derp", region=900),
    ),
    "derp-region-error": Row(
        "region 900: the certificate is not the pinned one",
        message(DERPMap={"Regions": {"900": OTHER_PIN}, "OmitDefaultRegions": True}),
        admin("restart-control"),
    ),
    "login-state": Row(
        "logged out; log in with: tnet up",
        tnet("logout"),
        lambda _lab, host: host.up(AUTH_KEY),
    ),
    "network-status": Row("no network: this machine has no address", link("down"), link("up")),
}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h1, which is looked at, and h2."""
    lab = make_lab(flat("h1", "h2"))
    lab.join()
    lab.wait_complete()
    until("all to be well", lambda: not health(lab.hosts["h1"]), PATIENCE)
    return lab


def health(host: Host) -> str:
    """What people read."""
    return "\n".join(json.loads(host.tnet("status", "--json").stdout)["Health"] or ())


@pytest.mark.parametrize("code", ROWS)
def test_an_ailment_is_told_of_until_it_is_cured(lab: Lab, code: str) -> None:
    """In the words of the table, and in ``tnet status`` for people too."""
    host, row = lab.hosts["h1"], ROWS[code]
    assert row.text not in health(host)
    row.befall(lab, host)
    try:
        until(f"the words of {code}", lambda: row.text in health(host), PATIENCE, every=0.3)
        if host.status()["BackendState"] == "Running":  # else that it is not, is what is said
            assert row.text in " ".join(host.tnet("status").stdout.split())
    finally:
        row.cure(lab, host)
    until(f"{code} to be over", lambda: not health(host), PATIENCE, every=0.3)
