"""What the LocalAPI needs of the node: the port that its view implements."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.backend.loginprofile import LoginProfile
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.wishes import Wish
from tailnet.agent.localapi.bus import Subscription
from tailnet.agent.localapi.schema.bus import Notify
from tailnet.agent.localapi.schema.experiments import DialTry, EndpointChange, RegionReport
from tailnet.agent.localapi.schema.names import DNSOSConfig, DNSQueryAnswer
from tailnet.agent.localapi.schema.network import NetcheckReport, RouteEntry
from tailnet.agent.localapi.schema.paths import PathDetails, PeerRelaySessions, PingResult
from tailnet.agent.localapi.schema.status import Status
from tailnet.agent.netstack.interface import Connection
from tailnet.agent.portmap.interface import Network
from tailnet.agent.portmap.interface import Protocol as MapProtocol
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import Node
from tailnet.agent.trace.facts import Facts


class Stream(Protocol):
    """Bytes for as long as somebody reads them."""

    async def read(self) -> bytes:
        """More; empty at the end."""

    def close(self) -> None:
        """No more is wanted.  Idempotent."""


class Process(Protocol):
    """What the LocalAPI needs of the process."""

    def shutdown(self) -> None:
        """End as after SIGTERM, once this request is answered."""

    def tasks(self) -> str:
        """Stacks of all tasks and threads."""

    async def processor_profile(self, seconds: float) -> bytes:
        """Where time goes, for ``go tool pprof``.

        Raises:
            UserError: there is a profile already.
        """

    async def memory_profile(self, seconds: float) -> bytes:
        """What memory is used for; with ``seconds`` of what is asked for within them.

        Raises:
            UserError: there is a profile already.
        """

    def note(self, text: str) -> None:
        """A line of another program, into the log."""

    def log_in_detail(self, component: str, seconds: int) -> None:
        """Log one component in detail for so long; 0 ends that.

        Raises:
            UserError: there is none of that name.
        """

    def logtap(self) -> Stream:
        """The log from now on."""


class Experiments(Protocol):
    """What is tried out on request, beside what the node does."""

    def uses_mark(self) -> bool:
        """The daemon's own packets have a mark that keeps them out of the tunnel."""

    def endpoint_changes(self, ip: IPAddress) -> tuple[EndpointChange, ...]:
        """How the way to a peer changed, oldest first.

        Raises:
            UserError: there is no such peer.
        """

    async def dial_types(self, to: AddrPort) -> tuple[DialTry, ...]:
        """Connect in each way there is, all at once, and hang up."""

    async def derp_region(self, name: str) -> RegionReport:
        """Try the relays of a region, by number or code."""

    def portmap(
        self, seconds: float, protocols: frozenset[MapProtocol], network: Network | None
    ) -> Stream:
        """Ask the router for a port that nobody needs; ``network`` in place of the system's."""

    def rotate_disco_key(self) -> None:
        """Find paths by another key from now on."""

    def force_home(self, region: int | None) -> None:
        """Have this home region, or none if 0; ``None``: the one that serves best."""

    def pick_home(self) -> None:
        """Have another home region for a while.

        Raises:
            UserError: there is none.
        """

    def notify(self, notify: Notify) -> None:
        """Tell everybody who watches."""


RecordsChange = Callable[[tuple[str, ...]], tuple[str, ...]]
"""From the names of this host to others, as text; raises :class:`UserError` if it cannot be."""


class Metrics(Protocol):
    """Prometheus text."""

    async def user(self) -> str:
        """Of the node, for everybody."""

    async def internal(self) -> str:
        """With that of the process, for those who debug it."""


