"""What is measured of a tunnel between two namespaces, whoever made it.

Each measure takes the tunnel and some seconds and gives a :data:`Sample`.  The load is ``iperf3``
and ``ping``, in the same namespaces and on the same cores as the tunnel.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.lab.process import LabError, in_namespace, run

Sample = dict[str, float]
"""One measurement: unit → figure."""

SMALL_RATES = (150, 300, 450, 700)  # thousands of packets per second
PING_EVERY = 0.005  # seconds
STRANGERS = 200_000  # datagrams per second
HOLDING = {"PYTHONPATH": str(Path(__file__).with_name("holding"))}  # for the environment
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a tunnel.

    Attributes:
        sender: namespace where the load comes from.
        receiver: namespace where it goes.
        address: of the receiver inside the tunnel.
        outer: address and UDP port of the receiver's tunnel outside.
        pids: of the two tunnel processes, whose CPU time counts.
        stranger: a namespace that reaches ``outer`` and is not part of the tunnel.
        holds: the processes are Python's, and were started with :data:`HOLDING`.
    """

    sender: str
    receiver: str
    address: str
    outer: tuple[str, int]
    pids: tuple[int, int]
    stranger: str
    holds: bool = False

    def cpu_seconds(self) -> float:
        """User and system time of both tunnel processes so far."""
        return sum(map(cpu_seconds, self.pids))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc_pid_stat(5), utime + stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


@contextlib.contextmanager
def ended(*processes: subprocess.Popen[Any]) -> Iterator[None]:
    """Terminate these processes afterwards."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def listening(ends: Ends) -> Iterator[None]:
    """An ``iperf3`` server for one client at the receiver.

    Raises:
        LabError: ``iperf3`` is not installed, or cannot listen.
    """
    command = in_namespace(ends.receiver, ["iperf3", "-s", "-1", "--forceflush"])
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with ended(server):
        assert server.stdout is not None
        if not any(b"listening" in line for line in server.stdout):
            msg = "iperf3 does not listen; is it installed?"
            raise LabError(msg)
        yield


def iperf(ends: Ends, seconds: float, *extra: str) -> dict[str, Any]:
    """One run from the sender to the receiver; the end of iperf3's report."""
    command = ["iperf3", "-c", ends.address, "-J", "-t", f"{seconds:g}", *extra]
    with listening(ends):
        output = run(command, namespace=ends.sender, timeout=seconds + 30).stdout
    end: dict[str, Any] = json.loads(output)["end"]
    return end


def bulk(ends: Ends, seconds: float, *extra: str) -> Sample:
    """As many bytes as possible."""
    before = ends.cpu_seconds()
    end = iperf(ends, seconds, *extra)
    spent = ends.cpu_seconds() - before
    received = end["sum_received"] if "sum_received" in end else end["sum"]
    return {
        "Gbit/s": received["bits_per_second"] / 1e9,
        "CPU s/GB": spent / (received["bytes"] / 1e9),
    }


def small(ends: Ends, seconds: float) -> Sample:
    """As many UDP packets of 64 bytes as possible: the best of several offered rates."""
    best: Sample = {"kpkt/s": 0.0, "CPU us/pkt": 0.0}
    for rate in SMALL_RATES:
        before = ends.cpu_seconds()
        total = iperf(ends, seconds, "-u", "-l", "64", "-b", f"{rate * 512}K")["sum"]
        spent = ends.cpu_seconds() - before
        received = total["packets"] - total["lost_packets"]
        per_second = received / total["seconds"] / 1e3
        if per_second > best["kpkt/s"]:
            best = {"kpkt/s": per_second, "CPU us/pkt": spent / received * 1e6}
    return best


def ping(ends: Ends, seconds: float) -> Sample:
    """Round trips, 200 a second; what is lost counts as the whole wait of a second."""
    count = int(seconds / PING_EVERY)
    command = ["ping", "-n", "-W1", "-i", f"{PING_EVERY}", "-c", str(count), ends.address]
    done = run(command, namespace=ends.sender, timeout=seconds + 30, check=False)
    lines = [line for line in done.stdout.splitlines() if "time=" in line]
    times = [float(line.split("time=")[1].split()[0]) * 1e3 for line in lines]
    times = sorted(times + [1e6] * (count - len(times)))
    return {"p50 us": times[count // 2], "p99 us": times[count * 99 // 100]}


def busy(ends: Ends, seconds: float) -> Sample:
    """Round trips while one TCP stream goes the same way at full speed; and without, before it."""
    calm = ping(ends, seconds)
    command = ["iperf3", "-c", ends.address, "-t", f"{seconds + 3:g}"]
    with listening(ends):
        words = in_namespace(ends.sender, command)
        load = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with ended(load):
            time.sleep(1)  # until the stream has its speed
            under = ping(ends, seconds)
    return calm | {f"{unit}, busy": value for unit, value in under.items()}


def stall(ends: Ends, seconds: float) -> Sample:
    """Round trips while Python's lock is held for 200 of each 400 ms; and without, before it."""
    calm = ping(ends, seconds)
    for pid in ends.pids:
        os.kill(pid, signal.SIGUSR1)
    under = ping(ends, seconds)
    for pid in ends.pids:
        os.kill(pid, signal.SIGUSR1)
    return calm | {f"{unit}, stalled": value for unit, value in under.items()}


# 50 datagrams in one call, which the kernel cuts: a sender that costs little on shared cores.
_FLOOD = """
import signal, socket, struct, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
cmsg = [(socket.IPPROTO_UDP, 103, struct.pack("=H", 100))]
data = bytes([4, 0, 0, 0] + [9] * 96) * 50
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
at = began = time.monotonic()
sent = 0
while going:
    sent += sock.sendmsg([data], cmsg, 0, (sys.argv[1], int(sys.argv[2]))) // 100
    at += 50 / int(sys.argv[3])
    time.sleep(max(0, at - time.monotonic()))
print(sent / (time.monotonic() - began))
"""


def flood(ends: Ends, seconds: float) -> Sample:
    """Round trips while a stranger sends 200,000 datagrams each second; and without, before it.

    The datagrams look like transport messages of a session that does not exist.  The rate that
    was really sent is part of the sample.
    """
    calm = ping(ends, seconds)
    words = [sys.executable, "-c", _FLOOD, ends.outer[0], str(ends.outer[1]), str(STRANGERS)]
    sender = subprocess.Popen(in_namespace(ends.stranger, words), stdout=subprocess.PIPE, text=True)
    with ended(sender):
        time.sleep(0.5)  # until it is under way
        under = ping(ends, seconds)
        sender.terminate()
        rate = float(sender.communicate(timeout=10)[0])
    flooded = {f"{unit}, flooded": value for unit, value in under.items()}
    return calm | flooded | {"flood kpkt/s": rate / 1e3}


Measure = Callable[[Ends, float], Sample]

MEASURES: dict[str, tuple[str, Measure]] = {
    "tcp": ("one TCP stream", bulk),
    "tcp4": ("four TCP streams", lambda ends, seconds: bulk(ends, seconds, "-P", "4")),
    "small": ("UDP, 64 bytes", small),
    "busy": ("ping, alone and beside a TCP stream", busy),
    "stall": ("ping, alone and while Python's lock is held for 200 of every 400 ms", stall),
    "flood": ("ping, alone and in a flood", flood),
}
"""By the name for the command line: the title, and what to do."""
