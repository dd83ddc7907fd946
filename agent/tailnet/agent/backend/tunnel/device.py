"""The device as the datapath gets it."""

import logging

from tailnet.agent.backend.tunnel.interface import TunnelSettings
from tailnet.agent.datapath.interface import TunPort
from tailnet.platform.interface import TunDevice

log = logging.getLogger("tailnet.tunnel")


def take(device: TunDevice, settings: TunnelSettings) -> TunPort:
    """Take the device over, with the offloads that work and are wanted."""
    joined = device.vnet_hdr and device.probe()
    if joined < device.vnet_hdr:
        log.warning("%s: this kernel refuses joined packets; writing them singly", device.name)
    tso = joined and settings.tun_tcp_gro
    uso = joined and device.uso and settings.tun_udp_gro
    more = device.detach_more()
    return TunPort(device.detach(), device.mtu, device.vnet_hdr, uso, tso, more)
