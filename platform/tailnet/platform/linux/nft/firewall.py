"""The wanted rules, made so: what is there is read, and one transaction leads to what is wanted.

A crash in the middle leaves the old rules or the new ones, never half of them.
"""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from tailnet.platform.interface import FirewallConfig, NetfilterMode, PlatformError
from tailnet.platform.linux.around import read_around
from tailnet.platform.linux.nft import encode
from tailnet.platform.linux.nft.guard import EXIT_TABLE, Around, exit_table, guard_table
from tailnet.platform.linux.nft.guard import TABLE as GUARD_TABLE
from tailnet.platform.linux.nft.present import (
    DIVERTED,
    FAMILIES,
    FIREWALLD,
    OWN_TABLES,
    RESET_CHAIN,
    Place,
    Present,
    read,
)
from tailnet.platform.linux.nft.ruleset import (
    FILTER,
    NAT,
    accepts,
    own_table,
    undiverted,
)
from tailnet.platform.linux.nft.session import Session, open_session
from tailnet.platform.linux.nft.syntax import Chain, Family, Jump, Table, rule
from tailnet.platform.linux.nft.watch import changes
from tailnet.platform.linux.sysctl import make_marks_count, marks_count

log = logging.getLogger("tailnet.platform")

_FIREWALLD = (
    "firewalld runs, and its rules come after ours, which cannot let the tunnel through; it can: "
    "firewall-cmd --permanent --zone=trusted --add-interface={tun} && firewall-cmd --reload"
)


class _Wanted(NamedTuple):
    """What shall be there of ours.

    Attributes:
        tables: ours alone.
        chains: in conventional tables, by their places.
        jumps: from whose chain to which of ours.
    """

    tables: tuple[Table, ...]
    chains: dict[Place, Chain]
    jumps: tuple[tuple[Place, str], ...]


class LinuxFirewall:
    """A ``Firewall`` in the network namespace of the calling thread.

    Args:
        tun_name: the tunnel's device, which may come and go.
    """

    def __init__(self, tun_name: str) -> None:
        self._tun = tun_name
        self._wanted: FirewallConfig | None = None
        self._forbidden = ""  # why marks do not count; logged when it changes
        self._resets = False  # as RESET_CHAIN says, should somebody flush it
        self._one_at_a_time = asyncio.Lock()
        self.obstacle = ""

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
            present = await self._read(kernel, config)
            resets = present.resets_mark or self._resets or (on and not marks_count())
            around = await _around(self._tun, config)
            wanted = _wanted(self._tun, config, present, around, resets=on and resets)
            await kernel.commit(list(_steps(wanted, present, OWN_TABLES)))
        if resets:
            self._make_marks_count(yes=on)
        self._resets = resets and on

    def _make_marks_count(self, *, yes: bool) -> None:
        before, self._forbidden = self._forbidden, make_marks_count(yes=yes)
        if self._forbidden not in ("", before):
            log.warning("%s", self._forbidden)

    async def intact(self) -> bool:
        """True if nobody has removed or displaced our rules.

        Raises:
            PlatformError: as for ``apply``.
        """
        async with self._one_at_a_time, open_session() as kernel:
            config = self._wanted
            if config is None:
                return True
            present = await self._read(kernel, config)
            around = await _around(self._tun, config)
        wanted = _wanted(self._tun, config, present, around)
        tables = {table.name for table in wanted.tables}
        sizes = {place: len(chain.rules) for place, chain in wanted.chains.items()}
        for family, name, chains in wanted.tables:
            sizes |= {Place(family, name, chain.name): len(chain.rules) for chain in chains}
        leading = {jump.chain for jump in present.jumps if jump.first}
        return (
            tables <= present.tables
            and wanted.chains.keys() <= present.chains
            and all(present.sizes[place] == size for place, size in sizes.items())
            and {base for base, _ in wanted.jumps} <= leading
        )

    async def _read(self, kernel: Session, config: FirewallConfig) -> Present:
        present = await read(kernel, self._tun)
        overruled = config.mode is NetfilterMode.ON and present.unzoned
        self.obstacle = _FIREWALLD.format(tun=self._tun) if overruled else ""
        return present

    def disturbances(self) -> AsyncIterator[None]:
        """See ``Firewall``."""
        return changes(lambda: _watched(self._wanted))

    async def down(self, *, leak_guard: bool = False) -> None:
        """Nothing of ours, except the guard; ``leak_guard``: and that of an exit node.

        Raises:
            PlatformError: as for ``apply``.
        """
        async with self._one_at_a_time:
            self._wanted = None
            await remove(guard=False, leak_guard=not leak_guard)
            if self._resets:
                self._make_marks_count(yes=False)
            self._resets = False


