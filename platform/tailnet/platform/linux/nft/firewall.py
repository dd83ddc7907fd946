"""The wanted rules, made so: what is there is read, and one transaction leads to what is wanted.

A crash in the middle leaves the old rules or the new ones, never half of them.
"""

import asyncio
import errno
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from tailnet.platform.interface import FirewallConfig, NetfilterMode, PlatformError
from tailnet.platform.linux.nft import encode
from tailnet.platform.linux.nft.guard import TABLE as GUARD_TABLE
from tailnet.platform.linux.nft.guard import guard_table
from tailnet.platform.linux.nft.library import NFT_MSG_GETCHAIN, NFT_MSG_GETTABLE
from tailnet.platform.linux.nft.ruleset import (
    FORWARD_CHAIN,
    INPUT_CHAIN,
    TABLE,
    accepts,
    own_table,
)
from tailnet.platform.linux.nft.session import Session, open_session
from tailnet.platform.linux.nft.syntax import Chain, Family, HookPoint, Jump, Table, rule
from tailnet.platform.linux.nft.watch import changes
from tailnet.platform.linux.sysctl import make_marks_count, marks_count

CONVENTIONAL = "filter"  # in ip and ip6: where iptables, ufw and docker have their chains
_OURS = {INPUT_CHAIN: HookPoint.INPUT, FORWARD_CHAIN: HookPoint.FORWARD}
# In our table, without a rule: ``src_valid_mark`` was 0 and is to be so again.  Kept where it goes
# with the namespace and with the rules that need the setting.
RESET_CHAIN = "reset-src-valid-mark"
_FAMILIES = (Family.IPV4, Family.IPV6)


@dataclass(frozen=True, slots=True)
class _Jump:
    """A rule of ours in somebody else's chain."""

    family: Family
    chain: str
    handle: int


@dataclass(frozen=True, slots=True)
class _Present:
    """What is there.

    Attributes:
        tables: names in the family ``inet``.
        bases: in the conventional tables, the chains that meet packets.
        chains: of ours there.
        jumps: to these.
        sizes: how many rules a chain has, by family, table and name; of ours and the conventional.
        resets_mark: our table says that ``src_valid_mark`` was 0 before us.
    """

    tables: frozenset[str]
    bases: tuple[tuple[Family, HookPoint, str], ...]
    chains: frozenset[tuple[Family, str]]
    jumps: tuple[_Jump, ...]
    sizes: Counter[tuple[Family, str, str]]
    resets_mark: bool


