"""A backend for the LocalAPI without any network behind it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.backend.loginprofile import LoginProfile
from tailnet.agent.backend.prefs import Prefs, apply_masked, to_json, toggle_exit_node, validate
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.wishes import Wish
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.bus import Bus, Subscription
from tailnet.agent.localapi.interface import RecordsChange
from tailnet.agent.localapi.schema.bus import INITIAL_PREFS, INITIAL_STATE, Notify
from tailnet.agent.localapi.schema.experiments import DialTry, EndpointChange, RegionReport
from tailnet.agent.localapi.schema.names import DNSOSConfig, DNSQueryAnswer
from tailnet.agent.localapi.schema.network import NetcheckReport, RouteEntry
from tailnet.agent.localapi.schema.paths import (
    PathDetails,
    PeerRelayClient,
    PeerRelaySession,
    PeerRelaySessions,
    PingResult,
)
from tailnet.agent.localapi.schema.status import STATES, Status
from tailnet.agent.netstack.interface import Connection
from tailnet.agent.portmap.interface import Network, Protocol
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import Node
from tailnet.agent.trace.facts import Facts


class Streamed:
    """A stream that stays open."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._said = False

    async def read(self) -> bytes:
        """Something, then nothing for a long time."""
        if self._said:
            await self.closed.wait()
            return b""
        self._said = True
        return b"packets"

    def close(self) -> None:
        """Tell the test."""
        self.closed.set()


@dataclass
class FakeProcess:
    """Keeps what it is told."""

    calls: list[tuple[object, ...]] = field(default_factory=list)

    def shutdown(self) -> None:
        """Not for real."""
        self.calls.append(("shutdown",))

    def tasks(self) -> str:
        """None."""
        return "no tasks"

    async def processor_profile(self, seconds: float) -> bytes:
        """None."""
        self.calls.append(("profile", seconds))
        return b"time"

    async def memory_profile(self, seconds: float) -> bytes:
        """None."""
        self.calls.append(("heap", seconds))
        return b"memory"

    def note(self, text: str) -> None:
        """Keep it."""
        self.calls.append(("note", text))

    def log_in_detail(self, component: str, seconds: int) -> None:
        """One component exists."""
        if component != "magicsock":
            msg = f"unknown component {component!r}"
            raise UserError(msg)
        self.calls.append(("log", component, seconds))

    def logtap(self) -> Streamed:
        """A stream that stays open."""
        return Streamed()


@dataclass
class FakeExperiments:
    """Keeps what is tried; ``bus`` is the backend's."""

    bus: Bus
    calls: list[tuple[object, ...]] = field(default_factory=list)
    changes: tuple[EndpointChange, ...] = ()
    streams: "list[Streamed]" = field(default_factory=list)

    def uses_mark(self) -> bool:
        """It does."""
        return True

    def endpoint_changes(self, ip: IPAddress) -> tuple[EndpointChange, ...]:
        """The prepared ones, of one peer."""
        if str(ip) != "100.64.0.2":
            msg = f"no peer has the address {ip}"
            raise UserError(msg)
        return self.changes

    async def dial_types(self, to: AddrPort) -> tuple[DialTry, ...]:
        """One works, one does not."""
        self.calls.append(("dial", str(to)))
        return DialTry("SystemDial", ""), DialTry("PeerDial", "connection refused")

    async def derp_region(self, name: str) -> RegionReport:
        """There is one."""
        self.calls.append(("derp", name))
        if name != "lab":
            return RegionReport(errors=(f"the network map has no region {name!r}",))
        return RegionReport(info=("region 900 is 'lab'",), warnings=("it is the only region",))

    def portmap(
        self, seconds: float, protocols: frozenset[Protocol], network: Network | None
    ) -> Streamed:
        """A stream that stays open."""
        names = tuple(sorted(protocol.value for protocol in protocols))
        self.calls.append(("portmap", seconds, names, network))
        self.streams.append(Streamed())
        return self.streams[-1]

    def rotate_disco_key(self) -> None:
        """Only noted."""
        self.calls.append(("rotate",))

    def force_home(self, region: int | None) -> None:
        """Only noted."""
        self.calls.append(("home", region))

    def pick_home(self) -> None:
        """There is no other."""
        msg = "there is no other region"
        raise UserError(msg)

    def notify(self, notify: Notify) -> None:
        """As the real one."""
        self.bus.publish(notify)


class FakeMetrics:
    """One of each."""

    async def user(self) -> str:
        """For everybody."""
        return "tailscaled_health_messages 0\n"

    async def internal(self) -> str:
        """For the few."""
        return "process_open_fds 7\n"


