"""Beside the real ufw and firewalld, and the tables that Docker makes.

For each: what its rules stop without ours, what gets through with them, and that its own are the
same before, during and after.
"""

import asyncio
import re
import shutil
from collections.abc import Iterator

import pytest
from integration.conftest import cannot
from integration.firewall.conftest import Daemon
from integration.firewall.network import ALL, NONE, TUN, Network, ruleset, said
from integration.firewall.shell import Shell

from tailnet.platform.interface import NetfilterMode

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

OFF, NODIVERT, ON = NetfilterMode

DOCKER = """*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:DOCKER -
:DOCKER-ISOLATION-STAGE-1 -
:DOCKER-ISOLATION-STAGE-2 -
:DOCKER-USER -
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"""


def needs(program: str) -> None:
    """Skip where it is not installed; in CI it is."""
    if shutil.which(program) is None:
        cannot(f"needs {program}")


@pytest.fixture
def shell(net: Network) -> Iterator[Shell]:
    """Of the router."""
    del net
    with Shell() as made:
        yield made


def theirs() -> str:
    """The rules of all but us."""
    text = re.sub(r"(?ms)^table inet tailnetd \{.*?^}\n", "", ruleset())
    text = re.sub(r"(?ms)^\tchain ts-\w+ \{.*?^\t}\n\n?", "", text)
    lines = [line for line in text.splitlines() if "jump ts-" not in line]
    return re.sub(r"\n+", "\n", "\n".join(lines))


def listable() -> None:
    """``iptables`` understands what is there."""
    for program in ("iptables-save", "ip6tables-save"):
        assert "incompatible" not in said(program)


def test_ufw_lets_the_tunnel_through(net: Network, shell: Shell, daemon: Daemon) -> None:
    """Also after it has loaded its rules again; its own are as they were."""
    needs("ufw")
    shell.ufw()
    before, own = ruleset(), theirs()
    assert net.flows() == NONE
    daemon.switch(ON, stateful=False)
    assert net.flows() == ALL
    assert theirs() == own
    listable()
    shell.run("ufw reload")
    assert daemon.intact()
    assert net.flows() == ALL
    assert "Status: active" in shell.run("ufw status")
    daemon.down()
    assert ruleset() == before
    assert net.flows() == NONE


def test_docker_drops_what_is_forwarded_and_the_tunnel_is_not(net: Network, daemon: Daemon) -> None:
    """By its policy, which stays; without our rules the subnet is not reached."""
    needs("iptables")
    for program in ("iptables", "ip6tables"):
        text = DOCKER if program == "iptables" else re.sub(r".* 172\..*\n|.* 127\..*\n", "", DOCKER)
        said(f"{program}-restore", feed=text)
    before, own = ruleset(), theirs()
    daemon.switch(OFF)
    assert net.flows() == ALL | {"peer to subnet": False}
    daemon.switch(ON)
    assert net.flows() == ALL
    assert theirs() == own
    assert own.count("policy drop") == 2
    listable()
    said("iptables", "-t", "mangle", "-A", "OUTPUT", "-j", "RETURN")  # whose chain is of type route
    listable()
    said("nft", "delete", "table", "ip", "mangle")
    daemon.down()
    assert ruleset() == before


def test_firewalld_decides_after_us_and_people_are_told(
    net: Network, shell: Shell, daemon: Daemon
) -> None:
    """Until it is told of the tunnel, in the words that the warning gives."""
    needs("firewalld")
    shell.firewalld()
    before, own = ruleset(), theirs()
    daemon.switch(ON)
    assert net.flows() == NONE
    assert theirs() == own
    told = daemon.wall.obstacle
    assert told.startswith("firewalld runs")
    shell.run(told.partition("it can: ")[2])
    assert daemon.intact()
    assert daemon.wall.obstacle == ""
    assert net.flows() == ALL | {"our port": False}
    shell.run("firewall-cmd -q --add-port=41641/udp")
    assert net.flows() == ALL
    shell.run("firewall-cmd -q --permanent --zone=trusted --remove-interface=tun0")
    shell.run("firewall-cmd -q --reload")
    assert daemon.intact()
    assert daemon.wall.obstacle == told
    assert theirs() == own
    daemon.down()
    assert ruleset() == before


def test_a_change_by_firewalld_is_heard(net: Network, shell: Shell, daemon: Daemon) -> None:
    """So that the warning goes when it has been heeded."""
    needs("firewalld")
    del net
    shell.firewalld()
    daemon.switch(ON)

    async def heard() -> None:
        listening = daemon.wall.disturbances()
        waiting = asyncio.ensure_future(anext(listening))
        await asyncio.sleep(0)  # it listens from here on
        shell.run(f"firewall-cmd -q --zone=trusted --add-interface={TUN}")
        await asyncio.wait_for(waiting, 5)

    asyncio.run(heard())
