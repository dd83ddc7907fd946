"""The parts of a running daemon, joined; the operating system's comes from ``main``."""

import asyncio
import contextlib
import os
import resource
import signal
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tailnet.agent import clock
from tailnet.agent._version import __version__
from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.backend.aio import Node, NodeSettings
from tailnet.agent.backend.files.aio import ConfigFile, StateFile, StateMemory
from tailnet.agent.backend.keyfiles.aio import read_auth_key, read_state_key
from tailnet.agent.backend.seal import Seal
from tailnet.agent.backend.state import State
from tailnet.agent.backend.tunnel.interface import System, TunnelSettings
from tailnet.agent.backend.wall import guard
from tailnet.agent.daemon.debugsite.aio import DebugSite
from tailnet.agent.daemon.hooking.aio import Hooking
from tailnet.agent.daemon.manager.aio import ServiceManager
from tailnet.agent.daemon.servicesite.aio import HTTP_PORT, ServiceSite
from tailnet.agent.dns.forward.aio import Forwarder, KernelDialer
from tailnet.agent.dns.https.aio import HttpsClient
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.errors import UserError
from tailnet.agent.hooks.aio import HookRunner
from tailnet.agent.localapi.aio import LocalServer
from tailnet.agent.localapi.view.aio import NodeView
from tailnet.agent.magicsock.sockets import offload
from tailnet.agent.netstack.aio import Userspace
from tailnet.agent.netstack.asking.aio import StackDialer
from tailnet.agent.netstack.choice import peer_names
from tailnet.agent.netstack.dialer.aio import Dialer
from tailnet.agent.netstack.interface import MakeStack
from tailnet.agent.netstack.native import native_stack
from tailnet.agent.netstack.proxy.aio import ProxyServer
from tailnet.agent.netstack.service.interface import DNS_PORT, MAX_CONNECTIONS
from tailnet.agent.netstack.service.plain.aio import PlainStack
from tailnet.agent.netstack.service.ports.aio import ServicePorts
from tailnet.agent.netstack.service.stack.aio import Services, ServiceStack
from tailnet.agent.portmap.interface import Protocol
from tailnet.agent.portmap.mapper import ALL
from tailnet.agent.supervisor import Service, supervise
from tailnet.platform.interface import Guard

USERSPACE = "userspace-networking"


@dataclass(frozen=True, slots=True)
class Options:
    """The command line and environment, parsed."""

    tun: str
    state: Path | None  # None: keep nothing
    state_key: str  # empty: the state is not encrypted
    config: str
    socket: Path
    port: int
    verbose: int
    auth_key: str
    proxies: Mapping[AddrPort, frozenset[str]]
    datapath: str
    datapath_threads: int
    debug: AddrPort | None


async def serve(
    options: Options,
    make_system: Callable[[Userspace | None, int], System],
    manager: ServiceManager,
) -> str | None:
    """Run until a signal or a failure; returns the failure's text.

    Args:
        options: what the user wants.
        make_system: this operating system, or our own stack in the kernel's place; with the packet
            socket of our services.
        manager: hears how it goes.

    Raises:
        UserError, PlatformError: it could not start.
    """
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def fail(reason: str) -> None:
        if not failed.done():
            failed.set_result(reason)

    ca_file = os.environ.get("SSL_CERT_FILE") or None
    userspace = None
    if options.tun == USERSPACE:
        userspace = Userspace(_native_stack(), now=clock.now, on_failed=fail)
    if userspace is not None or options.proxies:
        _allow_many_files()
    asking = StackDialer(userspace) if userspace is not None else KernelDialer()
    https = HttpsClient(_verifying(ca_file), asking.tcp)
    forwarder = Forwarder(https, random_bytes=os.urandom, dialer=asking)
    names = MagicDns(forwarder, lambda: clock.wall().timestamp())
    ports = ServicePorts({DNS_PORT: names})
    services = Services(ports, _service_stack())
    system = make_system(userspace, services.detach())
    node = Node(
        system,
        _settings(options, ca_file),
        StateFile(options.state, _seal(options.state_key))
        if options.state is not None
        else StateMemory(),
        names,
        now=clock.now,
        wall=clock.wall,
        random_bytes=os.urandom,
        on_failed=fail,
    )
    if userspace is not None:
        userspace.door = node.hosting.peer_api.door
        node.tunnel.pings.dial = asking.tcp
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, node.hang_up)
    dialer = Dialer(_names(node), node.naming.addresses, userspace)
    view = NodeView(
        node,
        version=__version__,
        dial=dialer.connect,
        bypass=system.bypass,
        userspace_drops=userspace.drops if userspace is not None else None,
        service_drops=services.drops,
    )
    manager.follow(node)
    node.answers.count = view.metrics.internal
    site = ServiceSite(view.metrics, lambda: node.netmap.self_node.ips() if node.netmap else ())
    ports.open(HTTP_PORT, site.take)
    # The socket comes before routes: as a lock it keeps a second daemon from touching them.
    parts: list[tuple[str, Service]] = [
        ("service manager", manager),
        ("https", https),
        ("services", services),
        ("localapi", LocalServer(view, options.socket, version=__version__)),
        ("service site", site),
        ("debug site", _debug_site(options.debug, node, view)),
        *([("netstack", userspace)] if userspace is not None else []),
        ("node", node),
        ("hooks", Hooking(node, HookRunner(now=clock.now, make_context=_verifying(ca_file)))),
        ("dialer", dialer),
        ("proxies", ProxyServer(options.proxies, dialer)),
    ]
    return await supervise(
        parts,
        failed=failed,
        ready=manager.ready,
        stopping=manager.stopping,
        failing=node.tunnel.failing,
    )


