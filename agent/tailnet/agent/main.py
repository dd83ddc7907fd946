"""``tailnetd``: flags, environment, and this operating system.

The only module that knows which operating system this is; everything else sees
``tailnet.platform.interface``.
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NoReturn

import click

from tailnet.agent import clock
from tailnet.agent._version import __version__
from tailnet.agent.addr import AddrPort, IPNetwork
from tailnet.agent.backend.login import Host
from tailnet.agent.daemon.aio import USERSPACE, Options, saved_guard, serve, to_plain_text
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.datapath.native import NativeDatapath, why_not
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.netstack.aio import Userspace
from tailnet.agent.netstack.choice import parse_listen
from tailnet.agent.netstack.proxy.aio import HTTP, SOCKS5
from tailnet.platform.interface import (
    Bypass,
    DnsConfig,
    DnsConfigurator,
    DnsEvent,
    Firewall,
    FirewallConfig,
    Gateways,
    NetfilterMode,
    PlatformError,
    Router,
    TunDevice,
)
from tailnet.platform.linux.bypass import LinuxBypass
from tailnet.platform.linux.gateway import LinuxGateways
from tailnet.platform.linux.hostinfo import describe, forwarding_problem, local_networks
from tailnet.platform.linux.nft.firewall import LinuxFirewall
from tailnet.platform.linux.nft.firewall import remove as remove_firewall
from tailnet.platform.linux.notify import notify
from tailnet.platform.linux.router import LinuxRouter, cleanup
from tailnet.platform.linux.tun import open_tun

log = logging.getLogger("tailnet.main")

DEFAULT_TUN = "tailnet0"
AUTO, NATIVE, REFERENCE = "auto", "native", "reference"
MAX_THREADS = 16


def default_state_dir() -> Path:
    """``/var/lib/tailnetd`` for root, else ``$XDG_STATE_HOME/tailnetd``."""
    if os.geteuid() == 0:
        return Path("/var/lib/tailnetd")
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "tailnetd"


def default_socket() -> Path:
    """``/run/tailnetd/tailnetd.sock`` for root, else ``$XDG_RUNTIME_DIR/tailnetd.sock``."""
    if os.geteuid() == 0:
        return Path("/run/tailnetd/tailnetd.sock")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / "tailnetd.sock"


def _die(message: str) -> NoReturn:
    click.echo(f"tailnetd: {message}", err=True)
    sys.exit(1)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Join a tailnet and make it part of this machine.",
)
@click.option(
    "--tun",
    is_flag=False,
    flag_value=DEFAULT_TUN,
    default=DEFAULT_TUN,
    metavar="[=NAME]",
    help=f"Name of the TUN device (default {DEFAULT_TUN}); {USERSPACE} does without one.",
)
@click.option(
    "--statedir",
    envvar="TAILNETD_STATE_DIR",
    type=click.Path(path_type=Path),
    help="Directory of keys and settings (default /var/lib/tailnetd).",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="State file (default STATEDIR/tailnetd.state); mem: keeps nothing.",
)
@click.option(
    "--state-key",
    envvar="TAILNETD_STATE_KEY",
    default="",
    metavar="PATH|credential:NAME",
    help="Encrypt the state with the key in this file, or in this systemd credential.",
)
@click.option(
    "--decrypt-state",
    is_flag=True,
    help="Write the state in plain text again, then exit; needs its --state-key.",
)
@click.option(
    "--config",
    envvar="TAILNETD_CONFIG",
    default="",
    metavar="[optional:]PATH",
    help="Configuration file that rules the settings; SIGHUP reads it again.",
)
@click.option(
    "--socket",
    "socket_path",
    envvar="TAILNETD_SOCKET",
    type=click.Path(path_type=Path),
    help="Unix socket that tnet talks to (default /run/tailnetd/tailnetd.sock).",
)
@click.option(
    "--port",
    envvar="PORT",
    type=click.IntRange(0, 65535),
    default=0,
    help="UDP port for WireGuard and disco; 0 takes any free one.",
)
@click.option(
    "--datapath",
    type=click.Choice([AUTO, NATIVE, REFERENCE]),
    default=AUTO,
    help="What moves packets: the native extension, the pure Python one, or the first that works.",
)
@click.option(
    "--datapath-threads",
    type=click.IntRange(1, MAX_THREADS),
    default=1,
    help="Threads of the native datapath that encrypt; each has a queue of the TUN device.",
)
@click.option(
    "--socks5-server",
    default="",
    metavar="[IP]:PORT",
    help="Where to serve SOCKS5 into the tailnet (default: nowhere).",
)
@click.option(
    "--outbound-http-proxy-listen",
    "http_proxy",
    default="",
    metavar="[IP]:PORT",
    help="Where to serve an HTTP proxy into the tailnet; may be the same as --socks5-server.",
)
@click.option(
    "--verbose",
    "-v",
    envvar="TS_LOG_VERBOSITY",
    type=click.IntRange(0, 2),
    is_flag=False,
    flag_value=1,
    default=0,
    help="0 quiet, 1 decisions, 2 everything.",
)
@click.option(
    "--cleanup",
    "clean",
    is_flag=True,
    help="Remove routes, rules and the socket a dead daemon left, then exit.",
)
@click.option(
    "--remove-guard",
    is_flag=True,
    help="With --cleanup: also the kill switch, until tailnetd sets it again.",
)
@click.option(
    "--guard",
    "only_guard",
    is_flag=True,
    help="Set the kill switch if the saved settings want it, then exit; for early at boot.",
)
@click.version_option(__version__, message="tailnetd %(version)s")
def command(  # noqa: PLR0913 - one argument a flag
    *,
    tun: str,
    statedir: Path | None,
    state: Path | None,
    state_key: str,
    decrypt_state: bool,
    config: str,
    socket_path: Path | None,
    port: int,
    datapath: str,
    datapath_threads: int,
    socks5_server: str,
    http_proxy: str,
    verbose: int,
    clean: bool,
    remove_guard: bool,
    only_guard: bool,
) -> None:
    """Parse, check what can be checked without side effects, then run."""
    path = socket_path or default_socket()
    _configure_logging(verbose)
    if remove_guard and not clean:
        _die("--remove-guard goes with --cleanup")
    if clean:
        _cleanup(tun, path, guard=remove_guard)
        return
    if datapath == NATIVE and (reason := why_not()):
        _die(f"--datapath=native: {reason}; build it with: make native (needs cargo)")
    state = state or (statedir or default_state_dir()) / "tailnetd.state"
    if state == Path("mem:") and (state_key or decrypt_state):
        _die("--state=mem: keeps nothing that could be encrypted")
    if decrypt_state:
        _decrypt(state, state_key, path)
        return
    if only_guard:
        _guard(tun, state, state_key, path)
        return
    options = Options(
        tun=tun,
        state=None if state == Path("mem:") else state,
        state_key=state_key,
        config=config,
        socket=path,
        port=port,
        verbose=verbose,
        auth_key=os.environ.get("TS_AUTHKEY", ""),
        datapath=datapath,
        datapath_threads=datapath_threads,
        proxies=_proxies(socks5_server, http_proxy),
    )
    try:
        failure = asyncio.run(
            serve(options, lambda stack, fd: LinuxSystem(tun, datapath, stack, fd), notify)
        )
    except (UserError, PlatformError) as error:
        _die(str(error))
    if failure is not None:
        _die(failure)


class LinuxSystem:
    """This operating system, as ``backend.tunnel`` wants to see one."""

    def __init__(
        self, tun_name: str, datapath: str, userspace: Userspace | None, service_fd: int
    ) -> None:
        about = describe()
        self._tun_name = tun_name
        self._datapath = datapath
        self._service_fd = service_fd
        self._userspace = userspace
        # Without routes of ours nothing can come back into the tunnel.
        self.bypass: Bypass = LinuxBypass(tun_name) if userspace is None else NoBypass()
        self.gateways: Gateways = LinuxGateways()
        self.host = Host(
            hostname=socket.gethostname().partition(".")[0],
            os_version=about.os_version,
            distro=about.distro,
            distro_version=about.distro_version,
            distro_code_name=about.distro_code_name,
            machine=about.machine,
            container=about.container,
            env=about.env,
            device_model=about.device_model,
            cloud=about.cloud,
            desktop=about.desktop,
            userspace=userspace is not None,
        )

    def open_tun(self, queues: int) -> TunDevice:
        """The device named by ``--tun``."""
        if self._userspace is not None:
            return self._userspace.open_tun()
        return open_tun(self._tun_name, queues=queues)

    def make_router(self, tun_name: str) -> Router:
        """Over netlink, or the stack that needs only to know."""
        return self._userspace if self._userspace is not None else LinuxRouter(tun_name)

    def make_firewall(self, tun_name: str) -> Firewall:
        """Over netlink; nothing comes to the kernel from a userspace tunnel."""
        return LinuxFirewall(tun_name) if self._userspace is None else NoFirewall()

    def make_dns(self, tun_name: str) -> DnsConfigurator:
        """Left alone."""
        del tun_name
        return NoDns()

    def make_datapath(self) -> Datapath:
        """The native one if it is there, unless ``--datapath`` says otherwise."""
        reason = "asked for" if self._datapath == REFERENCE else why_not()
        made: Datapath = ReferenceDatapath(now=clock.now) if reason else NativeDatapath()
        line = "packets are moved by the %s datapath %s, ciphered by %s%s"
        log.info(line, *made.about, f" ({reason})" if reason else "")
        made.set_service(self._service_fd)
        return made

    def local_networks(self) -> tuple[IPNetwork, ...]:
        """Of all links; a userspace node is no exit node of its own host."""
        return local_networks()

    def forwarding_problem(self, *, v4: bool, v6: bool) -> str:
        """From the kernel's settings; a userspace router does not need the kernel."""
        if self._userspace is not None:
            return ""
        return forwarding_problem(Path("/"), v4=v4, v6=v6)