class LinuxFirewall:
    """A ``Firewall`` in the network namespace of the calling thread.

    Args:
        tun_name: the tunnel's device, which may come and go.
    """

    def __init__(self, tun_name: str) -> None:
        self._tun = tun_name
        self._wanted: FirewallConfig | None = None
        self._resets = False  # as RESET_CHAIN says, should somebody flush it
        self._one_at_a_time = asyncio.Lock()

    async def apply(self, config: FirewallConfig) -> None:
        """Exactly these rules, wherever the accepts have a place.

        Raises:
            PlatformError: no permission, no nftables in this kernel, or it refused; all is as
                before.
        """
        async with self._one_at_a_time:
            self._wanted = config
            try:
                await self._apply(config)
            except PlatformError as error:
                if error.errno != errno.ENOENT:
                    raise
                await self._apply(config)  # a rule that we saw was removed meanwhile

    async def _apply(self, config: FirewallConfig) -> None:
        on = config.mode is NetfilterMode.ON
        async with open_session() as kernel:
            present = await _read(kernel)
            resets = present.resets_mark or self._resets or (on and not marks_count())
            steps = list(_without(present))
            if on:
                steps += _with(self._tun, config, present, resets=resets)
            else:
                steps += _drop_table(present, TABLE)
            if config.guard is not None:
                steps += encode.replace_table(guard_table(self._tun, config.guard))
            else:
                steps += _drop_table(present, GUARD_TABLE)
            await kernel.commit(steps)
        if resets:
            make_marks_count(yes=on)
        self._resets = resets and on

    async def intact(self) -> bool:
        """True if nobody has removed or displaced our rules.

        Raises:
            PlatformError: as for ``apply``.
        """
        async with self._one_at_a_time, open_session() as kernel:
            wanted = self._wanted
            if wanted is None:
                return True
            present = await _read(kernel, jumps_first=True)
        tables = _tables(self._tun, wanted)
        full = all(
            present.sizes[table.family, table.name, chain.name] == len(chain.rules)
            for table in tables
            for chain in table.chains
        )
        if not full or not {table.name for table in tables} <= present.tables:
            return False
        if wanted.mode is not NetfilterMode.ON:
            return True
        jumps = {(jump.family, jump.chain) for jump in present.jumps}
        bases = {(family, base) for family, _, base, _ in _places(present)}
        return bases <= jumps and all(
            present.sizes[family, CONVENTIONAL, chain.name] == len(chain.rules)
            for family in {family for family, _ in bases}
            for chain in accepts(self._tun, wanted, family)
        )

    def disturbances(self) -> AsyncIterator[None]:
        """See ``Firewall``."""
        return changes()

    async def down(self) -> None:
        """Nothing of ours, except the guard.

        Raises:
            PlatformError: as for ``apply``.
        """
        async with self._one_at_a_time:
            self._wanted = None
            await remove(guard=False)
            if self._resets:
                make_marks_count(yes=False)
            self._resets = False


async def remove(*, guard: bool) -> list[str]:
    """Remove what is ours, also what a daemon that died has left.

    Args:
        guard: the guard as well.

    Returns:
        A line for each thing removed.

    Raises:
        PlatformError: as for ``LinuxFirewall.apply``; all is as before.
    """
    async with open_session() as kernel:
        present = await _read(kernel)
        tables = (TABLE, GUARD_TABLE) if guard else (TABLE,)
        drops = [m for table in tables for m in _drop_table(present, table)]
        await kernel.commit([*_without(present), *drops])
    if present.resets_mark:
        make_marks_count(yes=False)
    gone = [f"firewall table inet {table}" for table in tables if table in present.tables]
    return gone + [f"firewall chain {family} {c}" for family, c in sorted(present.chains)]


def _tables(tun: str, wanted: FirewallConfig) -> list[Table]:
    """The tables that are ours alone."""
    tables = [own_table(tun, wanted)] if wanted.mode is NetfilterMode.ON else []
    return tables + ([guard_table(tun, wanted.guard)] if wanted.guard is not None else [])


def _places(present: _Present) -> Iterator[tuple[Family, HookPoint, str, str]]:
    """Family, hook and name of each conventional chain, and which of ours it jumps to."""
    for family, point, base in present.bases:
        for chain, wanted in _OURS.items():
            if wanted is point:
                yield family, point, base, chain


def _with(
    tun: str, wall: FirewallConfig, present: _Present, *, resets: bool
) -> Iterator[encode.Message]:
    table = own_table(tun, wall)
    extra = (Chain(RESET_CHAIN, ()),) if resets else ()
    yield from encode.replace_table(table._replace(chains=(*table.chains, *extra)))
    for family in dict.fromkeys(family for family, _, _ in present.bases):
        for chain in accepts(tun, wall, family):
            yield encode.add_chain(family, CONVENTIONAL, chain)
            for line in chain.rules:
                yield encode.add_rule(family, CONVENTIONAL, chain.name, line)
    for family, _, base, chain_name in _places(present):
        jump = rule(Jump(chain_name))
        yield encode.add_rule(family, CONVENTIONAL, base, jump, first=True)


