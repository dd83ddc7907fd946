"""The firewall on a real kernel, among rules of other programs, with real packets.

host ── eth0 (veth) 192.0.2.2/24 ── far 192.0.2.1
     └─ tun0 (dummy of a TUN: nothing reads it)
"""

import asyncio
import errno
import re
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from integration.firewall.conftest import WALL, Daemon
from integration.firewall.network import TUN, nft, ruleset
from tests.support.platform_contract import FirewallContract
from tests.support.platform_netns import ip, private_network

from tailnet.platform.interface import Firewall, FirewallConfig, Guard, NetfilterMode, PlatformError
from tailnet.platform.linux.constants import BYPASS_MARK
from tailnet.platform.linux.nft import encode
from tailnet.platform.linux.nft.firewall import LinuxFirewall, remove
from tailnet.platform.linux.nft.guard import guard_table
from tailnet.platform.linux.nft.ruleset import own_table
from tailnet.platform.linux.nft.session import open_session
from tailnet.platform.linux.nft.syntax import Family, Jump, Table, rule

pytestmark = pytest.mark.netns


@pytest.fixture
def host() -> Iterator[None]:
    """A host with one neighbour."""
    with private_network():
        ip("link", "set", "lo", "up")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "far0")
        for name in ("eth0", "far0"):
            ip("link", "set", name, "up")
        ip("address", "add", "192.0.2.2/24", "dev", "eth0")
        ip("address", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
        yield


@pytest.fixture
def ufw(host: None) -> None:
    """What a firewall of the kind leaves in the conventional tables: drop, unless accepted."""
    for family in ("ip", "ip6"):
        nft("add", "table", family, "filter")
        for hook in ("input", "forward"):
            chain = f"{{ type filter hook {hook} priority 0; policy drop; }}"
            nft("add", "chain", family, "filter", hook.upper(), chain)
            nft("add", "rule", family, "filter", hook.upper(), "ct", "state", "invalid", "drop")


def listed(name: str) -> list[str]:
    """``nft``'s words for the rules of a table of ours."""
    text = nft("list", "table", "inet", name)
    text = re.sub(r' comment "[^"]*"| packets \d+ bytes \d+', "", text)
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not re.match(r"table|chain|type|}", line)]


TABLES = {"own": own_table(TUN, WALL), "guard": guard_table(TUN, Guard())}


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_nft_lists_what_was_meant(table: Table) -> None:
    """Another program's reading of the same bytes, rule by rule."""

    async def put() -> None:
        async with open_session() as kernel:
            await kernel.commit(list(encode.replace_table(table)))

    asyncio.run(put())
    wanted = [str(line) for chain in table.chains for line in chain.rules]
    assert [line.replace("ct state ! ", "ct state != ") for line in listed(table.name)] == wanted


@pytest.mark.usefixtures("host")
def test_where_nobody_filters_nothing_is_left_in_anybodys_table(daemon: Daemon) -> None:
    """Our own table is all there is, and it goes."""
    before = ruleset()
    daemon.apply()
    assert "table ip " not in ruleset()
    assert daemon.intact()
    daemon.down()
    assert ruleset() == before


@pytest.mark.usefixtures("ufw")
def test_a_firewall_that_drops_lets_the_tunnel_through_and_is_as_before_afterwards(
    daemon: Daemon,
) -> None:
    """Its policy stays ``drop``; our jumps come first, once, however often we apply."""
    before = ruleset()
    daemon.apply()
    first = ruleset()
    daemon.apply()
    assert ruleset().count("jump ts-input") == first.count("jump ts-input") == 2
    assert first.count("policy drop") == 4
    assert daemon.intact()
    daemon.down()
    assert ruleset() == before


@pytest.mark.usefixtures("ufw")
@pytest.mark.parametrize(
    "damage",
    [
        ("flush", "chain", "ip", "filter", "INPUT"),
        ("insert", "rule", "ip6", "filter", "FORWARD", "drop"),
        ("delete", "table", "inet", "tailnetd"),
        ("flush", "chain", "inet", "tailnetd", "post"),
        ("flush", "chain", "ip", "filter", "ts-input"),
    ],
    ids=["flushed", "displaced", "deleted", "emptied", "accepts-emptied"],
)
def test_damage_by_others_is_seen_and_repaired(daemon: Daemon, damage: tuple[str, ...]) -> None:
    """By the same ``apply``."""
    daemon.apply()
    nft(*damage)
    assert not daemon.intact()
    daemon.apply()
    assert daemon.intact()


@pytest.mark.usefixtures("host")
def test_after_a_flush_of_everything_the_rules_are_back(daemon: Daemon) -> None:
    """``nft flush ruleset`` is in many scripts."""
    daemon.apply()
    nft("flush", "ruleset")
    assert not daemon.intact()
    daemon.apply()
    assert daemon.intact()


