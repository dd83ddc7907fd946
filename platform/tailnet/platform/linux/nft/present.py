"""What nftables holds, as far as it concerns us.

A jump to a chain of ours is our own only if it carries our tag: any other is the administrator's,
and stays, and with it the chain it leads to, without rules.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from tailnet.platform.linux.nft import encode
from tailnet.platform.linux.nft.guard import EXIT_TABLE
from tailnet.platform.linux.nft.guard import TABLE as GUARD_TABLE
from tailnet.platform.linux.nft.library import NFT_MSG_GETCHAIN, NFT_MSG_GETTABLE
from tailnet.platform.linux.nft.messages import comments_untrusted
from tailnet.platform.linux.nft.ruleset import (
    FILTER,
    FORWARD_CHAIN,
    INPUT_CHAIN,
    NAT,
    NAT_CHAIN,
    TABLE,
)
from tailnet.platform.linux.nft.session import Session
from tailnet.platform.linux.nft.syntax import Family, HookPoint
from tailnet.platform.linux.nft.xtables import COMMENT

OWN_TABLES = (TABLE, GUARD_TABLE, EXIT_TABLE)  # in the family inet, and nobody else's
# In our table, without a rule: ``src_valid_mark`` was 0 and is to be so again.  Kept where it goes
# with the namespace and with the rules that need the setting.
RESET_CHAIN = "reset-src-valid-mark"
FAMILIES = (Family.IPV4, Family.IPV6)
DIVERTED = {HookPoint.INPUT: INPUT_CHAIN, HookPoint.FORWARD: FORWARD_CHAIN}
FIREWALLD = "firewalld"  # its table in inet
_ZONES = "filter_INPUT_ZONES"
_GUESTS = {(FILTER, INPUT_CHAIN), (FILTER, FORWARD_CHAIN), (NAT, NAT_CHAIN)}


class Place(NamedTuple):
    """A chain."""

    family: Family
    table: str
    chain: str

    def __str__(self) -> str:
        return f"{self.family} {self.chain}"


class Jump(NamedTuple):
    """A rule of ours in somebody else's chain.  ``first``: before all others there."""

    chain: Place
    handle: int
    first: bool


@dataclass(frozen=True, slots=True)
class Present:
    """What is there.

    Attributes:
        tables: names in the family ``inet``.
        shared: the conventional tables, and how many things others have in each.
        made: those of them that we made.
        bases: of the conventional chains, those that meet what comes in or is forwarded.
        chains: of ours in conventional tables.
        jumps: of ours.
        held: the chains of ours that somebody else jumps to.
        sizes: how many rules a chain has.
        resets_mark: our table says that ``src_valid_mark`` was 0 before us.
        unzoned: firewalld runs, and no zone of its own has the tunnel.
    """

    tables: frozenset[str]
    shared: dict[tuple[Family, str], int]
    made: frozenset[tuple[Family, str]]
    bases: tuple[tuple[Place, HookPoint], ...]
    chains: frozenset[Place]
    jumps: tuple[Jump, ...]
    held: frozenset[Place]
    sizes: Counter[Place]
    resets_mark: bool
    unzoned: bool


async def read(kernel: Session, tun: str = "") -> Present:
    """What is there.

    Args:
        kernel: the connection.
        tun: the tunnel's device; empty: whether others know it is not asked.

    Raises:
        PlatformError: as the session.
    """
    tables = await kernel.dump(NFT_MSG_GETTABLE, Family.INET)
    names = frozenset(str(table.get_attr("NFTA_TABLE_NAME")) for table in tables)
    resets = TABLE in names and any(
        chain.get_attr("NFTA_CHAIN_NAME") == RESET_CHAIN
        and chain.get_attr("NFTA_CHAIN_TABLE") == TABLE
        for chain in await kernel.dump(NFT_MSG_GETCHAIN, Family.INET)
    )
    sizes: Counter[Place] = Counter()
    for name in names.intersection(OWN_TABLES):
        for entry in await kernel.dump_rules(Family.INET, name):
            sizes[_place(Family.INET, entry)] += 1
    shared: dict[tuple[Family, str], int] = {}
    made: set[tuple[Family, str]] = set()
    bases: list[tuple[Place, HookPoint]] = []
    ours: set[Place] = set()
    jumps: list[Jump] = []
    held: set[Place] = set()
    for family in FAMILIES:
        for table in await kernel.dump(NFT_MSG_GETTABLE, family):
            name = str(table.get_attr("NFTA_TABLE_NAME"))
            if name in (FILTER, NAT):
                shared[family, name] = int(table.get_attr("NFTA_TABLE_USE") or 0)
                if _tag(table.get_attr("NFTA_TABLE_USERDATA")):
                    made.add((family, name))
        if not any(family is where[0] for where in shared):
            continue
        found_bases, found_ours = await _chains(kernel, family)
        bases += found_bases
        ours |= found_ours
        for name in {place.table for place in (*found_ours, *(base for base, _ in found_bases))}:
            entries = await kernel.dump_rules(family, name)
            sizes.update(_place(family, entry) for entry in entries)
            for jump, target, tagged in _jumps(family, entries):
                if tagged:
                    jumps.append(jump)
                else:
                    held.add(target)
    for place in ours:
        shared[place.family, place.table] -= 1
    return Present(
        tables=names,
        shared=shared,
        made=frozenset(made),
        bases=tuple(bases),
        chains=frozenset(ours),
        jumps=tuple(jumps),
        held=frozenset(held),
        sizes=sizes,
        resets_mark=resets,
        unzoned=bool(tun) and FIREWALLD in names and not await _zoned(kernel, tun),
    )


