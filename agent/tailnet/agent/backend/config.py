"""The configuration file: prefs from a file instead of from commands.

HuJSON; a field that is absent leaves its pref alone, an unknown one is an error::

    {
      "Version": "alpha0",
      "ServerURL": "https://control.example",  // and so on
      "AuthKey": "file:/run/secrets/authkey",
    }

Source: tailscale ipn/conf.go, ConfigVAlpha and ToPrefs; ipn/conffile/conffile.go.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

import msgspec
from msgspec import field as named

from tailnet.agent.backend.hujson import standardize
from tailnet.agent.errors import UserError
from tailnet.agent.hooks.settings import Hook, parse_hooks

VERSION = "alpha0"
MAX_CONFIG = 1 << 20  # bytes
NETFILTER_MODES = {"off": 0, "nodivert": 1, "on": 2}
EXIT_ROUTES = ("0.0.0.0/0", "::/0")


class _AutoUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    check: bool | None = None
    apply: bool | None = None


class _AppConnector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    advertise: bool = False


class _Alpha0(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"
):
    version: str = ""
    locked: bool | None = None
    server_url: str | None = named(default=None, name="ServerURL")
    auth_key: str | None = None
    enabled: bool | None = None
    operator_user: str | None = None
    hostname: str | None = None
    accept_dns: bool | None = named(default=None, name="acceptDNS")
    accept_routes: bool | None = named(default=None, name="acceptRoutes")
    exit_node: str | None = named(default=None, name="exitNode")
    allow_lan: bool | None = named(default=None, name="allowLANWhileUsingExitNode")
    advertise_routes: tuple[str, ...] | None = None
    advertise_exit_node: bool | None = None
    disable_snat: bool | None = named(default=None, name="DisableSNAT")
    no_stateful_filtering: bool | None = None
    advertise_services: tuple[str, ...] | None = None
    app_connector: _AppConnector | None = None
    netfilter_mode: str | None = None
    posture_checking: bool | None = None
    run_ssh_server: bool | None = named(default=None, name="RunSSHServer")
    run_web_client: bool | None = None
    shields_up: bool | None = None
    remote_config: bool | None = None
    auto_update: _AutoUpdate | None = None
    serve_config_temp: dict[str, object] | None = None
    static_endpoints: tuple[str, ...] | None = None
    dns_records: tuple[str, ...] | None = named(default=None, name="DNSRecords")
    relay_server_port: int | None = None
    relay_server_static_endpoints: tuple[str, ...] | None = None
    hooks: object = None


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says.

    Attributes:
        locked: prefs cannot be changed by commands.
        auth_key: for a login that is needed; may be ``file:PATH``; empty if not given.
        masked: prefs, as a masked edit.
        hooks: what to run when something happens.
    """

    locked: bool
    auth_key: str = field(repr=False)
    masked: Mapping[str, object]
    hooks: tuple[Hook, ...] = ()


LATER = {
    "serve_config_temp": "ServeConfigTemp",
}
SAME = {
    "server_url": "ControlURL",
    "operator_user": "OperatorUser",
    "hostname": "Hostname",
    "accept_dns": "CorpDNS",
    "accept_routes": "RouteAll",
    "allow_lan": "ExitNodeAllowLANAccess",
    "disable_snat": "NoSNAT",
    "no_stateful_filtering": "NoStatefulFiltering",
    "posture_checking": "PostureChecking",
    "run_ssh_server": "RunSSH",
    "run_web_client": "RunWebClient",
    "shields_up": "ShieldsUp",
    "remote_config": "RemoteConfig",
    "static_endpoints": "StaticEndpoints",
    "dns_records": "DNSRecords",
}
ALWAYS = {
    "advertise_services": "AdvertiseServices",
    "relay_server_port": "RelayServerPort",
    "relay_server_static_endpoints": "RelayServerStaticEndpoints",
}


def parse_config(data: bytes) -> Config:
    """Parse a file.

    Raises:
        UserError: one line about the first thing that is wrong.
    """
    if len(data) > MAX_CONFIG:
        msg = f"it is larger than {MAX_CONFIG >> 20} MiB"
        raise UserError(msg)
    plain = standardize(data)
    try:
        tree = msgspec.json.decode(plain, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        msg = f"it is not a JSON object: {error}"
        raise UserError(msg) from None
    version = tree.get("Version", tree.get("version"))
    if version != VERSION:
        said = "there is no Version" if version is None else f"Version is {str(version)[:64]!r}"
        msg = f'{said}; this one reads "{VERSION}"'
        raise UserError(msg)
    try:
        return _config(msgspec.json.decode(plain, type=_Alpha0))
    except (msgspec.ValidationError, RecursionError, ValueError) as error:
        raise UserError(str(error)) from None


def _config(file: _Alpha0) -> Config:
    if later := [shown for name, shown in LATER.items() if getattr(file, name)]:
        msg = f"{later[0]} is not supported yet"
        raise UserError(msg)
    prefs: dict[str, object] = {"WantRunning": file.enabled is not False}
    if file.auth_key:
        prefs["LoggedOut"] = False
    for name, pref in SAME.items():
        if (value := getattr(file, name)) is not None:
            prefs[pref] = value
    for name, pref in ALWAYS.items():
        prefs[pref] = getattr(file, name)
    if file.exit_node is not None:
        prefs |= _exit_node(file.exit_node)
    if (routes := _routes(file)) is not None:
        prefs["AdvertiseRoutes"] = routes
    if file.netfilter_mode is not None:
        if file.netfilter_mode not in NETFILTER_MODES:
            msg = f"NetfilterMode is one of {', '.join(NETFILTER_MODES)}"
            raise UserError(msg)
        prefs["NetfilterMode"] = NETFILTER_MODES[file.netfilter_mode]
    if file.app_connector is not None:
        prefs["AppConnector"] = {"Advertise": file.app_connector.advertise}
    masks: dict[str, object] = {f"{name}Set": True for name in prefs}
    if (update := file.auto_update) is not None:
        parts = {"Check": update.check, "Apply": update.apply}
        prefs["AutoUpdate"] = parts
        masks["AutoUpdateSet"] = {f"{k}Set": v is not None for k, v in parts.items()}
    return Config(
        locked=file.locked is not False,
        auth_key=file.auth_key or "",
        masked={**prefs, **masks},
        hooks=parse_hooks(file.hooks),
    )


def _routes(file: _Alpha0) -> tuple[str, ...] | None:
    routes = file.advertise_routes
    if file.advertise_exit_node is None:
        return routes
    kept = tuple(r for r in routes or () if r not in EXIT_ROUTES)
    return (*kept, *EXIT_ROUTES) if file.advertise_exit_node else kept


def _exit_node(text: str) -> dict[str, object]:
    """By address or by stable id."""
    try:
        return {"ExitNodeIP": str(ip_address(text)), "ExitNodeID": ""}
    except ValueError:
        return {"ExitNodeID": text, "ExitNodeIP": ""}
