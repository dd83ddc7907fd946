"""Features of devices, as ``ethtool -k`` shows them.

pyroute2 has this too, but its module takes a second of a start to import.

::

    request           command u32 | …                  by ioctl SIOCETHTOOL on struct ifreq
    driver            0x03 | name, 32 bytes | …, 196 bytes in all
    number of names   0x37 | 0 | mask u64 = 1 << 4 | number u32
    names             0x1b | set u32 = 4 | number u32 | number × 32 bytes
    features          0x3a | blocks u32 | blocks × 4 u32: available, requested, active, fixed
    change            0x3b | blocks u32 | blocks × 2 u32: which, to what

Feature number n is bit n % 32 of block n / 32.

Source: Linux include/uapi/linux/ethtool.h.
"""

import array
import struct
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from socket import AF_INET, SOCK_DGRAM, socket

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.constants import IFNAMSIZ

_SIOCETHTOOL = 0x8946
_GDRVINFO, _DRVINFO = 0x03, 196  # bytes of struct ethtool_drvinfo
_GSSET_INFO, _GSTRINGS, _GFEATURES, _SFEATURES = 0x37, 0x1B, 0x3A, 0x3B
_FEATURES = 4  # ETH_SS_FEATURES
_NAME = 32  # bytes
_BLOCK, _CHANGE = struct.Struct("=IIII"), struct.Struct("=II")


def features(device: str) -> dict[str, bool]:
    """Those the device has, and whether each is on.

    Raises:
        OSError: no such device, or it has no features to tell.
    """
    with socket(AF_INET, SOCK_DGRAM) as sock:
        names = _names(sock, device)
        blocks = _blocks(names)
        ask = struct.pack("=II", _GFEATURES, blocks)
        bits = _ask(sock, device, ask + bytes(blocks * _BLOCK.size))[len(ask) :]
    found = {}
    for number, name in enumerate(names):
        available, _, active, _ = _BLOCK.unpack_from(bits, number // 32 * _BLOCK.size)
        bit = 1 << number % 32
        if (available | active) & bit:
            found[name] = bool(active & bit)
    return found


def change(device: str, wanted: Mapping[str, bool]) -> None:
    """Turn features on and off, as ``ethtool -K``; those the device has not are passed over.

    Raises:
        OSError: no such device, or not allowed.
    """
    with socket(AF_INET, SOCK_DGRAM) as sock:
        names = _names(sock, device)
        which = [[0, 0] for _ in range(_blocks(names))]
        for name, on in wanted.items():
            if name in names:
                block, bit = divmod(names.index(name), 32)
                which[block][0] |= 1 << bit
                which[block][1] |= on << bit
        ask = struct.pack("=II", _SFEATURES, len(which))
        _ask(sock, device, ask + b"".join(_CHANGE.pack(*block) for block in which))


def driver(device: str) -> str:
    """Its driver: "tun", "veth".

    Raises:
        OSError: no such device, or it does not say.
    """
    with socket(AF_INET, SOCK_DGRAM) as sock:
        said = _ask(sock, device, struct.pack("=I", _GDRVINFO) + bytes(_DRVINFO - 4))
    return said[4:36].partition(b"\0")[0].decode()


def _names(sock: socket, device: str) -> list[str]:
    info = _ask(sock, device, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _FEATURES, 0))
    count = struct.unpack("=IIQI", info)[3]
    ask = struct.pack("=III", _GSTRINGS, _FEATURES, count)
    names = _ask(sock, device, ask + bytes(count * _NAME))[len(ask) :]
    cut = (names[at : at + _NAME] for at in range(0, count * _NAME, _NAME))
    return [name.partition(b"\0")[0].decode() for name in cut]


def _blocks(names: Sequence[str]) -> int:
    return (len(names) + 31) // 32


def _ask(sock: socket, device: str, request: bytes) -> bytes:
    buffer = array.array("B", request)
    address, _ = buffer.buffer_info()
    name = device.encode()[: IFNAMSIZ - 1].ljust(IFNAMSIZ, b"\0")
    ioctl(sock, _SIOCETHTOOL, name + struct.pack("=Q16x", address))
    return buffer.tobytes()


def gro_forwarding_problem(tun: str, uplink: str) -> str:
    """Why forwarded UDP, which is what the tunnel itself is for others, is slower than need be.

    Empty where nothing could be gained, or it cannot be known.

    Source: tailscale net/netkernelconf/netkernelconf_linux.go CheckUDPGROForwarding.
    """
    try:
        if not features(tun).get("tx-udp-segmentation"):
            return ""
        have = features(uplink)
    except OSError:
        return ""
    forwards = have.get("rx-udp-gro-forwarding")
    if forwards is None or (forwards and not have.get("rx-gro-list")):
        return ""
    return (
        f"UDP is forwarded packet by packet on {uplink}, which can be done in larger pieces: "
        f"ethtool -K {uplink} rx-udp-gro-forwarding on rx-gro-list off"
    )


def set_gro_forwarding(tun: str, uplink: str) -> None:
    """Forward UDP in larger pieces, until the next start of the machine.

    Raises:
        PlatformError: nothing would be gained, or the system refuses.

    Source: tailscale net/netkernelconf/netkernelconf_linux.go SetUDPGROForwarding.
    """
    try:
        useful = features(tun).get("tx-udp-segmentation")
        able = "rx-udp-gro-forwarding" in features(uplink)
        if useful and able:
            change(uplink, {"rx-udp-gro-forwarding": True, "rx-gro-list": False})
    except OSError as error:
        msg = f"features of {uplink} cannot be changed: {error.strerror}"
        raise PlatformError(msg) from error
    if not useful:
        msg = f"{tun} takes no joined UDP, so nothing would be gained"
        raise PlatformError(msg)
    if not able:
        msg = f"{uplink} cannot join the UDP that it forwards"
        raise PlatformError(msg)
