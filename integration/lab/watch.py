"""What arrives at a machine without a relay, as its link shows it: the same for every program."""

import re

from integration.lab.host import Host
from integration.lab.translator import UPLINK
from integration.lab.waiting import until

# WireGuard's data (message type 4) with more in it than a keepalive has, which is 40 bytes of UDP.
# Relays are reached by TCP, so what comes by UDP came directly.
_DATA = (
    "(ip[0] & 0x0f = 5 and ip[9] = 17 and udp[8:4] = 0x04000000 and udp[4:2] > 40)"
    " or (ip6 and ip6[6] = 17 and ip6[48:4] = 0x04000000 and ip6[44:2] > 40)"
)


class Watch:
    """``tcpdump`` on a machine's link, from its birth to the end of the lab."""

    def __init__(self, host: Host) -> None:
        command = ["tcpdump", "-i", UPLINK, "-Q", "in", "-n", "-tt", "-l", "--immediate-mode"]
        self._tcpdump = host.spawn("tcpdump", *command, _DATA)

    def wait(self) -> None:
        """Until it sees everything."""
        until("tcpdump", lambda: "listening on" in self._said(), 10)

    def direct_since(self, at: float) -> float | None:
        """When the first data after ``at`` arrived directly; both as the clock of the wall has it.

        [s]
        """
        times = map(float, re.findall(r"^(\d+\.\d+) IP", self._said(), re.MULTILINE))
        return next((each for each in times if each >= at), None)

    def _said(self) -> str:
        self._tcpdump.check()
        return self._tcpdump.log.read_text(errors="replace")
