"""Measuring a TCP stream between two hosts of a lab."""

import json
import shutil
import sys
from dataclasses import dataclass

from integration.lab.host import Host
from integration.lab.process import Process
from integration.lab.waiting import until

PORT = 5201
READY_TIMEOUT = 10.0  # seconds until the receiving program listens


@dataclass(frozen=True, slots=True)
class Stream:
    """Result of one TCP stream.

    Attributes:
        received: bytes that arrived.
        seconds: how long it took.
        tool: program that measured.
    """

    received: int
    seconds: float
    tool: str

    @property
    def gbit(self) -> float:
        """10⁹ bits per second."""
        return self.received * 8 / self.seconds / 1e9


def tcp_stream(
    sender: Host, receiver: Host, address: object, *, seconds: float = 3.0, skip: int = 0
) -> Stream:
    """One TCP stream for some seconds, with ``iperf3`` if it is installed.

    Args:
        sender: where the data comes from.
        receiver: where it goes.
        address: of the receiver, through the tunnel or not.
        seconds: how long, without ``skip``.
        skip: seconds at the start that do not count (``iperf3`` only).
    """
    to = str(address)
    if shutil.which("iperf3") is None:
        module = [sys.executable, "-m", "integration.lab.bulk"]
        listening = receiver.spawn("bulk", *module, "serve", to, str(PORT))
        wait_until_logged(listening, "listening")
        words = [*module, "send", to, str(PORT), str(seconds)]
        result = json.loads(sender.exec(*words, timeout=seconds + 30).stdout)
        listening.wait(READY_TIMEOUT)
        return Stream(int(result["bytes"]), float(result["seconds"]), "TCP test")
    server = ["iperf3", "-s", "-1", "--forceflush", "-B", to, "-p", str(PORT)]
    listening = receiver.spawn("iperf3", *server)
    wait_until_logged(listening, "Server listening")
    client = ["iperf3", "-c", to, "-p", str(PORT), "-t", f"{seconds:g}", "-O", str(skip), "-J"]
    answer = json.loads(sender.exec(*client, timeout=seconds + skip + 30).stdout)
    listening.wait(READY_TIMEOUT)
    total = answer["end"]["sum_received"]
    return Stream(int(total["bytes"]), float(total["seconds"]), "iperf3")


def wait_until_logged(program: Process, text: str) -> None:
    """Wait until a program with a log of its own has written ``text``."""

    def seen() -> bool:
        program.check()
        return text in program.tail(3)

    until(f"{program.name} to listen", seen, READY_TIMEOUT)
