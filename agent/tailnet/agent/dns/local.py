"""Which questions are ours, and their answers; all others are forwarded.

::

    question ─► PTR? ─► .onion ─► the service's own name ─► 4via6 ─► this host's records
             ─► the tailnet's records ─► nodes ─► nodes that answer for subdomains
             ─► inside a zone of ours: no such name ─► forward by the longest suffix

Source: tailscale net/dns/resolver/tsdns.go, resolveLocal and resolveLocalReverse.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from tailnet.agent.addr import SERVICE_V4, SERVICE_V6, IPAddress
from tailnet.agent.dns.message import (
    AAAA,
    ANY,
    AXFR,
    HINFO,
    IN,
    NOERROR,
    NOTIMP,
    NS,
    NXDOMAIN,
    PTR,
    SERVFAIL,
    SOA,
    A,
    Question,
    address_record,
    pointer_record,
    reply,
    soa_record,
)
from tailnet.agent.dns.names import ROOT, Name, NodeNames, parents, within
from tailnet.agent.dns.reverse import is_bonjour, reverse_address, via_address
from tailnet.agent.tailcfg.dns import Resolver

SERVICE_NAME = Name("magicdns.localhost-tailscale-daemon")
_ONION = Name("onion")
_FAMILY = {A: 4, AAAA: 6}
_NOT_FOR_US = frozenset({NS, SOA, AXFR, HINFO})

Records = Mapping[Name, tuple[IPAddress, ...]]


class Outcome(StrEnum):
    """What became of a question of ours; the values are upstream's names for it."""

    NAME_A = "ok_a"
    NAME_AAAA = "ok_aaaa"
    NAME_ANY = "ok_all"
    NO_A = "no_a"
    NO_AAAA = "no_aaaa"
    NO_ANY = "no_all"
    OTHER_TYPE = "no_record_type"
    NOT_IMPLEMENTED = "not_impl_type"
    NO_SUCH_NAME = "error_missing"
    ONION = "error_onion"
    REVERSE = "reverse"
    NO_OWNER = "reverse_miss"
    BONJOUR = "bonjour"
    NO_UPSTREAM = "no_upstream"


class Answer(NamedTuple):
    """Ready to be sent.  ``why`` is for people: which rule gave it."""

    data: bytes
    why: str
    outcome: Outcome


class Forward(NamedTuple):
    """Somebody else must be asked: ``resolvers``, because ``suffix`` covers the name."""

    suffix: Name
    resolvers: tuple[Resolver, ...]


class _Found(NamedTuple):
    """A name of ours.

    Attributes:
        ips: its addresses.
        why: for people.
        every: all of a family are answered, not only the first.
    """

    ips: tuple[IPAddress, ...]
    why: str
    every: bool = False


_OUTCOMES = {
    A: (Outcome.NAME_A, Outcome.NO_A),
    AAAA: (Outcome.NAME_AAAA, Outcome.NO_AAAA),
    ANY: (Outcome.NAME_ANY, Outcome.NO_ANY),
}


