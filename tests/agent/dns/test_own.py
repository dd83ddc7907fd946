"""Names of this host alone, as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import IPAddress
from tailnet.agent.dns.names import Name
from tailnet.agent.dns.own import MAX_ADDRESSES, add_own, parse_own, remove_own
from tailnet.agent.errors import UserError

LABELS = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)
NAMES = st.builds(
    lambda star, labels: star + ".".join(labels),
    st.sampled_from(["", "*."]),
    st.lists(LABELS, min_size=1, max_size=5),
)
ADDRESSES = st.lists(st.ip_addresses(), min_size=1, max_size=MAX_ADDRESSES, unique=True)


@given(st.dictionaries(NAMES, ADDRESSES, max_size=8))
def test_what_is_added_is_there_and_what_is_removed_is_gone(
    records: dict[str, list[IPAddress]],
) -> None:
    """In any order, and nothing else with it."""
    texts: tuple[str, ...] = ()
    for name, ips in records.items():
        for ip in ips:
            texts = add_own(texts, name, [str(ip)])
    assert parse_own(texts) == {name: tuple(ips) for name, ips in records.items()}
    for name, ips in records.items():
        texts = remove_own(texts, name, [str(ips[0])])
        assert parse_own(texts).get(Name(name), ()) == tuple(ips[1:])
        if ips[1:]:
            texts = remove_own(texts, name)
    assert texts == ()


def test_adding_twice_changes_nothing() -> None:
    """Nor does the spelling."""
    once = add_own((), "NAS.home.", ["FD00::9", "192.168.1.9"])
    assert once == ("nas.home=fd00::9,192.168.1.9",)
    assert add_own(once, "nas.home", ["192.168.1.9", "fd00:0::9"]) == once


@pytest.mark.parametrize(
    "name", ["", "*", "*.", "a..b", "a b", "a=b", "a.*.b", "é.home", "-a", "x" * 64]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    """In a line that shows how one looks."""
    with pytest.raises(UserError, match=r"it is like nas\.home"):
        add_own((), name, ["192.0.2.1"])


@pytest.mark.parametrize("address", ["", "x", "192.0.2.1/24", "fe80::1%eth0", "192.0.2.256"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """An interface is not part of one here."""
    with pytest.raises(UserError, match=r"it is like 192\.168\.1\.9"):
        add_own((), "a.home", [address])


def test_too_many_and_unknown_ones_are_refused() -> None:
    """And two records of one name, which only a file can have."""
    with pytest.raises(UserError, match="17 addresses of one name"):
        add_own((), "a.home", [f"192.0.2.{n}" for n in range(17)])
    with pytest.raises(UserError, match=r"no record b\.home; see tnet dns record list"):
        remove_own(("a.home=192.0.2.1",), "b.home")
    with pytest.raises(UserError, match=r"there is no record a\.home 192\.0\.2\.2"):
        remove_own(("a.home=192.0.2.1",), "a.home", ["192.0.2.2", "192.0.2.1"])
    with pytest.raises(UserError, match=r"two records of a\.home"):
        parse_own(("a.home=192.0.2.1", "A.home=192.0.2.2"))