def _without(present: _Present) -> Iterator[encode.Message]:
    """Removes the accepts; jumps go before what they lead to."""
    for jump in present.jumps:
        yield encode.remove_rule(jump.family, CONVENTIONAL, jump.chain, jump.handle)
    for family, chain in sorted(present.chains):
        yield encode.flush_chain(family, CONVENTIONAL, chain)
        yield encode.remove_chain(family, CONVENTIONAL, chain)


def _drop_table(present: _Present, name: str) -> Iterator[encode.Message]:
    if name in present.tables:
        yield encode.remove_table(Family.INET, name)


# --- the kernel


async def _read(kernel: Session, *, jumps_first: bool = False) -> _Present:
    """What is there.  ``jumps_first``: a jump counts only as the first rule of its chain."""
    tables = await kernel.dump(NFT_MSG_GETTABLE, Family.INET)
    names = frozenset(str(table.get_attr("NFTA_TABLE_NAME")) for table in tables)
    resets = TABLE in names and any(
        chain.get_attr("NFTA_CHAIN_NAME") == RESET_CHAIN
        and chain.get_attr("NFTA_CHAIN_TABLE") == TABLE
        for chain in await kernel.dump(NFT_MSG_GETCHAIN, Family.INET)
    )
    sizes: Counter[tuple[Family, str, str]] = Counter()
    for name in names & {TABLE, GUARD_TABLE}:
        for entry in await kernel.dump_rules(Family.INET, name):
            sizes[Family.INET, name, str(entry.get_attr("NFTA_RULE_CHAIN"))] += 1
    bases: list[tuple[Family, HookPoint, str]] = []
    ours: set[tuple[Family, str]] = set()
    jumps: list[_Jump] = []
    for family in _FAMILIES:
        for chain in await kernel.dump(NFT_MSG_GETCHAIN, family):
            name = str(chain.get_attr("NFTA_CHAIN_NAME"))
            if chain.get_attr("NFTA_CHAIN_TABLE") != CONVENTIONAL:
                continue
            if name in _OURS:
                ours.add((family, name))
            elif (point := _hook_of(chain)) in _OURS.values() and point is not None:
                bases.append((family, point, name))
        if any(family is base[0] for base in bases) or any(family is own[0] for own in ours):
            rules = await kernel.dump_rules(family, CONVENTIONAL)
            jumps += _jumps(family, rules, first=jumps_first)
            for entry in rules:
                sizes[family, CONVENTIONAL, str(entry.get_attr("NFTA_RULE_CHAIN"))] += 1
    return _Present(names, tuple(bases), frozenset(ours), tuple(jumps), sizes, resets)


def _hook_of(chain: Any) -> HookPoint | None:  # noqa: ANN401 - untyped library
    hook = chain.get_attr("NFTA_CHAIN_HOOK")
    if hook is None or chain.get_attr("NFTA_CHAIN_TYPE") != "filter":
        return None
    number = hook.get_attr("NFTA_HOOK_HOOKNUM")
    return HookPoint(number) if number in tuple(HookPoint) else None


def _jumps(family: Family, rules: list[Any], *, first: bool) -> Iterator[_Jump]:
    met: set[str] = set()
    for entry in rules:
        chain = str(entry.get_attr("NFTA_RULE_CHAIN"))
        leading = chain not in met
        met.add(chain)
        if _target(entry) in _OURS and (leading or not first):
            yield _Jump(family, chain, int(entry.get_attr("NFTA_RULE_HANDLE")))


def _target(entry: Any) -> str | None:  # noqa: ANN401 - untyped library
    """Where a rule jumps to."""
    for expression in entry.get_attr("NFTA_RULE_EXPRESSIONS") or ():
        data = expression.get_attr("NFTA_EXPR_DATA")
        if expression.get_attr("NFTA_EXPR_NAME") != "immediate" or data is None:
            continue
        value = data.get_attr("NFTA_IMMEDIATE_DATA")
        verdict = value and value.get_attr("NFTA_DATA_VERDICT")
        if verdict:
            return str(verdict.get_attr("NFTA_VERDICT_CHAIN"))
    return None
