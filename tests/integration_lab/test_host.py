"""Reading what ``ping`` says."""

import pytest
from integration.lab.host import PingResult, parse_ping
from integration.lab.process import LabError

IPUTILS = """\
PING 100.64.0.2 (100.64.0.2) 56(84) bytes of data.

--- 100.64.0.2 ping statistics ---
3 packets transmitted, 2 received, 33.3% packet loss, time 402ms
rtt min/avg/max/mdev = 0.338/0.512/0.700/0.1 ms
"""
SILENT = """\
PING 100.64.0.2 (100.64.0.2) 56(84) bytes of data.

--- 100.64.0.2 ping statistics ---
2 packets transmitted, 0 received, +1 errors, 100% packet loss, time 1012ms

"""
BUSYBOX = """\
2 packets transmitted, 2 packets received, 0% packet loss
round-trip min/avg/max = 0.060/0.075/0.090 ms
"""


@pytest.mark.parametrize(
    ("output", "result"),
    [
        (IPUTILS, PingResult(3, 2, 0.512)),
        (SILENT, PingResult(2, 0, 0.0)),
        (BUSYBOX, PingResult(2, 2, 0.075)),
    ],
)
def test_summary_is_read(output: str, result: PingResult) -> None:
    """Both programs, with and without answers."""
    assert parse_ping(output) == result
    assert result.lost == result.sent - result.received


def test_no_summary_is_an_error() -> None:
    """As when the network is unreachable."""
    with pytest.raises(LabError, match="unreachable"):
        parse_ping("ping: connect: Network is unreachable\n")
