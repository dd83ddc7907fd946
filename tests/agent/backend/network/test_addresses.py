"""Which connections may have survived."""

from ipaddress import ip_address, ip_interface

from tailnet.agent.backend.network.addresses import good_addresses
from tailnet.platform.interface import NetworkInterface, NetworkState


def _state(out: str, *, eth_up: bool = True) -> NetworkState:
    eth = NetworkInterface("eth0", eth_up, frozenset({ip_interface("192.0.2.2/24")}))
    wlan = NetworkInterface("wlan0", True, frozenset({ip_interface("198.51.100.2/24")}))
    lo = NetworkInterface("lo", True, frozenset({ip_interface("127.0.0.1/8")}))
    return NetworkState({i.name: i for i in (eth, wlan, lo)}, out)


def _texts(before: NetworkState | None, after: NetworkState) -> set[str]:
    return {str(ip) for ip in good_addresses(before, after)}


def test_while_the_way_out_is_the_same_every_address_that_is_there_is_good() -> None:
    """A connection over the second network is nobody's business."""
    assert _texts(_state("eth0"), _state("eth0")) == {"192.0.2.2", "198.51.100.2", "127.0.0.1"}
    assert _texts(None, _state("eth0")) == {"192.0.2.2", "198.51.100.2", "127.0.0.1"}


def test_after_a_move_only_the_new_way_out_is_good() -> None:
    """The old address may be there still; nobody answers what it sends by the new device."""
    assert _texts(_state("eth0"), _state("wlan0")) == {"198.51.100.2", "127.0.0.1"}


def test_a_device_that_is_down_has_no_good_address() -> None:
    """Though the kernel keeps it."""
    after = _state("wlan0", eth_up=False)
    assert ip_address("192.0.2.2") not in good_addresses(_state("wlan0"), after)
    assert "198.51.100.2" in _texts(_state("eth0"), _state(""))  # no way out is no move
