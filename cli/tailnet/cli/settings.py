"""Which flag is which pref: for ``up``, ``set``, ``get`` and the revert guard.

Prefs are dictionaries under Go's names, as the LocalAPI has them.

Source: tailscale cmd/tailscale/cli/up.go, prefsFromUpArgs, prefsToFlags, init.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from tailnet.cli.errors import Failure
from tailnet.cli.flags import BOOL, BOOL_OR_LIST
from tailnet.cli.text import clean

F = TypeVar("F", bound=Callable[..., Any])

Prefs = Mapping[str, object]

DEFAULT_SERVER = "https://controlplane.tailscale.com"
SYNONYMS = frozenset(("", DEFAULT_SERVER, "https://login.tailscale.com"))


MODES = ("off", "nodivert", "on")  # the pref is the index
EXIT = "AdvertiseExitNode"  # no pref, but a part of AdvertiseRoutes; see ``expand``
EXIT_ROUTES = ("0.0.0.0/0", "::/0")


def _port(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        msg = f"bad relay server port {clean(text)!r}: it is 0 to 65535, 0 for any, empty for none"
        raise Failure(msg) from None


def _routes(prefs: Prefs) -> list[str]:
    """What is advertised, exit and all, also before :func:`expand`."""
    value = prefs.get("AdvertiseRoutes")
    return list(map(str, value)) if isinstance(value, list | tuple) else []


def _mode(prefs: Prefs) -> str:
    value = prefs.get("NetfilterMode")
    return MODES[value] if isinstance(value, int) and value < len(MODES) else "on"


def _exit_node(prefs: Prefs) -> object:
    auto = prefs.get("AutoExitNode")
    return f"auto:{auto}" if auto else prefs.get("ExitNodeIP") or prefs.get("ExitNodeID") or ""


def _accepts(prefs: Prefs) -> object:
    """Which routes are accepted: whether any are, or what is named; also before :func:`expand`."""
    switch, named = prefs.get("RouteAll"), prefs.get("AcceptRoutes")
    if isinstance(switch, list):
        return switch
    narrowed = switch is True and isinstance(named, list | tuple) and bool(named)
    return list(named) if narrowed and isinstance(named, list | tuple) else switch is True


_SPECIAL: dict[str, Callable[[Prefs], object]] = {
    "accept-routes": _accepts,
    "advertise-exit-node": lambda p: p[EXIT] if EXIT in p else {*EXIT_ROUTES} <= {*_routes(p)},
    "advertise-routes": lambda p: [route for route in _routes(p) if route not in EXIT_ROUTES],
    "exit-node": _exit_node,
    "netfilter-mode": _mode,
}
"""Settings that are not one pref as it is."""


def expand(changes: Prefs, current: Prefs) -> dict[str, object]:
    """The changes as prefs.

    ``EXIT`` is two of the advertised routes, an exit node is three prefs, accepted routes are two.
    ``current`` matters only where :func:`needs_current`.
    """
    out = dict(changes)
    if "ExitNodeID" in out and "ExitNodeIP" not in out:
        text = str(out["ExitNodeID"] or "")
        auto = text[5:] if text.startswith("auto:") else ""
        ip = text if re.fullmatch(r"[0-9.]+|[0-9a-fA-F.]*:[0-9a-fA-F:.]*", text) else ""
        name = "" if auto or ip else text
        out |= {"ExitNodeID": name, "ExitNodeIP": ip, "AutoExitNode": auto}
    if "RouteAll" in out:
        named = out["RouteAll"]
        only = named if isinstance(named, list) else []
        out |= {"RouteAll": bool(named), "AcceptRoutes": only}
    if EXIT not in out and "AdvertiseRoutes" not in out:
        return out
    offers = out.pop(EXIT, {*EXIT_ROUTES} <= {*_routes(current)})
    routes = _routes(out if "AdvertiseRoutes" in out else current)
    if EXIT in changes:
        routes = [route for route in routes if route not in EXIT_ROUTES]
    routes += [r for r in EXIT_ROUTES if r not in routes] if offers is True else []
    return {**out, "AdvertiseRoutes": routes}


def needs_current(changes: Prefs) -> bool:
    """Whether what is advertised now matters."""
    return EXIT in changes or "AdvertiseRoutes" in changes


@dataclass(frozen=True, slots=True)
class Setting:
    """One flag and the pref it owns.

    Attributes:
        flag: its name, without dashes.
        pref: the field of Prefs.
        default: as the pref; its type says how the flag is read: a tuple is a comma-separated list.
        help: one line.
        metavar: what stands for the value in help.
        in_set: ``tnet set`` has it too.
        inverted: the pref says the opposite.
    """

    flag: str
    pref: str
    default: bool | str | tuple[()]
    help: str
    metavar: str = ""
    in_set: bool = True
    inverted: bool = False

    @property
    def parameter(self) -> str:
        """Name of the keyword argument that click passes."""
        return self.flag.replace("-", "_")

    def from_flag(self, value: object) -> object:
        """The pref's value for a flag's.

        Raises:
            Failure: not of its form, where the daemon has no word for that.
        """
        if isinstance(self.default, bool):  # or a list, where that is a value, too
            return not value if self.inverted else value
        if self.flag == "netfilter-mode":
            return MODES.index(str(value)) if value in MODES else len(MODES)
        text = str(value).strip()
        if self.flag == "relay-server-port":
            return _port(text) if text else None
        if isinstance(self.default, str):
            return text
        parts = [part for item in text.split(",") if (part := item.strip())]
        if self.flag == "advertise-tags":
            parts = [part if part.startswith("tag:") else f"tag:{part}" for part in parts]
        return list(dict.fromkeys(parts))

    def of(self, prefs: Prefs) -> object:
        """The value in ``prefs``, in one form for comparison."""
        value = prefs.get(self.pref)
        if self.flag == "login-server":
            url = str(value or "").rstrip("/")
            return DEFAULT_SERVER if url in SYNONYMS else url
        if self.flag in _SPECIAL:
            return _SPECIAL[self.flag](prefs)
        if self.inverted and value is not None:
            return not value
        if isinstance(self.default, tuple):
            return list(value) if isinstance(value, list | tuple) else []
        return self.default if value is None else value

    def wish(self, prefs: Prefs) -> object:
        """The value in ``prefs`` as a change of the pref."""
        value = self.of(prefs)
        return self.from_flag(value) if self.inverted or self.flag == "netfilter-mode" else value

    def show(self, prefs: Prefs) -> str:
        """The value in ``prefs`` as it would be given to the flag."""
        value = self.of(prefs)
        if isinstance(value, bool):
            return "true" if value else "false"
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)

    def argument(self, prefs: Prefs) -> str:
        """The whole flag, for a command line to copy."""
        import shlex  # noqa: PLC0415 - seldom needed

        if isinstance(self.of(prefs), bool):
            return f"--{self.flag}" if self.of(prefs) is True else f"--{self.flag}=false"
        return f"--{self.flag}={shlex.quote(self.show(prefs)) if self.show(prefs) else ''}"


SETTINGS = (
    Setting(
        "login-server", "ControlURL", DEFAULT_SERVER, "Base URL of the control server.", "URL",
        in_set=False,
    ),
    Setting(
        "accept-routes", "RouteAll", False,
        "Accept routes that other nodes advertise; or of these CIDRs, peer:NAME, tag:NAME only.",
        "true|false|ITEMS",
    ),
    Setting("accept-dns", "CorpDNS", True, "Accept DNS configuration from the admin panel."),
    Setting("hostname", "Hostname", "", "Hostname to use instead of the one the OS has.", "NAME"),
    Setting(
        "advertise-routes", "AdvertiseRoutes", (),
        "Routes to advertise to other nodes (comma-separated, 10.0.0.0/8,192.168.0.0/24).", "CIDRS",
    ),
    Setting(
        "advertise-tags", "AdvertiseTags", (),
        "Tags to request (comma-separated, tag:eng,tag:ssh).", "TAGS", in_set=False,
    ),
    Setting(
        "advertise-exit-node", EXIT, False, "Offer to be an exit node for traffic to the internet.",
    ),
    Setting(
        "exit-node", "ExitNodeID", "",
        "Exit node for traffic to the internet (NAME, IP or auto:any), or empty for none.", "NODE",
    ),
    Setting(
        "exit-node-allow-lan-access", "ExitNodeAllowLANAccess", False,
        "Reach the local network directly while using an exit node.",
    ),
    Setting(
        "snat-subnet-routes", "NoSNAT", True,
        "Hosts behind this subnet router see its address as the source.", inverted=True,
    ),
    Setting(
        "stateful-filtering", "NoStatefulFiltering", False,
        "Let hosts behind this subnet router answer, but not begin.", inverted=True,
    ),
    Setting(
        "netfilter-mode", "NetfilterMode", "on",
        "How the firewall is set up (on, nodivert or off).", "MODE",
    ),
    Setting("shields-up", "ShieldsUp", False, "Do not allow incoming connections."),
    Setting("operator", "OperatorUser", "", "Unix user who may run tnet without sudo.", "USER"),
)  # fmt: skip

NICKNAME = Setting(
    "nickname", "ProfileName", "", "Short name for this account, as in: tnet switch NAME.", "NAME"
)  # fmt: skip
"""The account's own: ``login`` and ``set`` have it, and ``up`` leaves it alone."""

