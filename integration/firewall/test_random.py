"""Whatever rules were wished before: there are those of the last wish, as if it had been the first.

More examples: ``FUZZ_EXAMPLES=2000 pytest --timeout=0 integration/firewall/test_random.py``.
"""

import asyncio
import os
import re
import shutil
import subprocess
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.conftest import cannot
from integration.firewall.network import OWN, OWN6, TUN, ruleset, said
from tests.support.platform_netns import private_network

from tailnet.platform.interface import ExitGuard, FirewallConfig, Guard, NetfilterMode
from tailnet.platform.linux.nft.firewall import LinuxFirewall, remove

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

LOCAL = st.sampled_from([ip_network(net) for net in ("10.0.0.0/8", "fe80::/10", "224.0.0.0/24")])
CONFIGS = st.builds(
    FirewallConfig,
    mode=st.sampled_from(NetfilterMode),
    addrs=st.frozensets(st.sampled_from([ip_address(OWN), ip_address(OWN6)])),
    ports=st.frozensets(st.sampled_from([41641, 41642, 3478])),
    snat=st.booleans(),
    stateful=st.booleans(),
    cgnat_drop=st.booleans(),
    guard=st.none() | st.builds(Guard, st.frozensets(LOCAL)),
    exit_guard=st.none() | st.builds(ExitGuard, st.booleans()),
)
# What other programs do, in vain where it is not there.
DAMAGE = (
    "nft delete table inet tailnetd",
    "nft delete table inet tailnetd-guard",
    "nft delete table inet tailnetd-exit",
    "nft flush chain ip filter ts-input",
    "iptables -D FORWARD -j ts-forward",
    "ip6tables -F INPUT",
    "iptables-save | iptables-restore",
)


def made_by_iptables() -> None:
    """The chains of a host whose firewall it is, with rules of its own."""
    for program in ("iptables", "ip6tables"):
        for chain in ("INPUT", "FORWARD"):
            said(program, "-A", chain, "-i", "eth7", "-j", "DROP")
        said(program, "-t", "nat", "-A", "POSTROUTING", "-o", "eth7", "-j", "RETURN")
        said(f"{program}-restore", feed=said(f"{program}-save"))


def rules() -> list[str]:
    """Chain by chain; one that was made later is listed later, which means nothing.

    ``nft`` says "masquerade" of iptables' target or, in the same place, does not: it is left out.
    """
    table, found = "", []
    for block in re.split(r"\n(?=\tchain |table )", ruleset().replace(" masquerade", " ")):
        table = block if block.startswith("table ") else table
        found.append(f"{table.splitlines()[0]} {block.strip().rstrip('}').strip()}")
    return sorted(found)


def spoil(lines: list[str]) -> None:
    """As other programs do."""
    for line in lines:
        subprocess.run(["sh", "-c", line], capture_output=True, timeout=10, check=False)


async def end_of(history: list[FirewallConfig], damage: list[str]) -> list[str]:
    """Of all these wishes, in one life of a daemon; the rules then."""
    wall = LinuxFirewall(TUN)
    for config in history:
        await wall.apply(config)
        spoil(damage)
    if damage:
        await wall.apply(history[-1])
    found = rules()
    assert await wall.intact()
    await wall.down()
    await remove(guard=True)
    return found


@given(
    st.lists(CONFIGS, min_size=1, max_size=4),
    st.lists(st.sampled_from(DAMAGE), max_size=2, unique=True),
)
@settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "8")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_last_rules_are_had_as_if_they_were_the_first(
    history: list[FirewallConfig], damage: list[str]
) -> None:
    """Where iptables has its chains; other programs may remove some of ours in between."""
    if shutil.which("iptables-nft") is None:
        cannot("needs iptables")
    with private_network():
        made_by_iptables()
        before = rules()
        found = asyncio.run(end_of(history, damage))
        if "ip6tables -F INPUT" not in damage:
            assert rules() == before
    with private_network():
        made_by_iptables()
        if "ip6tables -F INPUT" in damage:  # with what is theirs
            said("ip6tables", "-F", "INPUT")
        assert found == asyncio.run(end_of(history[-1:], []))