async def remove(*, guard: bool, leak_guard: bool = True) -> list[str]:
    """Remove what is ours, also what a daemon that died has left.

    Args:
        guard: the kill switch as well.
        leak_guard: the guard of an exit node as well.

    Returns:
        A line for each thing removed.

    Raises:
        PlatformError: as for ``LinuxFirewall.apply``; all is as before.
    """
    spared = {GUARD_TABLE: not guard, EXIT_TABLE: not leak_guard}
    tables = tuple(table for table in OWN_TABLES if not spared.get(table))
    async with open_session() as kernel:
        present = await read(kernel)
        await kernel.commit(list(_steps(_NOTHING, present, tables)))
    if present.resets_mark and (forbidden := make_marks_count(yes=False)):
        log.warning("%s", forbidden)
    gone = [f"table inet {table}" for table in tables if table in present.tables]
    gone += [f"chain {place}" for place in sorted(present.chains - present.held)]
    return [f"removed firewall {thing}" for thing in gone]


_NOTHING = _Wanted((), {}, ())


async def _around(tun: str, config: FirewallConfig) -> Around | None:
    """For the guard of an exit node, if there is to be one."""
    wanted = config.exit_guard if config.mode is NetfilterMode.ON else None
    return None if wanted is None else await read_around(tun, wanted)


def _watched(config: FirewallConfig | None) -> tuple[str, ...]:
    """Names of the tables that hold rules of ours, or whose rules matter."""
    undiverted = config is not None and config.mode is NetfilterMode.NODIVERT
    return (FILTER, *OWN_TABLES, FIREWALLD, *((NAT,) if undiverted else ()))


def _wanted(
    tun: str, wall: FirewallConfig, present: Present, around: Around | None, *, resets: bool = False
) -> _Wanted:
    """What ``wall`` means where these chains of others are.

    ``resets``: it is to be noted that ``src_valid_mark`` was 0.
    """
    tables: list[Table] = []
    chains: dict[Place, Chain] = {}
    jumps: list[tuple[Place, str]] = []
    if wall.mode is NetfilterMode.ON:
        own = own_table(tun, wall)
        extra = (Chain(RESET_CHAIN, ()),) if resets else ()
        tables.append(own._replace(chains=(*own.chains, *extra)))
        for base, point in present.bases:
            for chain in accepts(tun, wall, base.family):
                chains[base._replace(chain=chain.name)] = chain
            jumps.append((base, DIVERTED[point]))
    elif wall.mode is NetfilterMode.NODIVERT:
        for family in FAMILIES:
            for table, chain in undiverted(tun, wall, family):
                chains[Place(family, table, chain.name)] = chain
    if wall.guard is not None:
        tables.append(guard_table(tun, wall.guard))
    if around is not None:
        tables.append(exit_table(tun, around))
    return _Wanted(tuple(tables), chains, tuple(jumps))


def _steps(want: _Wanted, have: Present, tables: tuple[str, ...]) -> Iterator[encode.Message]:
    """From what is there to what is wanted.  ``tables``: names of ours, wanted or not to be there.

    Jumps go before what they lead to, and come after it.
    """
    yield from _guests_out(want, have)
    yield from _guests_in(want, have)
    wanted = {table.name: table for table in want.tables}
    for name in tables:
        if name in wanted:
            yield from encode.replace_table(wanted[name])
        elif name in have.tables:
            yield encode.remove_table(Family.INET, name)


def _guests_out(want: _Wanted, have: Present) -> Iterator[encode.Message]:
    """Empties the conventional tables of what is ours."""
    for jump in have.jumps:
        family, table, chain = jump.chain
        yield encode.remove_rule(family, table, chain, jump.handle)
    for place in sorted(have.chains):
        yield encode.flush_chain(*place)
        if place not in want.chains and place not in have.held:
            yield encode.remove_chain(*place)
    needed = {(place.family, place.table) for place in want.chains}
    for where, others in sorted(have.shared.items()):
        if where in have.made - needed and not others:
            yield encode.remove_table(*where)


def _guests_in(want: _Wanted, have: Present) -> Iterator[encode.Message]:
    """Fills them again; a table that is not there is made, and says that it is ours."""
    for where in sorted(
        {(place.family, place.table) for place in want.chains} - have.shared.keys()
    ):
        yield encode.add_table(*where, tag=True)
    for (family, table, name), chain in sorted(want.chains.items()):
        yield encode.add_chain(family, table, chain)
        for line in chain.rules:
            yield encode.add_rule(family, table, name, line)
    for (family, table, base), target in want.jumps:
        yield encode.add_rule(family, table, base, rule(Jump(target)), first=True)