PATHS = (
    Setting(
        "kill-switch", "KillSwitch", False,
        "Let nothing leave this machine but through the tunnel, even while tailnetd does not run.",
    ),
    Setting(
        "keep-network-map", "NoKeptMap", True,
        "Keep the last network map on disk, for a start without the control server.", inverted=True,
    ),
    Setting(
        "path-policy", "PathPolicy", (),
        "Ways to peers that are allowed (comma-separated, PEER=direct-only|relay-only|auto).",
        "POLICIES",
    ),
    Setting(
        "endpoint-interfaces", "EndpointInterfaces", (),
        "Interfaces whose addresses peers are told (comma-separated, +eth*: only, -docker*: not).",
        "PATTERNS",
    ),
    Setting(
        "static-endpoints", "StaticEndpoints", (),
        "Addresses to tell peers besides those found (comma-separated, IP:PORT).", "ADDRS",
    ),
)  # fmt: skip
"""Of this machine and its network; ``up`` leaves them alone."""

RELAY = (
    Setting(
        "relay-server-port", "RelayServerPort", "",
        "UDP port on which this machine relays for peers (0: any, empty: it does not).", "PORT",
    ),
    Setting(
        "relay-server-static-endpoints", "RelayServerStaticEndpoints", (),
        "Addresses of the peer relay besides those found (comma-separated, IP:PORT).", "ADDRS",
    ),
)  # fmt: skip
"""Being a relay for others; ``up`` leaves them alone."""

