"""Each rule of the decision, and what never happens."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import SERVICE_V4, SERVICE_V6
from tailnet.agent.dns.compile import BaseUnreadable, Compiled, Host, compile_dns
from tailnet.agent.dns.names import ROOT, Name
from tailnet.agent.dns.wanted import NOTHING, Wanted
from tailnet.agent.tailcfg.dns import Resolver
from tailnet.platform.interface import NO_DNS, DnsConfig

TAILNET, CORP = Name("lab.ts.net"), Name("corp.example")
ONE, TWO = Resolver(addr="192.0.2.1"), Resolver(addr="192.0.2.2")
IP_ONE = ip_address("192.0.2.1")
BASE = DnsConfig(nameservers=(ip_address("203.0.113.5"), SERVICE_V4), search=("home",))
SPLIT, WHOLE, BLIND = Host(split=True), Host(split=False, base=BASE), Host(split=False)
HERE = (SERVICE_V4,)


def test_nothing_wanted_leaves_the_host_alone() -> None:
    """Rule a."""
    assert compile_dns(NOTHING, WHOLE) == Compiled({}, NO_DNS)


def test_search_domains_alone_are_told_to_the_host() -> None:
    """Rule a, with a search list."""
    compiled = compile_dns(Wanted(search=(TAILNET,)), SPLIT)
    assert compiled.host == DnsConfig(search=(TAILNET,))


def test_plain_resolvers_for_everything_go_to_the_host_itself() -> None:
    """Rule b: we are not in the way."""
    compiled = compile_dns(Wanted(defaults=(ONE,), search=(TAILNET,)), WHOLE)
    assert compiled.host == DnsConfig(nameservers=(IP_ONE,), search=(TAILNET,))
    assert compiled.routes == {}


@pytest.mark.parametrize(
    "addr",
    ["https://dns.example/q", "100.64.0.7", "fd7a:115c:a1e0::7", "45.90.28.1", "192.0.2.1:54"],
)
def test_a_resolver_that_needs_us_is_asked_by_us(addr: str) -> None:
    """By URL, inside the tailnet (dead while we are), HTTPS only, or on another port."""
    compiled = compile_dns(Wanted(defaults=(Resolver(addr=addr),)), WHOLE)
    assert compiled.host == DnsConfig(nameservers=HERE)
    assert compiled.routes == {ROOT: (Resolver(addr=addr),)}


def test_names_of_our_own_beside_default_resolvers_make_us_answer_everything() -> None:
    """Rule c."""
    wanted = Wanted(defaults=(ONE,), routes={TAILNET: ()})
    assert compile_dns(wanted, SPLIT) == Compiled(
        {TAILNET: (), ROOT: (ONE,)}, DnsConfig(nameservers=HERE)
    )


def test_one_resolver_for_some_suffixes_goes_to_a_host_that_can_split() -> None:
    """Rule d."""
    wanted = Wanted(routes={CORP: (ONE,), TAILNET: (ONE,)})
    assert compile_dns(wanted, SPLIT) == Compiled(
        {}, DnsConfig(nameservers=(IP_ONE,), match=(CORP, TAILNET))
    )


def test_different_resolvers_for_suffixes_come_to_us_alone() -> None:
    """Rule e."""
    wanted = Wanted(routes={CORP: (ONE,), TAILNET: ()})
    assert compile_dns(wanted, SPLIT) == Compiled(
        wanted.routes, DnsConfig(nameservers=HERE, match=(CORP, TAILNET))
    )


def test_a_host_that_cannot_split_sends_all_and_we_forward_to_what_it_had() -> None:
    """Rule f; our own address among the old resolvers would be a loop."""
    wanted = Wanted(routes={TAILNET: ()}, search=(TAILNET,))
    compiled = compile_dns(wanted, WHOLE)
    assert compiled.host == DnsConfig(nameservers=HERE, search=(TAILNET, "home"))
    assert compiled.routes == {TAILNET: (), ROOT: (Resolver(addr="203.0.113.5"),)}


def test_a_host_that_cannot_say_what_it_had_is_given_suffixes_only() -> None:
    """Rule f without a base."""
    wanted = Wanted(routes={TAILNET: ()})
    assert compile_dns(wanted, BLIND).host == DnsConfig(nameservers=HERE, match=(TAILNET,))


def test_without_magicdns_names_still_reach_us() -> None:
    """They exist, though no route leads to them."""
    wanted = Wanted(defaults=(ONE,), unrouted=True)
    assert compile_dns(wanted, WHOLE).host.nameservers == HERE


def test_unreadable_resolvers_matter_only_where_they_are_needed() -> None:
    """Rule f with a base that cannot be read."""
    broken = Host(split=False, unreadable="permission denied")
    assert compile_dns(Wanted(defaults=(ONE,)), broken).host.nameservers == (IP_ONE,)
    with pytest.raises(BaseUnreadable, match="permission denied"):
        compile_dns(Wanted(routes={TAILNET: ()}), broken)


def test_without_ipv4_the_ipv6_service_address_is_used() -> None:
    """A tailnet may hand out IPv6 alone."""
    wanted = Wanted(routes={TAILNET: ()}, only_v6=True)
    assert compile_dns(wanted, SPLIT).host.nameservers == (SERVICE_V6,)


RESOLVERS = st.lists(
    st.sampled_from([ONE, TWO, Resolver(addr="100.64.0.9"), Resolver(addr="https://x/q")]),
    max_size=3,
).map(tuple)
WANTED = st.builds(
    Wanted,
    defaults=RESOLVERS,
    routes=st.dictionaries(st.sampled_from([TAILNET, CORP, Name("a.corp.example")]), RESOLVERS),
    search=st.lists(st.sampled_from([TAILNET, CORP]), unique=True).map(tuple),
    records=st.dictionaries(st.sampled_from([Name("x.corp.example")]), st.just((IP_ONE,))),
    only_v6=st.booleans(),
    unrouted=st.booleans(),
)
HOSTS = st.sampled_from([SPLIT, WHOLE, BLIND, Host(split=True, base=BASE)])


@given(WANTED, HOSTS)
def test_we_never_forward_to_ourselves_and_never_swallow_a_name(wanted: Wanted, host: Host) -> None:
    """For every wish and host: no loop, and where all names come to us, the rest is forwarded."""
    compiled = compile_dns(wanted, host)
    for resolvers in compiled.routes.values():
        assert not {r.addr for r in resolvers} & {str(SERVICE_V4), str(SERVICE_V6)}
    here = {SERVICE_V4, SERVICE_V6} & set(compiled.host.nameservers)
    if here and not compiled.host.match and host.base is not None:
        assert compiled.routes[ROOT]
    if not here:
        assert compiled.routes == {}


OWN = {
    Name("nas.home"): (IP_ONE,),
    Name("*.dev.lan"): (IP_ONE,),
    Name("db.corp.example"): (IP_ONE,),
}


def test_names_of_this_host_are_sent_here_too() -> None:
    """By a host that sends some names, and nobody else can be asked about those below them."""
    compiled = compile_dns(Wanted(routes={CORP: (ONE,)}, own=OWN), SPLIT)
    names = (CORP, Name("dev.lan"), Name("nas.home"))
    assert compiled.host == DnsConfig(nameservers=HERE, match=names)
    assert compiled.routes == {CORP: (ONE,), Name("dev.lan"): (), Name("nas.home"): ()}


@pytest.mark.parametrize("wanted", [Wanted(own=OWN), Wanted(defaults=(ONE,), own=OWN)])
def test_where_all_names_come_here_those_below_ones_of_this_host_are_forwarded(
    wanted: Wanted,
) -> None:
    """``_acme-challenge.nas.home`` may be somebody else's."""
    compiled = compile_dns(wanted, WHOLE)
    assert compiled.host.nameservers == HERE
    assert set(compiled.routes) == {ROOT}
