"""The conditions that are worth a warning, and what is always true of each.

Source: tailscale health/warnings.go.  Codes are upstream's where upstream has the same condition;
``not-in-map-poll`` shows after one minute, upstream's after eight.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How bad it is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Remedy(NamedTuple):
    """A page that helps, and what to call the way there."""

    label: str
    url: str

    def __str__(self) -> str:
        return f"{self.label}: {self.url}"


@dataclass(frozen=True, slots=True)
class Warnable:
    """Something that can be wrong.

    Attributes:
        code: for programs.
        severity: for sorting.
        title: a few words.
        delay: seconds that it holds before it shows.
        depends_on: codes of warnings that hide this one.
        connectivity: packets are concerned.
        remedy: what control offers; the text ends with it, for those who show nothing but text.
    """

    code: str
    severity: Severity
    title: str
    delay: float = 0.0
    depends_on: tuple[str, ...] = ()
    connectivity: bool = False
    remedy: Remedy | None = None


WARMING_UP = Warnable("warming-up", Severity.LOW, "Starting")
STORE = Warnable("state-store-health", Severity.HIGH, "State not saved", connectivity=True)
CONFIG = Warnable("apply-disk-config", Severity.MEDIUM, "Configuration file")
TURNED_OFF = Warnable("wantrunning-false", Severity.LOW, "Turned off")
LOGIN = Warnable("login-state", Severity.MEDIUM, "Logged out")
NETWORK = Warnable(
    "network-status", Severity.MEDIUM, "No network", 5.0, ("warming-up",), connectivity=True
)
PORTAL = Warnable(
    "captive-portal-detected",
    Severity.HIGH,
    "Captive portal",
    depends_on=("warming-up",),
    connectivity=True,
)
KEPT_MAP = Warnable(
    "using-kept-network-map", Severity.MEDIUM, "Old network map", 0.0, ("warming-up",)
)
CLOCK = Warnable("clock-wrong", Severity.HIGH, "Clock is wrong", connectivity=True)
NOT_IN_MAP_POLL = Warnable(
    "not-in-map-poll",
    Severity.MEDIUM,
    "Out of sync",
    60.0,
    ("warming-up", "network-status", "using-kept-network-map"),
)
MAP_TIMEOUT = Warnable(
    "mapresponse-timeout",
    Severity.MEDIUM,
    "The control server is silent",
    depends_on=("warming-up", "network-status", "using-kept-network-map"),
)
TLS = Warnable(
    "tls-connection-failed",
    Severity.MEDIUM,
    "No encrypted connection",
    depends_on=("warming-up", "network-status"),
)
NO_HOME = Warnable(
    "no-derp-home",
    Severity.MEDIUM,
    "No home relay",
    10.0,
    ("warming-up", "network-status"),
    connectivity=True,
)
NO_RELAY = Warnable(
    "no-derp-connection",
    Severity.MEDIUM,
    "Relay unreachable",
    10.0,
    ("warming-up", "network-status", "no-derp-home"),
    connectivity=True,
)
RELAY_SILENT = Warnable(
    "derp-timed-out",
    Severity.MEDIUM,
    "Relay silent",
    depends_on=("warming-up", "network-status", "no-derp-home", "no-derp-connection"),
)
RELAY_ERROR = Warnable("derp-region-error", Severity.LOW, "Relay reports a problem")
NO_UDP = Warnable(
    "no-udp4-bind",
    Severity.MEDIUM,
    "No UDP",
    depends_on=("warming-up",),
    connectivity=True,
)
PORT = Warnable("udp-port-taken", Severity.LOW, "Another UDP port")
FORWARDING = Warnable(
    "ip-forwarding-off",
    Severity.MEDIUM,
    "Packets not forwarded",
    depends_on=("warming-up",),
    connectivity=True,
)
STRICT_FILTER = Warnable(
    "strict-reverse-path-filter", Severity.MEDIUM, "Answers get lost", connectivity=True
)
FILTER = Warnable("invalid-packet-filter", Severity.HIGH, "Packet filter refused")
EXIT_WITHOUT_SNAT = Warnable(
    "nosnat-with-advertised-exit-node", Severity.MEDIUM, "Exit node without SNAT"
)
CONTAINERS = Warnable(
    "docker-stateful-filtering", Severity.MEDIUM, "Containers may not reach the tailnet"
)
ROUTER = Warnable("router", Severity.HIGH, "Routes not installed", connectivity=True)
FIREWALL = Warnable("firewall", Severity.MEDIUM, "Firewall not set up", connectivity=True)
FOREIGN_RULES = Warnable(
    "foreign-routing-rules", Severity.MEDIUM, "Another program routes first", connectivity=True
)
FOREIGN_FIREWALL = Warnable(
    "foreign-firewall", Severity.MEDIUM, "Another firewall decides", connectivity=True
)
EXIT_NODE = Warnable(
    "exit-node-missing",
    Severity.HIGH,
    "No exit node",
    5.0,
    ("warming-up", "login-state", "wantrunning-false"),
    connectivity=True,
)
KEY_ENDS = Warnable("key-expires-soon", Severity.LOW, "Login ends soon")
DNS_READ = Warnable("dns-read-os-config-failed", Severity.LOW, "DNS settings not read")
DNS_SET = Warnable(
    "dns-set-os-config-failed", Severity.MEDIUM, "DNS settings refused", connectivity=True
)
DNS_OVERWRITTEN = Warnable(
    "resolv-conf-overwritten", Severity.MEDIUM, "DNS settings overwritten", connectivity=True
)
DNS_FORWARD = Warnable(
    "dns-forward-failing",
    Severity.MEDIUM,
    "DNS does not answer",
    15.0,
    ("warming-up", "network-status"),
    connectivity=True,
)
DNS_LOOP = Warnable("dns-loop", Severity.MEDIUM, "DNS goes in a circle", connectivity=True)
PEER_RELAY = Warnable("peer-relay-port", Severity.MEDIUM, "Peer relay not as wanted")
ROUTES_NOT_ACCEPTED = Warnable("accept-routes-off", Severity.LOW, "Routes not accepted")

TABLE = (
    STORE,
    CONFIG,
    WARMING_UP,
    TURNED_OFF,
    LOGIN,
    NETWORK,
    PORTAL,
    KEPT_MAP,
    MAP_TIMEOUT,
    TLS,
    NOT_IN_MAP_POLL,
    CLOCK,
    NO_HOME,
    NO_RELAY,
    RELAY_SILENT,
    RELAY_ERROR,
    NO_UDP,
    PORT,
    FORWARDING,
    EXIT_WITHOUT_SNAT,
    CONTAINERS,
    STRICT_FILTER,
    FILTER,
    ROUTER,
    FIREWALL,
    FOREIGN_RULES,
    FOREIGN_FIREWALL,
    DNS_READ,
    DNS_SET,
    DNS_OVERWRITTEN,
    DNS_FORWARD,
    DNS_LOOP,
    EXIT_NODE,
    KEY_ENDS,
    PEER_RELAY,
    ROUTES_NOT_ACCEPTED,
)
