"""What can be asked: values, each with the type of its answer.

The answers' types are those of ``tailnet.agent.localapi.schema``.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import json

from tailnet.agent.localapi.schema.basics import Advice
from tailnet.agent.localapi.schema.identity import LoginProfile, WhoIs
from tailnet.agent.localapi.schema.names import DNSLocalRecord
from tailnet.agent.localapi.schema.network import NetcheckReport
from tailnet.agent.localapi.schema.paths import PathDetails, PingResult
from tailnet.agent.localapi.schema.status import Status
from tailnet.agent.localapi.schema.tracing import TraceAnswer

T = TypeVar("T")

Prefs = dict[str, Any]
"""Under upstream's names."""


class Question(NamedTuple, Generic[T]):
    """One request.

    Attributes:
        name: below the LocalAPI's path, with its query.
        kind: what the answer is parsed into; ``None``: nothing is answered.
        body: what is sent along, as JSON.
        patience: how long the answer may take [s].
        reason: why it is asked for; the daemon's log has it.
    """

    method: str
    name: str
    kind: type[T]
    body: Mapping[str, object] | None = None
    patience: float = 65.0  # the daemon gives up after 60
    reason: str = ""

    @property
    def data(self) -> bytes:
        """The body."""
        return b"" if self.body is None else json.encode(self.body)

    @property
    def headers(self) -> Mapping[str, str]:
        """Besides those that every request has."""
        if not self.reason:
            return {}
        from base64 import b64encode  # noqa: PLC0415 - seldom needed

        return {"X-Tailscale-Reason": b64encode(self.reason.encode()).decode()}


Nothing = type(None)


def status(*, peers: bool = True) -> Question[Status]:
    """State, this node and its peers; without ``peers`` much quicker in large networks."""
    return Question("GET", "status" if peers else "status?peers=false", Status)


def prefs() -> Question[Prefs]:
    """The user's wishes."""
    return Question("GET", "prefs", dict)


def check_ip_forwarding() -> Question[Advice]:
    """Why the subnet routes of this machine do not work."""
    return Question("GET", "check-ip-forwarding", Advice)


def check_udp_gro_forwarding() -> Question[Advice]:
    """What makes forwarded UDP slow."""
    return Question("GET", "check-udp-gro-forwarding", Advice)


def set_udp_gro_forwarding() -> Question[Advice]:
    """Make forwarded UDP quick; the warning says why it cannot be."""
    return Question("POST", "set-udp-gro-forwarding", Advice)


def edit_prefs(changes: Mapping[str, object], reason: str = "") -> Question[Prefs]:
    """Change these, under upstream's names, and no others; answers with all."""
    masks = {f"{name}Set": True for name in changes}
    return Question("PATCH", "prefs", dict, {**changes, **masks}, reason=reason)


def start(auth_key: str = "", update_prefs: Mapping[str, object] | None = None) -> Question[None]:
    """Connect, and log in with an auth key if one is given."""
    body: dict[str, object] = {"AuthKey": auth_key}
    if update_prefs is not None:
        body["UpdatePrefs"] = update_prefs
    return Question("POST", "start", Nothing, body)


def login_interactive() -> Question[None]:
    """Ask for a login URL; it comes by ``watch`` and in the status."""
    return Question("POST", "login-interactive", Nothing)


def logout(reason: str = "") -> Question[None]:
    """Expire the node key and forget the login."""
    return Question("POST", "logout", Nothing, reason=reason)


def profiles() -> Question[list[LoginProfile]]:
    """The accounts of this machine."""
    return Question("GET", "profiles/", list[LoginProfile])


def switch_profile(profile_id: str) -> Question[None]:
    """Use another account."""
    return Question("POST", f"profiles/{quoted(profile_id)}", Nothing)


def whois(address: str) -> Question[WhoIs]:
    """Machine, user and grants behind an address, ``ip:port`` or ``nodekey:…``."""
    return Question("GET", f"whois?{joined({'addr': address})}", WhoIs)


def ping(address: str, kind: str = "disco", size: int = 0) -> Question[PingResult]:
    """One ping; ``kind`` is disco, TSMP, ICMP or peerapi."""
    query = joined({"ip": address, "type": kind, "size": size})
    return Question("POST", f"ping?{query}", PingResult)


def path(address: str) -> Question[PathDetails]:
    """How a peer is reached, and why."""
    return Question("GET", f"path?{joined({'ip': address})}", PathDetails)


def trace(dst: str, *, src: str = "", proto: str = "tcp", port: int = 0) -> Question[TraceAnswer]:
    """A packet's way, from ``src`` or this machine, and what stops it."""
    query = {"src": src, "dst": dst, "proto": proto} | ({"port": str(port)} if port else {})
    return Question("GET", f"trace?{joined(query)}", TraceAnswer)


def dns_records() -> Question[list[DNSLocalRecord]]:
    """Names of this host alone."""
    return Question("GET", "dns-records", list[DNSLocalRecord])


def add_dns_record(name: str, addresses: Iterable[str]) -> Question[list[DNSLocalRecord]]:
    """Give a name these addresses too; answers with all names."""
    body = {"Name": name, "Addresses": list(addresses)}
    return Question("POST", "dns-records", list[DNSLocalRecord], body)


def remove_dns_record(name: str, addresses: Iterable[str] = ()) -> Question[list[DNSLocalRecord]]:
    """Take these addresses from a name, or all; answers with the names that are left."""
    query = joined({"name": name, "addresses": ",".join(addresses)})
    return Question("DELETE", f"dns-records?{query}", list[DNSLocalRecord])


def netcheck() -> Question[NetcheckReport]:
    """Measure the network; takes some seconds."""
    return Question("POST", "netcheck", NetcheckReport)


def joined(parts: Mapping[str, object]) -> str:
    """What follows the question mark."""
    return "&".join(f"{key}={quoted(str(value))}" for key, value in parts.items())


def quoted(text: str) -> str:
    """Percent-encoded; urllib would load more than everything else that a short command needs."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
    return "".join(chr(b) if b in plain else f"%{b:02X}" for b in text.encode())
