"""The lab itself: it ends clean at any moment, and sweeps up after one that was killed."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from integration.lab import measure
from integration.lab.lab import ROOT, Lab
from integration.lab.net import Network
from integration.lab.process import LabError, kill_and_wait
from integration.lab.residue import NETNS, processes_in, sweep
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

DEMO = [sys.executable, "-u", "-m", "integration.lab"]


def residue(pid: int) -> list[Path]:
    """Namespaces and directories of the labs of a process."""
    found: list[Path] = []
    for root in (NETNS, Path(tempfile.gettempdir())):
        found += root.glob(f"tnl{pid}-*")
    return found


def start_demo(*arguments: str) -> subprocess.Popen[str]:
    """``python -m integration.lab``, its output in a pipe."""
    return subprocess.Popen(
        [*DEMO, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_demo_shows_the_relay_then_the_direct_path_and_leaves_nothing() -> None:
    """What ``make lab`` does, from start to end."""
    with start_demo() as demo:
        output, _ = demo.communicate(timeout=80)
    assert demo.returncode == 0, output
    assert output.count("3 of 3 answered") == 4
    assert output.index("via DERP(lab900)") < output.index("Directly") < output.rindex("via 10.99.")
    assert "Gbit/s" in output
    assert "Nothing is left" in output
    assert residue(demo.pid) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("line", [2, 3, 5, 8])
def test_interrupted_demo_leaves_nothing(line: int, number: signal.Signals) -> None:
    """A signal while output line ``line`` is fresh, and a second one while it cleans up."""
    with start_demo() as demo:
        assert demo.stdout is not None
        for _ in range(line):
            demo.stdout.readline()
        demo.send_signal(number)
        demo.send_signal(number)
        rest, _ = demo.communicate(timeout=30)
    assert demo.returncode == 128 + number, rest
    assert "Traceback" not in rest
    assert residue(demo.pid) == []


def test_shell_stays_open_until_enter() -> None:
    """``--shell`` says how to enter each host, and ends at Enter."""
    with start_demo("--shell") as demo:
        assert demo.stdout is not None
        said = ""
        while "Press Enter" not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        for name in ("h1", "h2"):
            assert f"ip netns exec tnl{demo.pid}-0-{name} sh" in said
        rest, _ = demo.communicate("\n", timeout=30)
    assert demo.returncode == 0, rest
    assert residue(demo.pid) == []


def test_a_later_lab_sweeps_up_after_a_killed_one() -> None:
    """SIGKILL leaves processes, namespaces and files; the next start removes them."""
    with start_demo("--shell") as demo:
        assert demo.stdout is not None
        while "Press Enter" not in (line := demo.stdout.readline()):
            assert line
        demo.kill()
        demo.wait()
    left = residue(demo.pid)
    namespaces = [path for path in left if path.parent == NETNS]
    pids = processes_in(namespaces)
    assert namespaces
    assert pids
    assert f"tnl{demo.pid}-0" in sweep()
    assert residue(demo.pid) == []
    assert not [pid for pid in pids if Path(f"/proc/{pid}/ns/net").exists()]


def test_a_lab_that_is_alive_is_not_swept() -> None:
    """Its lock is held."""
    with Lab(flat("h1", "h2")) as lab:
        assert lab.directory.name not in sweep()
        assert lab.directory.is_dir()
        assert lab.hosts["h1"].ping_os("10.99.0.12", count=1).lost == 0


def test_a_lab_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception half-way."""

    def broken(self: Network, *, allowed: bool) -> None:
        raise LabError("no firewall")  # noqa: EM101 - said once

    monkeypatch.setattr(Network, "allow_udp", broken)
    with pytest.raises(LabError, match="no firewall"), Lab(flat("h1", udp=False)):
        pass
    assert residue(os.getpid()) == []


def test_udp_is_dropped_between_hosts_only() -> None:
    """ICMP passes, UDP between hosts does not until allowed, UDP to the servers always does."""
    ask = "import socket,sys;s=socket.socket(2,2);s.settimeout(float(sys.argv[3]));"
    ask += "s.sendto(b'x',(sys.argv[1],int(sys.argv[2])));s.recv(9)"
    echo = "import socket;s=socket.socket(2,2);s.bind(('0.0.0.0',9));print('up',flush=True)\n"
    echo += "while 1: s.sendto(*s.recvfrom(9))"

    def asked(lab: Lab, to: str, timeout: str) -> bool:
        command = [sys.executable, "-c", ask, to, "9", timeout]
        return lab.hosts["h1"].exec(*command, check=False).returncode == 0

    with Lab(flat("h1", "h2", udp=False)) as lab:
        echoing = lab.hosts["h2"].spawn("echo", sys.executable, "-c", echo)
        until("the echo", lambda: "up" in echoing.tail(), 5)
        assert lab.hosts["h1"].ping_os("10.99.0.12", count=1).lost == 0
        assert not asked(lab, "10.99.0.12", "0.3")
        lab.network.allow_udp(allowed=True)
        assert asked(lab, "10.99.0.12", "5")


def test_throughput_without_iperf3(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small TCP test stands in."""
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with Lab(flat("h1", "h2")) as lab:
        stream = measure.tcp_stream(
            lab.hosts["h1"], lab.hosts["h2"], lab.hosts["h2"].underlay, seconds=0.3
        )
    assert stream.tool == "TCP test"
    assert stream.gbit > 0


def test_kill_and_wait_takes_processes_that_are_gone() -> None:
    """A process that ended meanwhile is no error."""
    with subprocess.Popen(["true"]) as done:
        done.wait()
    kill_and_wait([done.pid])