class Backend(Protocol):
    """What the LocalAPI needs of the node."""

    @property
    def process(self) -> Process:
        """The process that the node lives in."""

    @property
    def experiments(self) -> Experiments:
        """What is tried out."""

    @property
    def metrics(self) -> Metrics:
        """What is counted."""

    async def status(self, peers: bool) -> Status:
        """A snapshot; ``peers`` false leaves ``Peer`` and ``User`` out."""

    def prefs(self) -> Prefs:
        """The current prefs."""

    async def edit_prefs(self, masked: Mapping[str, object]) -> Prefs:
        """Apply, validate and store a ``MaskedPrefs`` object; returns the new prefs.

        Raises:
            UserError: refused; nothing changed.
        """

    async def use_exit_node(self, enabled: bool) -> Prefs:
        """Use no exit node, or the last one again.

        Raises:
            UserError: there is no last one; nothing changed.
        """

    async def start(self, update_prefs: Mapping[str, object] | None, auth_key: str) -> None:
        """Store the given prefs, and log in with ``auth_key`` if not empty.

        ``update_prefs`` has settable fields only, unmasked; those that are absent stay.

        Raises:
            UserError: refused; nothing changed.
        """

    async def login_interactive(self) -> None:
        """Ask control for a login URL; it arrives on the bus."""

    async def logout(self) -> None:
        """Expire the node key and forget the login."""

    def profiles(self) -> tuple[LoginProfile, ...]:
        """All accounts, newest first."""

    def profile(self) -> LoginProfile:
        """The one in use; without id before its login is complete."""

    async def new_profile(self) -> None:
        """Use a new, empty account.

        Raises:
            UserError: refused; nothing changed.
        """

    async def switch_profile(self, profile_id: str) -> None:
        """Use another account.

        Raises:
            UserError: there is none of that id, or it cannot be used; nothing changed.
        """

    async def delete_profile(self, profile_id: str) -> None:
        """Forget an account and its keys; if it is in use, a new, empty one is.

        Raises:
            UserError: there is none of that id; nothing changed.
        """

    async def ping(self, ip: IPAddress, kind: str, size: int) -> PingResult:
        """One ping; waits for the answer as long as makes sense, then says so in ``err``.

        Raises:
            UserError: a ``kind`` that does not exist yet.
        """

    def paths(self) -> tuple[PathDetails, ...]:
        """The ways to all peers, in short."""

    def path(self, ip: IPAddress) -> PathDetails:
        """The ways to one peer.

        Raises:
            UserError: there is no such peer.
        """

    def trace_facts(self) -> Facts:
        """What a trace looks at, of this moment."""

    def peer_relay_sessions(self) -> PeerRelaySessions:
        """Peers for which this machine relays now."""

    def forwarding_problem(self) -> str:
        """Why the routes of this machine do not work; without any, why an exit would not."""

    def udp_gro_problem(self) -> str:
        """What makes UDP that this machine forwards slow."""

    def set_udp_gro(self) -> str:
        """Make UDP quick that this machine forwards; why it cannot be, empty if it is."""

    def routes(self, accept: str | None) -> tuple[RouteEntry, ...]:
        """Every route that somebody offers, and what becomes of it.

        ``accept``: as if that were the setting: true, false, or items of ``AcceptRoutes`` with
        commas between them.

        Raises:
            UserError: ``accept`` is wrong.
        """

    def netmap(self) -> NetworkMap | None:
        """The network as control described it last."""

    def suggested_exit_node(self) -> Node | None:
        """What ``auto:any`` would be now; ``None``: there is none."""

    async def reload_config(self) -> bool:
        """Read the configuration file again; false if there is none.

        Raises:
            UserError: it says something wrong; nothing changed.
        """

    async def dns_osconfig(self) -> DNSOSConfig:
        """How the host resolved names before us.

        Raises:
            UserError: it cannot be read.
        """

    async def dns_query(self, name: str, qtype: int) -> DNSQueryAnswer:
        """Ask our resolver, as a program of the host would.

        Raises:
            UserError: that is no name.
        """

    async def change_dns_records(self, change: RecordsChange) -> Prefs:
        """Have other names of this host.

        Raises:
            UserError: refused; nothing changed.
        """

    async def ask_control(self, wish: Wish) -> dict[str, object]:
        """Ask the control server for something; its answer.

        Raises:
            UserError: it refuses, or cannot be reached.
        """

    async def expire_sooner(self, at: datetime) -> None:
        """Let the node key end earlier.

        Raises:
            UserError: the control server refuses, or cannot be reached.
        """

    async def disconnect_control(self) -> None:
        """Leave the control server alone until the next login or start."""

    async def reset_auth(self) -> None:
        """Forget every account and the machine's key."""

    def bugreport(self, note: str, *, diagnose: bool) -> str:
        """A marker, which is in the log as well, with ``note``."""

    async def debug(self, action: str) -> object:
        """One of ``DEBUG_ACTIONS``: a tree for JSON, or ``None`` where there is nothing to say."""

    async def dial(self, host: str, port: int) -> Connection:
        """Connect by name or address, into the tailnet or elsewhere.

        Raises:
            UserError: no name, no way, no answer.
        """

    def derp_map(self) -> DERPMap:
        """The relays there are; none before the first network map."""

    async def netcheck(self, address: str, port: int) -> NetcheckReport:
        """Measure the network, from ``address`` and ``port`` if given.

        Raises:
            UserError: there is no map of relays, or no sending from there.
        """

    def capture(self) -> Stream:
        """Begin to copy packets, as pcapng.

        Raises:
            UserError: there is a capture already.
        """

    async def watch(self, mask: int, session_id: str) -> Subscription:
        """Begin a watch; the first message has what the mask's Initial bits ask for.

        ``session_id``: 16 hex digits, random.
        """

    def operator(self) -> str:
        """Name of the local user who may write besides root; empty if none."""