@pytest.mark.usefixtures("ufw")
def test_a_transaction_that_fails_changes_nothing(daemon: Daemon) -> None:
    """All of it or none."""
    daemon.apply()
    before = ruleset()

    async def fail() -> None:
        async with open_session() as kernel:
            steps = list(encode.replace_table(own_table("other0", FirewallConfig())))
            bad = encode.add_rule(Family.INET, "tailnetd", "in", rule(Jump("nowhere")))
            await kernel.commit([*steps, bad])

    with pytest.raises(PlatformError, match="refused"):
        asyncio.run(fail())
    assert ruleset() == before


def sent(mark: int = 0, to: str = "192.0.2.1") -> bool:
    """Whether a datagram gets out."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            sock.sendto(b"x", (to, 9))
        except PermissionError:
            return False
        return True


@pytest.mark.usefixtures("host")
def test_the_guard_stops_everything_but_the_daemon_and_what_is_allowed(daemon: Daemon) -> None:
    """Both families; it outlives ``down``, and ends when told."""
    near = frozenset({ip_network("192.0.2.0/25")})
    ip("neighbour", "add", "192.0.2.200", "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    assert sent(to="192.0.2.200")
    daemon.apply(FirewallConfig(mode=NetfilterMode.OFF, guard=Guard(near)))
    daemon.down()
    assert not sent(to="192.0.2.200")
    assert not sent(to="2001:db8::9")
    assert sent(to="192.0.2.1")
    assert sent(mark=BYPASS_MARK, to="192.0.2.200")
    assert sent(to="127.0.0.1")
    asyncio.run(remove(guard=False))
    assert not sent(to="192.0.2.200")
    asyncio.run(remove(guard=True))
    assert sent(to="192.0.2.200")
    assert ruleset() == ""


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("rp_filter", ["0", "2"])
def test_a_lie_about_a_tailnet_address_is_dropped_and_the_truth_is_not(
    daemon: Daemon, rp_filter: str
) -> None:
    """What comes from the wire with such a source; not an answer to us, nor what others have."""
    for name in ("all", "eth0"):
        Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text(rp_filter)
    ip("netns", "add", "far")
    try:
        ip("link", "set", "far0", "netns", "far")
        ip("-n", "far", "link", "set", "far0", "up")
        ip("-n", "far", "address", "add", "192.0.2.1/24", "dev", "far0")
        for source in ("100.64.5.5", "100.115.92.5"):  # the second one is ChromeOS's
            ip("-n", "far", "address", "add", f"{source}/32", "dev", "far0")
            ip("route", "add", f"{source}/32", "dev", "eth0")
        assert comes_from("100.64.5.5")
        daemon.apply()
        assert not comes_from("100.64.5.5")
        assert comes_from("100.115.92.5")
        assert comes_from("192.0.2.1")
        ours = ["ping", "-c1", "-W2", "100.64.5.5"]
        assert subprocess.run(ours, capture_output=True, timeout=10, check=False).returncode == 0
    finally:
        ip("netns", "delete", "far")


@pytest.mark.usefixtures("host")
async def test_a_host_that_forbids_a_setting_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often the rules are applied; and again when it is forbidden again."""
    write_text = Path.write_text

    def forbidden(path: Path, text: str) -> int:
        if path.name == "src_valid_mark":
            raise OSError(errno.EROFS, "Read-only file system")
        return write_text(path, text)

    def told() -> int:
        return sum("src_valid_mark cannot be set: Read-only" in line for line in caplog.messages)

    firewall = LinuxFirewall(TUN)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", forbidden)
        for _ in range(3):
            await firewall.apply(WALL)
        assert told() == 1
    await firewall.apply(WALL)
    assert told() == 1
    monkeypatch.setattr(Path, "write_text", forbidden)
    await firewall.apply(WALL)
    assert told() == 2
    monkeypatch.undo()
    await firewall.down()


def comes_from(source: str) -> bool:
    """A ping from the wire with this source is answered."""
    words = ["ip", "netns", "exec", "far", "ping", "-c1", "-W1", "-I", source, "192.0.2.2"]
    return subprocess.run(words, capture_output=True, timeout=10, check=False).returncode == 0


@pytest.mark.usefixtures("ufw")
class TestLinuxFirewall(FirewallContract):
    """On a host where others filter."""

    @pytest.fixture
    def firewall(self) -> Firewall:
        """The real one."""
        return LinuxFirewall(TUN)

    def in_force(self, firewall: Firewall) -> object:
        """``nft``'s words, and the setting that goes with them."""
        mark = Path("/proc/sys/net/ipv4/conf/all/src_valid_mark").read_text()
        return sorted(ruleset().splitlines()), mark

    def flush(self, firewall: Firewall) -> None:
        """By a foreign program."""
        nft("flush", "ruleset")