def _settings(options: Options, ca_file: str | None) -> NodeSettings:
    """Flags and environment; what a user may change while it runs is in the prefs."""
    return NodeSettings(
        tunnel=TunnelSettings(
            port=options.port,
            ca_file=ca_file,
            always_derp=_flag("TS_DEBUG_ALWAYS_USE_DERP"),
            never_direct=_flag("TS_DEBUG_NEVER_DIRECT_UDP"),
            probe_mtu=_choice("TS_DEBUG_ENABLE_PMTUD"),
            offload=offload.choose(os.uname().release, os.environ),
            tun_tcp_gro=not _flag("TS_TUN_DISABLE_TCP_GRO"),
            tun_udp_gro=not _flag("TS_TUN_DISABLE_UDP_GRO"),
            datapath_threads=options.datapath_threads,
            derp_over_http=_flag("TS_DEBUG_USE_DERP_HTTP"),
            map_protocols=_map_protocols(),
        ),
        auth_key=read_auth_key(options.auth_key, _credentials()),
        ca_file=ca_file,
        keep_map=_flag("TS_USE_CACHED_NETMAP", default=True),
        config=ConfigFile(options.config) if options.config else None,
        report_services=_flag("TS_PORTLIST", default=True),
    )


def _debug_site(address: AddrPort | None, node: Node, view: NodeView) -> DebugSite:
    def health() -> tuple[bool, str]:
        lines = [node.state.label, *(warning.text for warning in node.warnings)]
        return node.state is State.RUNNING, "".join(f"{line}\n" for line in lines)

    return DebugSite(address, version=__version__, metrics=view.metrics, health=health)


def to_plain_text(path: Path, state_key: str) -> None:
    """Write an encrypted state file in plain text again; the daemon must not run.

    Raises:
        UserError: it cannot be read or written; it is as it was.
    """
    if not path.exists():
        msg = f"there is no state file {path}"
        raise UserError(msg)
    StateFile(path).save(StateFile(path, _seal(state_key)).load(os.urandom))


def saved_guard(path: Path, state_key: str) -> Guard | None:
    """The kill switch, as the saved settings want it.

    Raises:
        UserError: they cannot be read.
    """
    return guard(StateFile(path, _seal(state_key)).load(os.urandom).prefs)


def _seal(state_key: str) -> Seal | None:
    if not state_key:
        return None
    return read_state_key(state_key, _credentials(), os.urandom)


def _credentials() -> str:
    """Where the service manager put what this service may know; empty if nowhere."""
    return os.environ.get("CREDENTIALS_DIRECTORY", "")


def _native_stack() -> MakeStack:
    """What makes a stack.

    Raises:
        UserError: the extension is not there.
    """
    made = native_stack()
    if made is None:
        msg = (
            "userspace networking needs the native extension; "
            "build it with: make native (needs cargo)"
        )
        raise UserError(msg)
    return made


def _service_stack() -> Callable[[int], ServiceStack]:
    """What makes a stack for our services: the native one if it is there."""
    try:
        from tailnet_native import Netstack  # noqa: PLC0415 - optional
    except ImportError:
        return PlainStack
    return lambda fd: Netstack(fd, max_streams=MAX_CONNECTIONS, max_half_open=MAX_CONNECTIONS)


def _verifying(ca_file: str | None) -> Callable[[], ssl.SSLContext]:
    """Contexts that trust the system's roots and our own."""

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context()
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        return context

    return make


def _names(node: Node) -> Callable[[], Mapping[str, tuple[IPAddress, ...]]]:
    """The tailnet's names, made anew when the network map changes."""
    known: tuple[object, Mapping[str, tuple[IPAddress, ...]]] = None, {}

    def names() -> Mapping[str, tuple[IPAddress, ...]]:
        nonlocal known
        netmap = node.netmap
        if netmap is not known[0]:
            nodes = [netmap.self_node, *netmap.in_order()] if netmap is not None else []
            known = netmap, peer_names([(each.name, each.ips()) for each in nodes])
        return known[1]

    return names


def _allow_many_files() -> None:
    """Two descriptors a connection: as many as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _map_protocols() -> frozenset[Protocol]:
    """What a gateway may be asked in."""
    if _flag("TS_DISABLE_PORTMAPPER"):
        return frozenset()
    return ALL - {Protocol.UPNP} if _flag("TS_DISABLE_UPNP") else ALL


def _flag(name: str, *, default: bool = False) -> bool:
    chosen = _choice(name)
    return default if chosen is None else chosen


def _choice(name: str) -> bool | None:
    text = os.environ.get(name, "").lower()
    return text in {"1", "t", "true", "yes"} if text else None
