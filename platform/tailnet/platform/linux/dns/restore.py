"""What a daemon that died left of DNS, taken back."""

from pathlib import Path

from tailnet.platform.linux.dns.choose import Flavour
from tailnet.platform.linux.dns.programs import DebianResolvconf, Openresolv, left_by_us
from tailnet.platform.linux.dns.replaced import ResolvConfFile

_OTHER_SOCKET = "run/tailscale/tailscaled.sock"


async def cleanup(root: Path = Path("/")) -> list[str]:
    """Take back what is there; of systemd-resolved nothing is left.

    No daemon may be running.

    Returns:
        A line for each thing done.

    Raises:
        PlatformError: something could not be taken back.
    """
    done = []
    file = ResolvConfFile(root)
    if file.restore():
        done.append(f"restored {file.path}")
    if not (root / _OTHER_SOCKET).exists() and file.restore_other():
        done.append(f"restored {file.path}, which the original agent had left")
    if (flavour := await left_by_us(root)) is not Flavour.NONE:
        adapter = DebianResolvconf(root) if flavour is Flavour.DEBIAN else Openresolv()
        await adapter.down()
        done.append("removed our record from resolvconf")
    return done