class LocalNames:
    """Everything that decides over a question; changed from outside, never by a question.

    Args:
        nodes: names of nodes; kept up to date by whoever made it.
        wall_clock: Unix time [s], for serial numbers.
    """

    __slots__ = ("_nodes", "_own", "_owners", "_records", "_routes", "_suffix", "_wall_clock")

    def __init__(self, nodes: NodeNames, wall_clock: Callable[[], float]) -> None:
        self._nodes = nodes
        self._wall_clock = wall_clock
        self._own: Records = {}
        self._records: Records = {}
        self._owners: dict[IPAddress, Name] = {}
        self._routes: Mapping[Name, tuple[Resolver, ...]] = {}
        self._suffix = ROOT

    def configure(
        self, records: Records, routes: Mapping[Name, tuple[Resolver, ...]], suffix: Name
    ) -> None:
        """From control, compiled.

        Args:
            records: extra names.
            routes: resolvers by suffix; without any, we alone know what is below.
            suffix: what short names of nodes are completed with; the root for not at all.
        """
        self._records, self._routes, self._suffix = records, routes, suffix
        self._index()

    def set_own(self, records: Records) -> None:
        """Names of this host alone; ``*.`` in front stands for one or more labels."""
        self._own = records
        self._index()

    def _index(self) -> None:
        both = (*self._records.items(), *self._own.items())
        self._owners = {ip: name for name, ips in both for ip in ips if not name.startswith("*")}

    def decide(self, question: Question) -> Answer | Forward:
        """One question of class IN; other classes are for others to answer."""
        if question.qclass not in (IN, ANY):
            return self._forward(question)
        if question.qtype == PTR:
            return self._reverse(question)
        if within(question.name, _ONION):
            why = "names below onion are not for DNS (RFC 7686)"
            return self._no(question, _ONION, why, Outcome.ONION)
        found = self._said_by_name(question) or self._lookup(question.name)
        if found is not None:
            return self._yes(question, found)
        zone = self._zone(question.name)
        if zone is not None and not self._routes[zone]:
            why = f"no such name in {zone}, which is ours to answer"
            return self._no(question, zone, why, Outcome.NO_SUCH_NAME)
        return self._forward_to(question, zone)

    def _said_by_name(self, question: Question) -> _Found | None:
        """Names that need no table."""
        if question.qtype not in (A, AAAA, ANY):
            return None
        if question.name == SERVICE_NAME:
            return _Found((SERVICE_V4, SERVICE_V6), "the name of this service")
        via = via_address(question.name)
        return None if via is None else _Found((via,), "an IPv4 address of a site, as IPv6 (4via6)")

    def _lookup(self, name: Name) -> _Found | None:
        """By the tables; ``None``: it is not ours."""
        if (ips := self._said_here(name)) is not None:
            return _Found(ips, "a record of this host", every=True)
        if (ips := self._records.get(name)) is not None:
            return _Found(ips, "a record of the tailnet")
        if (ips := self._nodes.addresses(name)) is not None:
            return _Found(ips, "a node of the tailnet")
        if self._suffix and name and "." not in name:
            ips = self._nodes.addresses(Name(f"{name}.{self._suffix}"))
            if ips is not None:
                return _Found(ips, f"a node of the tailnet, {name}.{self._suffix}")
        if (ips := self._nodes.under(name)) is not None:
            return _Found(ips, "a node that answers for its subdomains")
        return None

    def _said_here(self, name: Name) -> tuple[IPAddress, ...] | None:
        """By a record of this host: of the name itself, or of the nearest wildcard above it.

        No addresses: it exists, since there are names below it (RFC 4592 section 2.2.2).
        """
        if not self._own:
            return None
        if (ips := self._own.get(name)) is not None:
            return ips
        for parent in parents(name):
            if parent and (ips := self._own.get(Name("*." + parent))) is not None:
                return ips
        return () if name and Name("*." + name) in self._own and self._is_ours(name) else None

    def _is_ours(self, name: Name) -> bool:
        """Nobody else is asked about it."""
        zone = self._zone(name)
        return zone is not None and not self._routes[zone]

    def _reverse(self, question: Question) -> Answer | Forward:
        name = question.name
        if is_bonjour(name):
            why = "a search for Bonjour services"
            return Answer(reply(question, NXDOMAIN), why, Outcome.BONJOUR)
        ip = reverse_address(name)
        if ip is None:
            return self._forward(question)
        ours = ip in (SERVICE_V4, SERVICE_V6)
        owner = SERVICE_NAME if ours else self._owners.get(ip) or self._nodes.owner(ip)
        if owner is not None:
            data = reply(question, NOERROR, [pointer_record(owner)])
            return Answer(data, "who has the address", Outcome.REVERSE)
        zone = self._zone(name)
        if zone is not None and not self._routes[zone]:
            why = "nobody in the tailnet has the address"
            return self._no(question, zone, why, Outcome.NO_OWNER)
        return self._forward(question)

    def _yes(self, question: Question, found: _Found) -> Answer:
        """Of the family asked for; none of it is an answer too."""
        qtype, why = question.qtype, found.why
        if qtype in _NOT_FOR_US:
            return Answer(reply(question, NOTIMP), why, Outcome.NOT_IMPLEMENTED)
        if qtype not in (A, AAAA, ANY):
            return Answer(reply(question, NOERROR), why, Outcome.OTHER_TYPE)
        yes, no = _OUTCOMES[qtype]
        wanted = [ip for ip in found.ips if qtype == ANY or ip.version == _FAMILY[qtype]]
        if wanted:
            records = [address_record(ip) for ip in (wanted if found.every else wanted[:1])]
            return Answer(reply(question, NOERROR, records), why, yes)
        zone = self._zone(question.name)
        authority = [self._soa(zone)] if zone is not None and not self._routes[zone] else ()
        return Answer(reply(question, NOERROR, authority=authority), why, no)

    def _no(self, question: Question, zone: Name, why: str, outcome: Outcome) -> Answer:
        return Answer(reply(question, NXDOMAIN, authority=[self._soa(zone)]), why, outcome)

    def _soa(self, zone: Name) -> bytes:
        return soa_record(zone, int(self._wall_clock()))

    def _zone(self, name: Name) -> Name | None:
        """The longest suffix with a route."""
        if name in self._routes:
            return name
        return next((parent for parent in parents(name) if parent in self._routes), None)

    def _forward(self, question: Question) -> Answer | Forward:
        return self._forward_to(question, self._zone(question.name))

    def _forward_to(self, question: Question, zone: Name | None) -> Answer | Forward:
        if zone is None or not self._routes[zone]:
            why = "no resolver is known for this name"
            return Answer(reply(question, SERVFAIL), why, Outcome.NO_UPSTREAM)
        return Forward(zone, self._routes[zone])