class NoBypass:
    """For sockets that no route of ours can catch."""

    def mark(self, sock: socket.socket) -> None:
        """Nothing to do."""


class NoFirewall:
    """For packets that the kernel never sees."""

    async def apply(self, config: FirewallConfig) -> None:
        """Nothing to do."""

    async def intact(self) -> bool:
        """Nothing is missing."""
        return True

    async def disturbances(self) -> AsyncIterator[None]:
        """Never."""
        await asyncio.Event().wait()
        yield

    async def down(self) -> None:
        """Nothing to do."""


class NoDns:
    """For a host whose own resolver is not to be changed."""

    mode = "no-op"
    split = False

    async def up(self) -> None:
        """Nothing to do."""

    async def events(self) -> AsyncIterator[DnsEvent]:
        """Never."""
        await asyncio.Event().wait()
        yield DnsEvent(again=False)

    async def base(self) -> DnsConfig | None:
        """Nobody asks it."""

    async def apply(self, config: DnsConfig) -> None:
        """Nothing to do."""

    async def down(self) -> None:
        """Nothing to do."""


def _proxies(socks5: str, http: str) -> dict[AddrPort, frozenset[str]]:
    """Which protocols at which address, from the two flags."""
    found: dict[AddrPort, frozenset[str]] = {}
    for flag, text, protocol in (
        ("--socks5-server", socks5, SOCKS5),
        ("--outbound-http-proxy-listen", http, HTTP),
    ):
        if text:
            try:
                address = parse_listen(text)
            except BadPacket:
                _die(f"{flag}={text} is not [IP]:PORT, as in localhost:1055")
            found[address] = found.get(address, frozenset()) | {protocol}
    return found


