"""``tailnetd``: its flags, and what each kind of run does."""

import asyncio
import errno
import functools
import logging
import os
import re
import resource
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from tailnet.agent import errands
from tailnet.agent._version import __version__
from tailnet.agent.addr import AddrPort
from tailnet.agent.daemon.aio import USERSPACE, Options, serve
from tailnet.agent.daemon.debugsite.pages import parse_debug_address
from tailnet.agent.daemon.manager.aio import ServiceManager
from tailnet.agent.datapath.native import AeadChoice, why_not
from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.machine import DatapathChoice, DatapathWish, Machine
from tailnet.agent.netstack.choice import parse_listen
from tailnet.agent.netstack.proxy.aio import HTTP, SOCKS5
from tailnet.platform.here import this_platform
from tailnet.platform.interface import PlatformError
from tailnet.platform.system import Platform

log = logging.getLogger("tailnet.main")

DEFAULT_TUN = "tailnet0"
IN_MEMORY = Path("mem:")  # as --state
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


@contextmanager
def _ending_in_one_line() -> Iterator[None]:
    """Whatever this machine refuses is said, and is the end."""
    try:
        yield
    except (UserError, PlatformError, MemoryError) as error:
        _die(str(error) or "this host does not give the memory that is needed to start")
    except OSError as error:
        if os.strerror(errno.EMFILE) not in str(error):  # the extension's have no number
            raise
        _die("too few open files are allowed to start; allow more: ulimit -n, or LimitNOFILE=")


def _say(*lines: str) -> None:
    for line in filter(None, lines):
        click.echo(line)


@click.command(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "allow_extra_args": True,  # to say what was meant
    },
    help="Join a tailnet and make it part of this machine.",
)
@click.option(
    "--tun",
    is_flag=False,
    flag_value=DEFAULT_TUN,
    default=DEFAULT_TUN,
    metavar="[=NAME,…]",
    help=f"Name of the TUN device (default {DEFAULT_TUN}); {USERSPACE} does without one. "
    "Of several, the first that is possible.",
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
    "--auth-key",
    envvar="TS_AUTHKEY",
    default="",
    metavar="[optional:]KEY|file:PATH|credential:NAME",
    help="Key to join with where there is no login yet; better in a file: others can see flags.",
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
    type=click.Choice([choice.value for choice in DatapathChoice]),
    default=DatapathChoice.AUTO.value,
    help="What moves packets: the native extension, the pure Python one, or the first that works.",
)
@click.option(
    "--datapath-aead",
    envvar="TAILNETD_DATAPATH_AEAD",
    type=click.Choice([choice.value for choice in AeadChoice]),
    default=AeadChoice.AUTO.value,
    help="What the native datapath ciphers with: built in, libipsec-mb, or the faster of both.",
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
    "--debug",
    default="",
    metavar="[IP]:PORT",
    help="Where to serve health, metrics, tasks and profiles by HTTP (default: nowhere); "
    "without IP on loopback.",
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
    help="Restore DNS, remove routes, rules and the socket a dead daemon left, then exit.",
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
@click.option(
    "--run-hook",
    is_flag=True,
    help="Run one hook for the daemon at the other end of standard input; for its unit.",
)
@click.version_option(__version__, message="tailnetd %(version)s")
@click.pass_context
def command(  # noqa: PLR0913 - one argument a flag
    ctx: click.Context,
    *,
    tun: str,
    statedir: Path | None,
    state: Path | None,
    state_key: str,
    decrypt_state: bool,
    auth_key: str,
    config: str,
    socket_path: Path | None,
    port: int,
    datapath: str,
    datapath_aead: str,
    datapath_threads: int,
    socks5_server: str,
    http_proxy: str,
    debug: str,
    verbose: int,
    clean: bool,
    remove_guard: bool,
    only_guard: bool,
    run_hook: bool,
) -> None:
    """Parse, check what can be checked without side effects, then run."""
    if ctx.args:
        msg = f"it takes flags only; did you mean: tnet {shlex.join(ctx.args)}"
        raise click.UsageError(msg)
    path = socket_path or default_socket()
    _configure_logging(verbose)
    if run_hook:
        errands.run_hook()
        return
    if remove_guard and not clean:
        _die("--remove-guard goes with --cleanup")
    if datapath == DatapathChoice.NATIVE and not clean and (reason := why_not()):
        _die(f"--datapath=native: {reason}; build it with: make native (needs cargo)")
    aead = AeadChoice(datapath_aead)
    if aead is AeadChoice.IPSEC_MB and not clean and (reason := why_not(aead)):
        _die(f"--datapath-aead=ipsec-mb: {reason}")
    state = state or (statedir or default_state_dir()) / "tailnetd.state"
    if state == IN_MEMORY and (state_key or decrypt_state):
        _die("--state=mem: keeps nothing that could be encrypted")
    with _ending_in_one_line():
        platform = this_platform()
        tun = _first_possible(tun.split(","), platform)
        if clean:
            _say(*errands.clean_up(platform, tun, path, guard=remove_guard))
            return
        if decrypt_state:
            _say(errands.decrypt(state, state_key, path))
            return
        if only_guard:
            _say(errands.set_guard(platform, tun, state, state_key, path))
            return
        options = Options(
            tun=tun,
            state=None if state == IN_MEMORY else state,
            state_key=state_key,
            config=config,
            socket=path,
            port=port,
            verbose=verbose,
            auth_key=auth_key,
            datapath=datapath,
            datapath_threads=datapath_threads,
            proxies=_proxies(socks5_server, http_proxy),
            debug=_debug_address(debug),
        )
        wish = DatapathWish(DatapathChoice(datapath), aead)
        make = functools.partial(Machine, platform, tun, wish)
        _leave_no_core()
        manager = ServiceManager(platform.notify, platform.watchdog())
        failure = asyncio.run(serve(options, make, manager))
    if failure is not None:
        _die(failure)


def _leave_no_core() -> None:
    """A crash writes no image of this process to the disk: the keys of this machine are in it.

    Whoever looks for a crash may have one: ``prlimit --core=unlimited --pid``.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _first_possible(names: list[str], platform: Platform) -> str:
    """Of the devices that ``--tun`` lists, the first that can be; the last is not asked about."""
    *first, last = names
    for name in first:
        reason = "" if name == USERSPACE else platform.tun_problem()
        if not reason:
            return name
        log.warning("no device %s: %s", name, reason)
    return last


def _debug_address(text: str) -> AddrPort | None:
    """Where the debug site is to be, from its flag."""
    try:
        return parse_debug_address(text) if text else None
    except BadPacket:
        _die(f"--debug={text} is not [IP]:PORT, as in localhost:8080")


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
        text = error.format_message().replace("not a valid integer range.", "not a number.")
        click.echo(f"tailnetd: {text} (see tailnetd --help)", err=True)
        sys.exit(error.exit_code)