async def _chains(
    kernel: Session, family: Family
) -> tuple[list[tuple[Place, HookPoint]], set[Place]]:
    """Of the conventional tables: those with a hook where we jump, and ours."""
    bases, ours = [], set()
    for chain in await kernel.dump(NFT_MSG_GETCHAIN, family):
        table = str(chain.get_attr("NFTA_CHAIN_TABLE"))
        name = str(chain.get_attr("NFTA_CHAIN_NAME"))
        if (table, name) in _GUESTS:
            ours.add(Place(family, table, name))
        elif table == FILTER and (point := _hook_of(chain)) in DIVERTED and point is not None:
            bases.append((Place(family, table, name), point))
    return bases, ours


async def _zoned(kernel: Session, tun: str) -> bool:
    """Whether firewalld has a zone for the device; every other one is in its default zone."""
    for entry in await kernel.dump_rules(Family.INET, FIREWALLD, _ZONES):
        for expression in entry.get_attr("NFTA_RULE_EXPRESSIONS") or ():
            data = expression.get_attr("NFTA_EXPR_DATA")
            if expression.get_attr("NFTA_EXPR_NAME") != "cmp" or data is None:
                continue
            value = data.get_attr("NFTA_CMP_DATA")
            name = value.get_attr("NFTA_DATA_VALUE") if value is not None else b""
            if tun.encode().ljust(16, b"\0").startswith(name or b"\xff"):
                return True
    return False


def _hook_of(chain: Any) -> HookPoint | None:  # noqa: ANN401 - untyped library
    hook = chain.get_attr("NFTA_CHAIN_HOOK")
    if hook is None or chain.get_attr("NFTA_CHAIN_TYPE") != "filter":
        return None
    number = hook.get_attr("NFTA_HOOK_HOOKNUM")
    return HookPoint(number) if number in tuple(HookPoint) else None


def _place(family: Family, entry: Any) -> Place:  # noqa: ANN401 - untyped library
    table, chain = entry.get_attr("NFTA_RULE_TABLE"), entry.get_attr("NFTA_RULE_CHAIN")
    return Place(family, str(table), str(chain))


def _jumps(family: Family, rules: list[Any]) -> Iterator[tuple[Jump, Place, bool]]:
    """Jumps to chains of ours, where they lead, and whether they are ours."""
    met: set[Place] = set()
    for entry in rules:
        where = _place(family, entry)
        first = where not in met
        met.add(where)
        target, tagged = _read_rule(entry)
        if target is not None and (where.table, target) in _GUESTS:
            handle = int(entry.get_attr("NFTA_RULE_HANDLE"))
            yield Jump(where, handle, first), Place(family, where.table, target), tagged


def _read_rule(entry: Any) -> tuple[str | None, bool]:  # noqa: ANN401 - untyped library
    """Where a rule jumps or goes to, and whether it has our tag, as we or as iptables writes it."""
    target, tagged = None, _tag(entry.get_attr("NFTA_RULE_USERDATA"))
    for expression in entry.get_attr("NFTA_RULE_EXPRESSIONS") or ():
        data, kind = expression.get_attr("NFTA_EXPR_DATA"), expression.get_attr("NFTA_EXPR_NAME")
        if data is None:
            continue
        if kind == "immediate":
            value = data.get_attr("NFTA_IMMEDIATE_DATA")
            verdict = value and value.get_attr("NFTA_DATA_VERDICT")
            target = str(verdict.get_attr("NFTA_VERDICT_CHAIN")) if verdict else target
        elif kind == "match" and data.get_attr("NFTA_MATCH_NAME") == COMMENT:
            info = bytes.fromhex(str(data.get_attr("NFTA_MATCH_INFO")).replace(":", ""))
            tagged = tagged or info.partition(b"\0")[0] == encode.TAG.encode()
    return target, tagged


def _tag(note: bytes | None) -> bool:
    return encode.TAG in comments_untrusted(note)