def _decrypt(state: Path, state_key: str, path: Path) -> None:
    """``--decrypt-state``: refuse while a daemon lives, else rewrite the file."""
    if _answers(path):
        _die(f"a daemon is running (socket {path}); stop it first")
    try:
        to_plain_text(state, state_key)
    except UserError as error:
        _die(str(error))
    click.echo(f"{state} is plain text now; start tailnetd without --state-key")


def _guard(tun: str, state: Path, state_key: str, path: Path) -> None:
    """``--guard``: as the last daemon would have it; a living one sees to it itself."""
    if _answers(path):
        return
    try:
        wanted = saved_guard(state, state_key)
        if wanted is not None:
            config = FirewallConfig(mode=NetfilterMode.OFF, guard=wanted)
            asyncio.run(LinuxFirewall(tun).apply(config))
            click.echo("the kill switch is set; end it with: tailnetd --cleanup --remove-guard")
    except (UserError, PlatformError) as error:
        _die(str(error))


def _cleanup(tun: str, path: Path, *, guard: bool) -> None:
    """``--cleanup``: refuse while a daemon lives, else remove residue and say what it was."""
    if _answers(path):
        _die(f"a daemon is running (socket {path}); stop it first, it cleans up by itself")
    try:
        removed = asyncio.run(_residue(tun, guard=guard)) if tun != USERSPACE else []
    except PlatformError as error:
        _die(str(error))
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        removed.append(f"socket {path}")
    for item in removed:
        click.echo(f"removed {item}")


async def _residue(tun: str, *, guard: bool) -> list[str]:
    # After a crash the service manager starts us again: until then nothing may leak.
    crashed = os.environ.get("SERVICE_RESULT", "success") != "success"
    return await cleanup(tun, leak_guard=crashed) + await remove_firewall(guard=guard)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _configure_logging(verbose: int) -> None:
    level = logging.INFO if verbose == 0 else logging.DEBUG
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
    )
    logging.getLogger("tailnet").setLevel(level)
    if verbose > 1:
        logging.getLogger().setLevel(logging.DEBUG)


def double_dashes(args: Sequence[str], known: Callable[[str], bool]) -> list[str]:
    """Go's flags take one dash or two; click wants two for long names."""
    return [
        "-" + arg
        if (match := re.match(r"-([a-z][a-z-]+)(=|$)", arg)) and known(match.group(1))
        else arg
        for arg in args
    ]


def main() -> None:
    """Entry point of ``tailnetd``."""
    names = {name.lstrip("-") for param in command.params for name in param.opts}
    args = double_dashes(sys.argv[1:], names.__contains__)
    try:
        sys.exit(command.main(args=args, prog_name="tailnetd", standalone_mode=False) or 0)
    except click.UsageError as error:
        click.echo(f"tailnetd: {error.format_message()} (see tailnetd --help)", err=True)
        sys.exit(error.exit_code)
