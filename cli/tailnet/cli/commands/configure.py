"""``tnet configure``: upstream's helpers for other systems, and what takes their place here.

Source: tailscale cmd/tailscale/cli/configure.go.
"""

import click

from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand

INSTEAD = {
    "flash-appliance": "there is no image of an appliance",
    "jetkvm": "it is for JetKVM devices; on Linux: tnet install",
    "kubeconfig": "it needs a Kubernetes operator's proxy in the tailnet, which is not supported",
    "mac-vpn": "it is for macOS",
    "pve-appliance": "there is no image of an appliance",
    "synology": "it is for Synology's DSM; on Linux: tnet install",
    "synology-cert": "it is for Synology's DSM",
    "sysext": "it is for macOS",
    "systray": "there is no tray icon; a page in the browser: tnet web",
}


@click.command(
    cls=GoCommand,
    help="Set up other systems for the tailnet; none of them is one of these. "
    f"SYSTEM is {', '.join(list(INSTEAD)[:-1])} or {list(INSTEAD)[-1]}.",
)
@click.argument("system", type=click.Choice(list(INSTEAD)), metavar="SYSTEM")
@click.argument("rest", nargs=-1, metavar="[ARGS]")
def command(*, system: str, rest: tuple[str, ...]) -> None:
    """Say why not, and what else there is."""
    msg = f"tnet configure {system} does not apply here: {INSTEAD[system]}"
    raise Failure(msg)