@dataclass
class FakeBackend:
    """Keeps what it is told; ``on_start`` plays the control server."""

    about: Status = field(default_factory=lambda: Status(backend_state="Stopped"))
    current: Prefs = field(default_factory=lambda: Prefs(logged_out=False))
    not_forwarding: str = ""
    slow_udp: str = ""
    bus: Bus = field(default_factory=Bus)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    pings: list[PingResult] = field(default_factory=list)
    about_path: PathDetails | None = None
    dns_before: DNSOSConfig | str = field(default_factory=DNSOSConfig)  # text: it is refused
    dns_answer: DNSQueryAnswer = field(default_factory=DNSQueryAnswer)
    route_entries: dict[str | None, tuple[RouteEntry, ...]] = field(default_factory=dict)
    calls: list[tuple[object, ...]] = field(default_factory=list)
    accounts: list[LoginProfile] = field(default_factory=list)
    chosen: str = ""
    process: FakeProcess = field(default_factory=FakeProcess)
    known: NetworkMap | None = None
    looked_at: Facts | None = None
    relays: DERPMap = field(default_factory=DERPMap)
    measured: NetcheckReport = field(default_factory=NetcheckReport)
    streams: "list[Streamed]" = field(default_factory=list)
    experiments: FakeExperiments = field(init=False)
    on_start: Callable[[], None] = lambda: None
    on_dial: Callable[[str, int], Connection] | None = None

    def __post_init__(self) -> None:
        """Whoever watches hears of notifications."""
        self.experiments = FakeExperiments(self.bus)

    async def status(self, peers: bool) -> Status:
        """What the test put there."""
        self.calls.append(("status", peers))
        return self.about

    def prefs(self) -> Prefs:
        """What was set."""
        return self.current

    async def edit_prefs(self, masked: Mapping[str, object]) -> Prefs:
        """As the real one."""
        prefs = apply_masked(self.current, masked)
        validate(prefs)
        self.calls.append(("edit", {k: v for k, v in masked.items() if not k.endswith("Set")}))
        self.current = prefs
        return prefs

    async def use_exit_node(self, enabled: bool) -> Prefs:
        """As the real one."""
        self.current = toggle_exit_node(self.current, enabled=enabled)
        return self.current

    async def start(self, update_prefs: Mapping[str, object] | None, auth_key: str) -> None:
        """Keep the prefs and say so."""
        whole = update_prefs or {}
        self.current = apply_masked(self.current, {**whole, **{f"{n}Set": True for n in whole}})
        self.calls.append(("start", auth_key))
        self.bus.publish(Notify(prefs=to_json(self.current)))
        self.on_start()

    def trace_facts(self) -> Facts:
        """What the test put there."""
        if self.looked_at is None:
            raise NotImplementedError
        return self.looked_at

    def netmap(self) -> NetworkMap | None:
        """What the test put there."""
        return self.known

    def suggested_exit_node(self) -> Node | None:
        """Any that offers it."""
        return None if self.known is None else next(iter(self.known.exit_nodes()), None)

    def derp_map(self) -> DERPMap:
        """As told."""
        return self.relays

    async def netcheck(self, address: str, port: int) -> NetcheckReport:
        """As told."""
        self.calls.append(("netcheck", address, port))
        if not self.relays.regions:
            msg = "no relays are known: connect this machine first, with: tnet up"
            raise UserError(msg)
        return self.measured

    def capture(self) -> "Streamed":
        """One piece, then nothing until it is closed."""
        self.calls.append(("capture",))
        if self.streams and not self.streams[-1].closed.is_set():
            msg = "a capture is running already; only one can"
            raise UserError(msg)
        self.streams.append(Streamed())
        return self.streams[-1]

    async def login_interactive(self) -> None:
        """Only noted."""
        self.calls.append(("login-interactive",))

    async def logout(self) -> None:
        """Only noted."""
        self.calls.append(("logout",))

    def profiles(self) -> tuple[LoginProfile, ...]:
        """What the test put there."""
        return tuple(self.accounts)

    def profile(self) -> LoginProfile:
        """The chosen one."""
        return next((p for p in self.accounts if p.id == self.chosen), LoginProfile())

    async def new_profile(self) -> None:
        """Empty prefs, and no account chosen."""
        self.calls.append(("new-profile",))
        self.chosen, self.current = "", Prefs()

    async def switch_profile(self, profile_id: str) -> None:
        """Only noted."""
        self.calls.append(("switch", profile_id))
        if all(p.id != profile_id for p in self.accounts):
            msg = f"there is no profile {profile_id!r}"
            raise UserError(msg)
        self.chosen = profile_id

    async def delete_profile(self, profile_id: str) -> None:
        """Gone."""
        self.calls.append(("delete", profile_id))
        self.accounts = [p for p in self.accounts if p.id != profile_id]

    async def ping(self, ip: IPAddress, kind: str, size: int) -> PingResult:
        """The next prepared answer."""
        self.calls.append(("ping", str(ip), kind, size))
        return self.pings.pop(0) if self.pings else PingResult(ip=str(ip), err="no answer")

    def forwarding_problem(self) -> str:
        """As the test says."""
        return self.not_forwarding

    def udp_gro_problem(self) -> str:
        """As the test says."""
        return self.slow_udp

    def set_udp_gro(self) -> str:
        """As the test says."""
        self.calls.append(("set_udp_gro",))
        return self.slow_udp

    def routes(self, accept: str | None) -> tuple[RouteEntry, ...]:
        """The prepared ones."""
        self.calls.append(("routes", accept))
        return self.route_entries.get(accept, ())

    async def dns_osconfig(self) -> DNSOSConfig:
        """The prepared one."""
        if isinstance(self.dns_before, DNSOSConfig):
            return self.dns_before
        raise UserError(self.dns_before)

    async def dns_query(self, name: str, qtype: int) -> DNSQueryAnswer:
        """The prepared one, if any."""
        self.calls.append(("dns-query", name, qtype))
        return self.dns_answer

    def peer_relay_sessions(self) -> PeerRelaySessions:
        """One."""
        ends = [
            PeerRelayClient(endpoint=f"192.0.2.{n}:41641", short_disco=f"d:{n}", packets_tx=n)
            for n in (1, 2)
        ]
        session = PeerRelaySession(vni=7, client1=ends[0], client2=ends[1])
        return PeerRelaySessions(udp_port=7000, sessions=(session,))

    def paths(self) -> tuple[PathDetails, ...]:
        """The prepared one, if any."""
        return (self.about_path,) if self.about_path else ()

    def path(self, ip: IPAddress) -> PathDetails:
        """The prepared one."""
        self.calls.append(("path", str(ip)))
        if self.about_path is None:
            msg = f"no peer has the address {ip}"
            raise UserError(msg)
        return self.about_path

    async def change_dns_records(self, change: RecordsChange) -> Prefs:
        """As the real one."""
        records = change(self.current.dns_records or ())
        self.current = msgspec.structs.replace(self.current, dns_records=records)
        validate(self.current)
        return self.current

    async def ask_control(self, wish: Wish) -> dict[str, object]:
        """Only noted."""
        self.calls.append(("ask", wish.path, wish.body))
        return {}

    async def expire_sooner(self, at: datetime) -> None:
        """Only noted."""
        self.calls.append(("expire", at))

    async def disconnect_control(self) -> None:
        """Only noted."""
        self.calls.append(("disconnect",))

    async def reset_auth(self) -> None:
        """Only noted."""
        self.calls.append(("reset",))

    def bugreport(self, note: str, *, diagnose: bool) -> str:
        """Always the same."""
        self.calls.append(("bugreport", note, diagnose))
        return f"BUG-{'0' * 64}-20260102030405Z-{'1' * 16}"

    async def reload_config(self) -> bool:
        """Only noted."""
        self.calls.append(("reload-config",))
        return True

    async def debug(self, action: str) -> object:
        """Some actions have an answer, one has none."""
        self.calls.append(("debug", action))
        if action == "drops":
            return {"packets": {"in_unknown": 12, "in_forged": 3}, "relays": {}}
        answers: dict[str, object] = {
            "plan": {"Peers": []},
            "peer-relay-servers": ["100.64.0.9"],
            "ts2021": ["0.001 s: the server's key is mkey:0", "0.002 s: a Noise connection to x"],
            "netmon": {
                "DefaultV4": "eth0",
                "DefaultV6": "",
                "Interfaces": {"eth0": {"Up": True, "Addrs": ["192.0.2.2/24"]}},
                "Events": [
                    {
                        "Number": 1,
                        "At": "2026-01-01T00:00:00.000+00:00",
                        "Change": "first",
                        "Reason": "this is how it is",
                        "Slept": 0.0,
                    }
                ],
            },
            "portmap": {
                "UPnP": True,
                "PMP": False,
                "PCP": None,
                "External": "198.51.100.1:41641",
                "Ignored": {"short": 2},
            },
        }
        return answers.get(action)

    async def dial(self, host: str, port: int) -> Connection:
        """What the test makes of it."""
        self.calls.append(("dial", host, port))
        if self.on_dial is None:
            msg = f"{host}:{port}: connection refused"
            raise UserError(msg)
        return self.on_dial(host, port)

    async def watch(self, mask: int, session_id: str) -> Subscription:
        """With state and prefs first, if asked."""
        state = STATES.index(self.about.backend_state)
        first = Notify(
            session_id=session_id,
            state=state if mask & INITIAL_STATE else None,
            prefs=to_json(self.current) if mask & INITIAL_PREFS else None,
        )
        return self.bus.watch(mask, [first])

    def operator(self) -> str:
        """From prefs."""
        return self.current.operator_user
