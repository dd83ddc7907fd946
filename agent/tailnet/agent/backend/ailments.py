"""What is wrong, for people: one function from facts to the conditions that hold, with a text each.

Source: tailscale health/health.go, health/state.go.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tailnet.agent.backend.keptmap import in_words
from tailnet.agent.backend.state import State
from tailnet.agent.backend.warnables import (
    CLOCK,
    CONFIG,
    CONTAINERS,
    DNS_FORWARD,
    DNS_LOOP,
    DNS_OVERWRITTEN,
    DNS_READ,
    DNS_SET,
    EXIT_NODE,
    EXIT_WITHOUT_SNAT,
    FILTER,
    FIREWALL,
    FOREIGN_FIREWALL,
    FOREIGN_RULES,
    FORWARDING,
    KEPT_MAP,
    KEY_ENDS,
    LOGIN,
    MAP_TIMEOUT,
    NETWORK,
    NO_HOME,
    NO_RELAY,
    NO_UDP,
    NOT_IN_MAP_POLL,
    PEER_RELAY,
    PORT,
    PORTAL,
    RELAY_ERROR,
    RELAY_SILENT,
    ROUTER,
    ROUTES_NOT_ACCEPTED,
    STORE,
    STRICT_FILTER,
    TLS,
    TURNED_OFF,
    WARMING_UP,
    Remedy,
    Severity,
    Warnable,
)
from tailnet.agent.control.trouble import Cause
from tailnet.agent.tailcfg.mapping import DisplayMessage, DisplayMessageAction

SEVERITIES = {str(severity): severity for severity in Severity}
CONTROL = "control-health."
CLOCK_WARNING = 86_400.0  # seconds; less is corrected, and few certificates mind
KEY_WARNING = 3 * 86_400.0  # seconds before the end of a login
WARM = 5.0  # seconds after the start of the daemon
MAX_FROM_CONTROL = 100  # messages shown
MAX_URL, MAX_LABEL = 1024, 100  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFacts:
    """What the warnings are derived from.  Texts are empty when all is well.

    Attributes:
        state: the backend's.
        uptime: of the daemon [s].
        want_running: the user wants to be connected.
        registered: there is a login.
        store_problem: the state file could not be written.
        config_problem: the configuration file could not be applied.
        login_problem: why the last attempt to log in failed.
        control_problem: why the map stream ended.
        control_cause: what kind of problem that is, or the one with the login.
        map_age: of the kept map in use, in words.
        clock_off: the control server's clock − ours [s].
        has_network: there is an address to send from, or an answer from anywhere.
        behind_portal: somebody else answers for the relays' web servers.
        has_relays: the network map has some.
        home: our home region, 0 if unknown.
        live_relays: how many are connected.
        relay_silent: the home relay's connection ended for want of a word, and is not back.
        relay_problems: what relays say of themselves, by region.
        has_udp: a UDP socket of IPv4 is bound.
        port_problem: why its port is not the one that the user chose.
        forwarding_problem: why this subnet router does not work.
        exit_without_snat: this exit node leaves the addresses of others as they are.
        strict_filter: answers to our own packets are taken for forged.
        containers_filtered: answers of peers do not reach containers of this host.
        filter_refused: the packet filter cannot be understood.
        router_problem: why the kernel refused the routes.
        firewall_problem: why the kernel refused the firewall.
        foreign_rules: policy rules of others that come before ours.
        foreign_firewall: a firewall whose rules ours cannot overrule.
        key_left: seconds until the login ends by itself; ``None``: never.
        exit_node_missing: the user wants one, and it is not there.
        routes_ignored: peers offer routes that the user does not accept.
        dns_unreadable: why the host's DNS configuration, which is needed, cannot be read.
        dns_refused: why the host's DNS is not configured as it should be.
        dns_overwritten: another program undoes that.
        dns_failing: resolvers that did not answer the last question.
        dns_looping: questions come back to us from the host's own resolvers.
        peer_relay_problem: why the peer relay is not as the user wants it.
        messages: from the control server.
        lines: from an older control server.
    """

    state: State
    uptime: float
    want_running: bool
    registered: bool
    store_problem: str = ""
    config_problem: str = ""
    login_problem: str = ""
    control_problem: str = ""
    control_cause: Cause = Cause.OTHER
    map_age: str = ""
    clock_off: float = 0.0
    has_network: bool = True
    behind_portal: bool = False
    has_relays: bool = True
    home: int = 1
    live_relays: int = 1
    relay_silent: bool = False
    relay_problems: Mapping[int, str]
    has_udp: bool = True
    port_problem: str = ""
    forwarding_problem: str = ""
    exit_without_snat: bool = False
    containers_filtered: bool = False
    strict_filter: bool = False
    filter_refused: bool = False
    router_problem: str = ""
    firewall_problem: str = ""
    foreign_rules: str = ""
    foreign_firewall: str = ""
    key_left: float | None = None
    exit_node_missing: bool = False
    routes_ignored: bool = False
    dns_unreadable: str = ""
    dns_refused: str = ""
    dns_overwritten: str = ""
    dns_failing: str = ""
    dns_looping: bool = False
    peer_relay_problem: str = ""
    messages: Mapping[str, DisplayMessage]
    lines: tuple[str, ...] = ()


def conditions(facts: HealthFacts) -> dict[Warnable, str]:
    """What holds now, each with its text, in the order of the table."""
    f = facts
    wants = f.want_running and f.state is not State.STOPPED
    online = wants and f.state is not State.NEEDS_LOGIN
    logged_out = not online and f.state is State.NEEDS_LOGIN
    lost = f.control_problem or (f.registered and online and f.login_problem)
    complaints = "; ".join(f"region {r}: {text}" for r, text in sorted(f.relay_problems.items()))
    starting = f.state in (State.NO_STATE, State.STARTING)
    holds = {
        STORE: f.store_problem,
        CONFIG: f.config_problem,
        WARMING_UP: wants and starting and f.uptime < WARM and "just started, please wait",
        TURNED_OFF: f.registered and not f.want_running and "turned off; turn it on with: tnet up",
        LOGIN: (logged_out or not f.registered)
        and (f.login_problem or (logged_out and "logged out; log in with: tnet up")),
        NETWORK: wants and not f.has_network and "no network: this machine has no address",
        PORTAL: online
        and f.behind_portal
        and "this network wants a login: open a web page in a browser and follow it",
        KEPT_MAP: online
        and f.map_age
        and f"using a network map from {f.map_age} ago; not in contact with the control server",
        MAP_TIMEOUT: online
        and f.control_cause is Cause.SILENCE
        and "nothing is heard from the control server; asking again",
        TLS: online and f.control_cause is Cause.TLS and lost,
        NOT_IN_MAP_POLL: online and f.control_cause is Cause.OTHER and lost,
        CLOCK: online
        and abs(f.clock_off) > CLOCK_WARNING
        and f"the clock of this machine is {in_words(abs(f.clock_off))} "
        f"{'behind' if f.clock_off > 0 else 'ahead of'} the control server's, so that certificates "
        "are refused; set it, for example with: timedatectl set-ntp true",
        NO_HOME: online and f.has_relays and not f.home and "no relay was found to be near",
        NO_RELAY: online
        and f.has_relays
        and f.home
        and not f.live_relays
        and f"the relay of region {f.home} cannot be reached",
        RELAY_SILENT: online
        and f.relay_silent
        and f"the relay of region {f.home} said nothing for two minutes; connecting again",
        RELAY_ERROR: online and complaints,
        NO_UDP: online
        and not f.has_udp
        and "no UDP port of IPv4 can be used, so peers are reached through relays only",
        PORT: online and f.port_problem,
        FORWARDING: online and f.forwarding_problem,
        EXIT_WITHOUT_SNAT: online
        and f.exit_without_snat
        and "this machine is an exit node, but --snat-subnet-routes is off: "
        "answers to what peers send to the internet do not come back",
        STRICT_FILTER: online
        and f.strict_filter
        and "the reverse path filter is strict and the firewall is not ours, so answers by the "
        "link get lost while an exit node is used; set net.ipv4.conf.*.rp_filter to 2, or: "
        "tnet set --netfilter-mode=on",
        CONTAINERS: online
        and f.containers_filtered
        and "Docker runs here and --stateful-filtering is on: "
        "its containers may not reach peers, nor resolve names",
        FILTER: f.filter_refused
        and "the packet filter of the control server makes no sense; nothing is let in",
        ROUTER: f.router_problem,
        FIREWALL: f.firewall_problem,
        FOREIGN_RULES: online and f.foreign_rules,
        FOREIGN_FIREWALL: online and f.foreign_firewall,
        DNS_READ: online and f.dns_unreadable,
        DNS_SET: f.dns_refused,
        DNS_OVERWRITTEN: f.dns_overwritten,
        DNS_FORWARD: online
        and f.dns_failing
        and f"no answer to a question about a name from {f.dns_failing}",
        DNS_LOOP: online
        and f.dns_looping
        and "a resolver of this host sends our questions back to us, so they are dropped; "
        "it must not use 100.100.100.100",
        EXIT_NODE: online
        and f.exit_node_missing
        and "the exit node is not there, so nothing leaves this machine but to peers; "
        "choose another with: tnet set --exit-node=NAME, or none with: tnet set --exit-node=",
        KEY_ENDS: online
        and f.key_left is not None
        and 0 < f.key_left < KEY_WARNING
        and f"the login of this machine ends in {in_words(f.key_left)}; "
        "renew it with: tnet up --force-reauth",
        PEER_RELAY: online and f.peer_relay_problem,
        ROUTES_NOT_ACCEPTED: f.routes_ignored
        and "Some peers are advertising routes but --accept-routes is false",
    }
    out = {what: text for what, text in holds.items() if isinstance(text, str) and text}
    for number, line in enumerate(f.lines[:MAX_FROM_CONTROL]):
        out[_from_control(f"line-{number}", "", line)] = line
    for name, message in list(f.messages.items())[:MAX_FROM_CONTROL]:
        text = f"{message.title}: {message.text}" if message.title else message.text
        if text:
            what = _from_control(name, message.severity, message.title, message)
            out[what] = f"{text} {what.remedy}" if what.remedy is not None else text
    return out


def _from_control(
    name: str, severity: str, title: str, message: DisplayMessage | None = None
) -> Warnable:
    return Warnable(
        CONTROL + name[:128],
        SEVERITIES.get(severity, Severity.MEDIUM),
        title or "The control server reports a problem",
        connectivity=message is not None and message.impacts_connectivity,
        remedy=None if message is None else _remedy(message.primary_action),
    )


def _remedy(action: DisplayMessageAction | None) -> Remedy | None:
    """Only a page that may be opened counts."""
    if action is None or not action.url.startswith("https://"):
        return None
    if not action.url.isprintable() or " " in action.url or len(action.url) > MAX_URL:
        return None
    return Remedy(action.label[:MAX_LABEL] or "See", action.url)