SETTABLE = (*(setting for setting in SETTINGS if setting.in_set), NICKNAME, *PATHS, *RELAY)
"""What ``set`` changes."""


FORWARD = "enable-ip-forwarding"
"""A flag of ``up`` and ``set`` that is no pref."""

OFFERS = frozenset({"advertise-routes", "advertise-exit-node", FORWARD})
"""Flags after which it is looked whether what is offered works."""


REMINDERS = {
    "off": "netfilter mode off: let in tunnel and UDP port, forward and masquerade yourself",
    "nodivert": "netfilter mode nodivert: jump to ts-input, ts-forward and, in nat, ts-postrouting "
    "yourself",
}
"""What is left to the user with these values of ``netfilter-mode``."""


def options(settings: tuple[Setting, ...]) -> Callable[[F], F]:
    """Add the flags of ``settings`` to a command."""

    def decorate(function: F) -> F:
        for setting in reversed(settings):
            kind: Any = BOOL if isinstance(setting.default, bool) else str
            if setting.flag == "accept-routes":
                kind = BOOL_OR_LIST
            default = "" if isinstance(setting.default, tuple) else setting.default
            function = click.option(
                f"--{setting.flag}",
                type=kind,
                default=default,
                metavar=setting.metavar,
                help=setting.help,
            )(function)
        return function

    return decorate


def wishes(
    settings: tuple[Setting, ...], values: Mapping[str, object], given: Mapping[str, str]
) -> dict[str, object]:
    """Prefs of the flags that were given."""
    return {
        setting.pref: setting.from_flag(values[setting.parameter])
        for setting in settings
        if setting.flag in given
    }
