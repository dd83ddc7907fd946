"""What the seam to the system says to people."""

from ipaddress import ip_address

import pytest

from tailnet.platform.interface import NO_DNS, DnsConfig

US = (ip_address("100.100.100.100"),)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (NO_DNS, "asks as before"),
        (DnsConfig(US), "asks 100.100.100.100 for all names"),
        (DnsConfig(US, ("a.net", "b.net")), ", short ones in a.net, b.net"),
        (DnsConfig(US, match=("a.net", "b.net")), "asks 100.100.100.100 for names of a.net, b.net"),
        (DnsConfig(US, match=tuple("abcdefg")), "for names of a, b, c, d and 3 more"),
        (DnsConfig(US, match=tuple("abcd")), "for names of a, b, c, d"),
    ],
)
def test_how_a_host_resolves_names_can_be_read(config: DnsConfig, text: str) -> None:
    """In the daemon's log."""
    assert str(config).endswith(text)
