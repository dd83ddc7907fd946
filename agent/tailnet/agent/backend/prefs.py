"""What the user wants: ``Prefs``, masked edits of them, and what is refused.

On the wire and on disk the names are Go's; every field is always written, since Go reads an absent
one as false.

Source: tailscale ipn/prefs.go.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import field

from tailnet.agent.addr import VIA, IPNetwork, unmap_via
from tailnet.agent.backend import pathprefs
from tailnet.agent.backend.acceptance import parse_acceptance
from tailnet.agent.backend.spelling import MAX_TEXT, check_hostname, check_tag, parse_prefix
from tailnet.agent.dns.own import parse_own
from tailnet.agent.errors import UserError

DEFAULT_CONTROL_URL = "https://controlplane.tailscale.com"
MAX_SITE = 0xFFFF  # of 4via6
LOGIN_SYNONYM = "https://login.tailscale.com"
NETFILTER_ON = 2  # 0 off, 1 nodivert

MAX_LIST = 1024  # routes or tags


class AutoUpdatePrefs(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """``apply`` is unset, on or off."""

    check: bool = True
    apply: bool | None = None


class AppConnectorPrefs(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Whether this node offers to be an app connector."""

    advertise: bool = False


class Prefs(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The user's wishes for one login.

    The defaults are those of a new login.  ``control_url`` empty means the built-in default;
    ``advertise_routes`` are prefixes as text, ``advertise_tags`` have their ``tag:``.  ``sync``,
    ``no_stateful_filtering`` and ``AutoUpdate.Apply`` have a third value, unset.

    The last seven are ours, see :mod:`tailnet.agent.backend.pathprefs`; ``kill_switch``: nothing
    leaves this host but through the tunnel, whether the daemon runs or not; ``no_kept_map``: the
    last network map is not kept on disk; ``accept_routes``
    narrows ``route_all``, see :mod:`tailnet.agent.backend.acceptance`; ``dns_records`` are names
    of this host, see :mod:`tailnet.agent.dns.own`.
    """

    control_url: str = field(default="", name="ControlURL")
    route_all: bool = False
    exit_node_id: str = field(default="", name="ExitNodeID")
    exit_node_ip: str = field(default="", name="ExitNodeIP")
    auto_exit_node: str = ""
    internal_exit_node_prior: str = ""
    exit_node_allow_lan_access: bool = field(default=False, name="ExitNodeAllowLANAccess")
    corp_dns: bool = field(default=True, name="CorpDNS")
    run_ssh: bool = field(default=False, name="RunSSH")
    run_web_client: bool = False
    want_running: bool = False
    logged_out: bool = True
    shields_up: bool = False
    advertise_tags: tuple[str, ...] | None = None
    hostname: str = ""
    notepad_urls: bool = field(default=False, name="NotepadURLs")
    force_daemon: bool = False
    egg: bool = False
    advertise_routes: tuple[str, ...] | None = None
    advertise_services: tuple[str, ...] | None = None
    sync: bool | None = None
    no_snat: bool = field(default=False, name="NoSNAT")
    no_stateful_filtering: bool | None = True
    netfilter_mode: int = NETFILTER_ON
    operator_user: str = ""
    profile_name: str = ""
    auto_update: AutoUpdatePrefs = AutoUpdatePrefs()
    app_connector: AppConnectorPrefs = AppConnectorPrefs()
    posture_checking: bool = False
    netfilter_kind: str = ""
    remote_config: bool = False
    drive_shares: tuple[dict[str, Any], ...] | None = None
    relay_server_port: int | None = None
    relay_server_static_endpoints: tuple[str, ...] | None = None
    path_policy: tuple[str, ...] | None = None
    endpoint_interfaces: tuple[str, ...] | None = None
    static_endpoints: tuple[str, ...] | None = None
    kill_switch: bool = False
    no_kept_map: bool = False
    accept_routes: tuple[str, ...] | None = None
    dns_records: tuple[str, ...] | None = field(default=None, name="DNSRecords")

    @property
    def wants_exit_node(self) -> bool:
        """Everything that no peer has goes to one of them, or nowhere."""
        return bool(self.exit_node_id or self.exit_node_ip or self.auto_exit_node)

    @property
    def offers_exit(self) -> bool:
        """Peers may send everything through this machine."""
        return any(route.endswith("/0") for route in self.advertise_routes or ())

    @property
    def server_url(self) -> str:
        """The control server to use: never empty, no trailing slash, synonyms resolved."""
        url = self.control_url.rstrip("/")
        return DEFAULT_CONTROL_URL if url in ("", LOGIN_SYNONYM) else url


FIELDS = {f.encode_name: f for f in msgspec.structs.fields(Prefs)}  # wire name → field
GO_ZERO = Prefs(
    corp_dns=False,
    logged_out=False,
    no_stateful_filtering=None,
    netfilter_mode=0,
    auto_update=AutoUpdatePrefs(check=False),
)
NOT_SETTABLE = frozenset({"InternalExitNodePrior"})


def to_json(prefs: Prefs) -> dict[str, object]:
    """As a tree for JSON: Go's names, every field present."""
    tree: dict[str, object] = msgspec.to_builtins(prefs)
    return tree


def toggle_exit_node(prefs: Prefs, *, enabled: bool) -> Prefs:
    """Without the exit node, which is remembered, or with the one that was remembered.

    Source: tailscale ipn/ipnlocal/local.go, SetUseExitNodeEnabled.

    Raises:
        UserError: none is remembered.
    """
    if enabled == prefs.wants_exit_node:
        return prefs
    none = msgspec.structs.replace(prefs, exit_node_id="", exit_node_ip="", auto_exit_node="")
    if not enabled:
        auto = f"auto:{prefs.auto_exit_node}" if prefs.auto_exit_node else ""
        used = prefs.exit_node_id or prefs.exit_node_ip or auto
        return msgspec.structs.replace(none, internal_exit_node_prior=used)
    prior = prefs.internal_exit_node_prior
    if not prior:
        msg = "no exit node was in use before; choose one with: tnet set --exit-node=NAME"
        raise UserError(msg)
    if prior.startswith("auto:"):
        return msgspec.structs.replace(none, auto_exit_node=prior.removeprefix("auto:"))
    try:
        return msgspec.structs.replace(none, exit_node_ip=str(ip_address(prior)))
    except ValueError:
        return msgspec.structs.replace(none, exit_node_id=prior)


def from_json(tree: Mapping[str, object]) -> Prefs:
    """From a whole ``Prefs`` object; absent fields have their defaults, unknown ones are ignored.

    Raises:
        UserError: a field has the wrong type.
    """
    return _replace(Prefs(), {name: tree[name] for name in FIELDS if name in tree})


def apply_masked(prefs: Prefs, masked: Mapping[str, object]) -> Prefs:
    """Change what a ``MaskedPrefs`` object masks in: ``Field`` with ``FieldSet: true``.

    ``AutoUpdateSet`` and ``AppConnectorSet`` may be objects with masks of their own.  A masked
    field without a value becomes Go's zero value.  Does not validate.

    Raises:
        UserError: an unknown field is set, or one that only the daemon sets, or a wrong type.
    """
    changes: dict[str, object] = {}
    for key, mask in masked.items():
        name = key.removesuffix("Set")
        if name == key or not mask:
            continue
        if name not in FIELDS:
            msg = f"unknown setting {name[:64]!r}"
            raise UserError(msg)
        if name in NOT_SETTABLE:
            msg = f"{name} cannot be set"
            raise UserError(msg)
        value = masked.get(name)
        if isinstance(mask, Mapping):
            value = _nested(prefs, name, mask, value)
        elif mask is not True:
            msg = f"{key}: wrong type"
            raise UserError(msg)
        changes[name] = value
    return _replace(prefs, changes)


def _nested(prefs: Prefs, name: str, mask: Mapping[str, object], value: object) -> object:
    """The old object with the masked keys taken from ``value``."""
    tree = dict(to_json(prefs)[name]) if name in ("AutoUpdate", "AppConnector") else None  # type: ignore[call-overload]
    if tree is None or not isinstance(value, Mapping | None):
        msg = f"{name}: wrong type"
        raise UserError(msg)
    for key, wanted in mask.items():
        part = key.removesuffix("Set")
        if wanted and part not in tree:
            msg = f"unknown setting {name}.{part[:64]!r}"
            raise UserError(msg)
        if wanted:
            tree[part] = (value or {}).get(part)
    return tree


def _replace(prefs: Prefs, changes: Mapping[str, object]) -> Prefs:
    fields: dict[str, Any] = {}
    for name, value in changes.items():
        info = FIELDS[name]
        if value is None:
            fields[info.name] = getattr(GO_ZERO, info.name)
            continue
        known = value
        if isinstance(value, Mapping):
            known = {key: item for key, item in value.items() if item is not None}
        try:
            fields[info.name] = msgspec.convert(known, type=info.type)
        except msgspec.ValidationError as error:
            msg = f"{name}: {error}"
            raise UserError(msg) from None
    return msgspec.structs.replace(prefs, **fields)


# --- what is refused ----------------------------------------------------------


def validate(prefs: Prefs) -> None:
    """Check prefs before they are used or stored.

    Raises:
        UserError: one line about the first thing that is wrong or not supported.
    """
    _check_control_url(prefs.control_url)
    check_hostname(prefs.hostname)
    for tag in _bounded(prefs.advertise_tags, "tags"):
        check_tag(tag)
    _check_offers(parse_routes(_bounded(prefs.advertise_routes, "routes")))
    parse_acceptance(_bounded(prefs.accept_routes, "routes to accept"), on=prefs.route_all)
    pathprefs.parse_policies(_bounded(prefs.path_policy, "path policies"))
    pathprefs.check_interfaces(_bounded(prefs.endpoint_interfaces, "interfaces"))
    pathprefs.parse_endpoints(_bounded(prefs.static_endpoints, "endpoints"))
    pathprefs.parse_endpoints(_bounded(prefs.relay_server_static_endpoints, "endpoints"))
    if not 0 <= (prefs.relay_server_port or 0) <= 0xFFFF:
        msg = f"bad relay server port {prefs.relay_server_port}: it is 0 to 65535, 0 for any"
        raise UserError(msg)
    parse_own(_bounded(prefs.dns_records, "DNS records"))
    _check_exit_node(prefs)
    if prefs.netfilter_mode not in range(3):
        msg = "netfilter mode is on, nodivert or off"
        raise UserError(msg)
    _check_operator(prefs.operator_user)
    _check_nickname(prefs.profile_name)
    for refused, reason in _unsupported(prefs):
        if refused:
            raise UserError(reason)


def _unsupported(prefs: Prefs) -> tuple[tuple[bool, str], ...]:
    return (
        (prefs.run_ssh, "the SSH server is not supported yet"),
        (prefs.run_web_client, "the web client is not supported yet"),
        (bool(prefs.advertise_services), "advertising services is not supported yet"),
        (prefs.sync is False, "turning off sync is not supported yet"),
        (bool(prefs.netfilter_kind), "choosing the kind of netfilter is not supported yet"),
        (prefs.force_daemon, "unattended mode exists on Windows only"),
        (prefs.auto_update.apply is True, "automatic updates are not supported"),
        (prefs.app_connector.advertise, "app connectors are not supported yet"),
        (prefs.posture_checking, "posture checking is not supported yet"),
        (prefs.remote_config, "remote configuration is not supported yet"),
        (bool(prefs.drive_shares), "Taildrive is not supported yet"),
    )


def _bounded(items: tuple[str, ...] | None, what: str) -> tuple[str, ...]:
    if items is not None and len(items) > MAX_LIST:
        msg = f"too many {what}: {len(items)} (max {MAX_LIST})"
        raise UserError(msg)
    return items or ()


def _check_control_url(url: str) -> None:
    if not url:
        return
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good, parts = False, urlsplit("")
    extra = parts.query or parts.fragment or parts.username is not None
    if not good or extra or not url.isascii() or not url.isprintable() or " " in url:
        msg = f"bad login server {url[:MAX_TEXT]!r}: it has the form https://HOST[:PORT]"
        raise UserError(msg)


def parse_routes(texts: tuple[str, ...]) -> tuple[IPNetwork, ...]:
    """Advertised routes: prefixes without host bits; a default route needs its counterpart.

    Raises:
        UserError: one of them is wrong.
    """
    routes = [parse_prefix(text) for text in texts]
    defaults = {route.version for route in routes if route.prefixlen == 0}
    if len(defaults) == 1:
        have, want = ("0.0.0.0/0", "::/0") if 4 in defaults else ("::/0", "0.0.0.0/0")
        msg = f"{have} advertised without its counterpart, please also advertise {want}"
        raise UserError(msg)
    return tuple(routes)


def _check_offers(routes: tuple[IPNetwork, ...]) -> None:
    """Of sites, source: tailscale net/netutil/routes.go, validateViaPrefix."""
    for route in routes:
        nowhere = route.version == 6 and route.is_link_local
        if nowhere or route.is_loopback or route.is_multicast:
            msg = f"{route} leads to no other machine: it is loopback, link-local or multicast"
            raise UserError(msg)
        if route.version == 6 and route.subnet_of(VIA):
            known = unmap_via(route)
            if known is None:
                msg = f"{route} 4-in-6 prefix must be at least a /96"
                raise UserError(msg)
            if known[0] > MAX_SITE:
                msg = (
                    f"route {route} contains invalid site ID {known[0]:08x}; must be 0xffff or less"
                )
                raise UserError(msg)


def _check_exit_node(prefs: Prefs) -> None:
    if prefs.exit_node_ip:
        try:
            ip_interface(prefs.exit_node_ip)
        except ValueError:
            msg = f"bad exit node {prefs.exit_node_ip[:MAX_TEXT]!r}: it is the address of a peer"
            raise UserError(msg) from None
    name = prefs.exit_node_id
    if len(name) > MAX_TEXT or not re.fullmatch(r"[A-Za-z0-9.-]*", name):
        msg = f"bad exit node {name[:MAX_TEXT]!r}: it is a peer's name or address, or auto:any"
        raise UserError(msg)
    if prefs.auto_exit_node not in {"", "any"}:
        msg = f"bad automatic exit node {prefs.auto_exit_node[:MAX_TEXT]!r}: only any is known"
        raise UserError(msg)
    if prefs.offers_exit and prefs.wants_exit_node:
        msg = "a machine cannot be an exit node and use one; set --exit-node= first"
        raise UserError(msg)


def _check_operator(user: str) -> None:
    if user and (len(user) > MAX_TEXT or not re.fullmatch(r"[^\s:/\x00-\x1f\x7f]+", user)):
        msg = f"bad operator {user[:MAX_TEXT]!r}: it is the name of a local user"
        raise UserError(msg)


def _check_nickname(name: str) -> None:
    if len(name) > MAX_TEXT or not name.isprintable() or name != name.strip():
        msg = f"bad nickname {name[:MAX_TEXT]!r}: it is one line of text"
        raise UserError(msg)
