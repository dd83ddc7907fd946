"""Processes that outlive the one that started them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.support.dns import KINDS, look, make
from tests.support.platform_contract import ALL_NAMES

from tailnet.platform.interface import NO_DNS, PlatformError
from tailnet.platform.linux.dns import caretaker as caretaker_module
from tailnet.platform.linux.dns.caretaker import Caretaker
from tailnet.platform.linux.dns.configurator import LinuxDns

DAEMON = """
import asyncio, sys
from ipaddress import ip_address
from pathlib import Path
from tailnet.platform.interface import DnsConfig
from tailnet.platform.linux.dns.caretaker import Caretaker
from tailnet.platform.linux.dns.configurator import LinuxDns

async def main():
    root = Path(sys.argv[1])
    dns = LinuxDns("tun0", root=root, caretaker=Caretaker(root))
    await dns.up()
    await dns.apply(DnsConfig((ip_address("100.100.100.100"),)))
    print("applied", flush=True)
    if sys.argv[2] == "stop":
        await dns.down()
        return
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def until(condition: Callable[[], bool]) -> None:
    """Other processes do not tell."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bus, no programs but a shell."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus")
    monkeypatch.setenv("PATH", "/bin:/usr/bin")


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Of every kind of host."""
    make(tmp_path, request.param)
    return tmp_path


def daemon(root: Path, what: str) -> subprocess.Popen[str]:
    """One that has applied a configuration."""
    process = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(root), what], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "applied\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Collect it."""
    process.wait(10)
    if process.stdout is not None:
        process.stdout.close()


@pytest.fixture
def killed(root: Path) -> tuple[Path, dict[str, object]]:
    """A host whose daemon was killed just now, and how it was before."""
    before = look(root)
    process = daemon(root, "stay")
    assert look(root) != before
    process.kill()
    end(process)
    return root, before


@SLOW
async def test_a_killed_daemon_is_cleaned_up_after(killed: tuple[Path, dict[str, object]]) -> None:
    """Soon, and everything is as before."""
    root, before = killed
    await until(lambda: look(root) == before)


@SLOW
async def test_a_daemon_that_stops_leaves_nothing_to_do(tmp_path: Path) -> None:
    """And nobody waits any more."""
    make(tmp_path, "file")
    before = look(tmp_path)
    process = daemon(tmp_path, "stop")
    end(process)
    assert process.returncode == 0
    assert look(tmp_path) == before
    assert caretakers(tmp_path) == []


def caretakers(root: Path) -> list[int]:
    """Processes that wait for a daemon of this host."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"sh" and os.fsencode(root) in words:
                found.append(int(entry.name))
    return found


def has_ended(pid: int) -> bool:
    """Also if nobody has collected it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@SLOW
async def test_a_new_daemon_is_in_charge(tmp_path: Path) -> None:
    """What it applies is not undone by the caretaker of one that died before."""
    make(tmp_path, "file")
    before = look(tmp_path)
    process = daemon(tmp_path, "stay")
    (waiting,) = caretakers(tmp_path)
    os.kill(waiting, signal.SIGSTOP)
    process.kill()
    end(process)
    heir = LinuxDns("tun0", root=tmp_path, caretaker=Caretaker(tmp_path))
    await heir.up()
    assert look(tmp_path) == before
    await heir.apply(ALL_NAMES)
    applied = look(tmp_path)
    os.kill(waiting, signal.SIGCONT)
    await until(lambda: has_ended(waiting))
    assert look(tmp_path) == applied
    await heir.apply(NO_DNS)
    await heir.down()
    assert look(tmp_path) == before
    assert caretakers(tmp_path) == []


def two_of(root: Path) -> tuple[LinuxDns, LinuxDns]:
    """What two daemons of one host have."""
    one, other = (LinuxDns(name, root=root, caretaker=Caretaker(root)) for name in ("tun0", "tun1"))
    return one, other


@SLOW
async def test_a_second_daemon_of_a_host_leaves_names_to_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, takes nothing back, and has its turn when the first has gone."""
    monkeypatch.setattr(caretaker_module, "_PATIENCE", 0.1)
    make(tmp_path, "file")
    before = look(tmp_path)
    first, second = two_of(tmp_path)
    await first.up()
    await first.apply(ALL_NAMES)
    applied = look(tmp_path)
    with pytest.raises(PlatformError, match="another tailnetd configures"):
        await second.up()
    with pytest.raises(PlatformError, match="tnet set --accept-dns=false"):
        await second.apply(ALL_NAMES)
    await second.apply(NO_DNS)  # as it is with --accept-dns=false
    assert look(tmp_path) == applied
    await first.down()
    assert look(tmp_path) == before
    await second.apply(ALL_NAMES)
    assert look(tmp_path) != before
    await second.down()
    assert look(tmp_path) == before
    assert caretakers(tmp_path) == []


async def test_a_second_daemon_that_ends_takes_nothing_from_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it wanted."""
    monkeypatch.setattr(caretaker_module, "_PATIENCE", 0.1)
    make(tmp_path, "file")
    first, second = two_of(tmp_path)
    await first.up()
    await first.apply(ALL_NAMES)
    applied = look(tmp_path)
    with pytest.raises(PlatformError):
        await second.up()
    await second.down()
    assert look(tmp_path) == applied
    await first.down()


async def test_one_that_is_given_up_while_it_begins_leaves_nobody(tmp_path: Path) -> None:
    """At any moment; one that was hired before is still dismissed."""
    before = psutil.Process().children()
    for turns in range(8):
        caretaker = Caretaker(tmp_path)
        hiring = asyncio.create_task(caretaker.hire())
        for _ in range(turns):
            await asyncio.sleep(0)
        hiring.cancel()
        done, _ = await asyncio.wait([hiring], timeout=10)
        assert done, f"given up after {turns} turns it never ended"
        await caretaker.dismiss()
        assert psutil.Process().children() == before
