"""The wanted rules, made so: what is there is read, and one transaction leads to what is wanted.

A crash in the middle leaves the old rules or the new ones, never half of them.
"""

import errno
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.nft import encode
from tailnet.platform.linux.nft.guard import TABLE as GUARD_TABLE
from tailnet.platform.linux.nft.guard import Guard, guard_table
from tailnet.platform.linux.nft.library import (
    NFNL_SUBSYS_NFTABLES,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETTABLE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    AsyncNFTables,
    NetlinkError,
    nfgen_msg,
)
from tailnet.platform.linux.nft.ruleset import (
    FORWARD_CHAIN,
    INPUT_CHAIN,
    TABLE,
    Firewall,
    accepts,
    own_table,
)
from tailnet.platform.linux.nft.syntax import Family, HookPoint, Jump, rule

log = logging.getLogger("tailnet.platform")

CONVENTIONAL = "filter"  # in ip and ip6: where iptables, ufw and docker have their chains
_OURS = {INPUT_CHAIN: HookPoint.INPUT, FORWARD_CHAIN: HookPoint.FORWARD}
_NO_NFTABLES = frozenset({errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EPROTOTYPE})
_DUMP = NLM_F_REQUEST | NLM_F_DUMP
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
    """

    tables: frozenset[str]
    bases: tuple[tuple[Family, HookPoint, str], ...]
    chains: frozenset[tuple[Family, str]]
    jumps: tuple[_Jump, ...]


class Nftables:
    """The firewall of the network namespace of the calling thread."""

    async def apply(self, wall: Firewall) -> None:
        """Exactly these rules, wherever the accepts have a place.

        Raises:
            PlatformError: no permission, no nftables in this kernel, or it refused.
        """
        async with _session() as kernel:
            present = await _read(kernel)
            await kernel.commit([*_without(present), *_with(wall, present)])

    async def down(self) -> None:
        """Nothing of ours, except the guard.

        Raises:
            PlatformError: as for ``apply``.
        """
        async with _session() as kernel:
            present = await _read(kernel)
            await kernel.commit([*_without(present), *_drop_table(present, TABLE)])

    async def set_guard(self, guard: Guard | None) -> None:
        """Let nothing past the tunnel, or end that.

        Raises:
            PlatformError: as for ``apply``; the guard is as before.
        """
        async with _session() as kernel:
            if guard is not None:
                await kernel.commit(list(encode.replace_table(guard_table(guard))))
            else:
                present = await _read(kernel)
                await kernel.commit(list(_drop_table(present, GUARD_TABLE)))

    async def whole(self, wall: Firewall, *, guarded: bool) -> bool:
        """True if nobody has removed or displaced our rules.

        Raises:
            PlatformError: as for ``apply``.
        """
        async with _session() as kernel:
            present = await _read(kernel, jumps_first=True)
        wanted = {(family, chain) for family, _, _, chain in _places(present)}
        tables = {TABLE, *((GUARD_TABLE,) if guarded else ())}
        jumps = {(jump.family, jump.chain) for jump in present.jumps}
        bases = {(family, base) for family, _, base, _ in _places(present)}
        log.debug("firewall of %s: %s", wall.tun, present)
        return tables <= present.tables and wanted <= present.chains and bases <= jumps


def _places(present: _Present) -> Iterator[tuple[Family, HookPoint, str, str]]:
    """Family, hook and name of each conventional chain, and which of ours it jumps to."""
    for family, point, base in present.bases:
        for chain, wanted in _OURS.items():
            if wanted is point:
                yield family, point, base, chain


def _with(wall: Firewall, present: _Present) -> Iterator[encode.Message]:
    yield from encode.replace_table(own_table(wall))
    for family in dict.fromkeys(family for family, _, _ in present.bases):
        for chain in accepts(wall, family):
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


class _Kernel:
    """One connection, for one operation."""

    def __init__(self, nft: AsyncNFTables) -> None:
        self._nft = nft

    async def commit(self, messages: list[encode.Message]) -> None:
        """All or nothing."""
        if not messages:
            return
        batch = encode.batch(messages)
        async for _ in self._nft.nlm_request_batch(batch, noraise=False):
            pass

    async def dump(self, command: int, family: Family) -> list[Any]:
        """Tables, chains or rules of one family."""
        message = nfgen_msg()
        message["nfgen_family"] = int(family)
        kind = NFNL_SUBSYS_NFTABLES << 8 | command
        return [m async for m in await self._nft.nlm_request(message, kind, _DUMP)]


@asynccontextmanager
async def _session() -> AsyncIterator[_Kernel]:
    nft = AsyncNFTables()
    try:
        await nft.setup_endpoint()
        yield _Kernel(nft)
    except NetlinkError as error:
        raise PlatformError(error.code, _explain(error.code)) from error
    finally:
        nft.close()


def _explain(code: int) -> str:
    if code == errno.EPERM:
        return "the firewall cannot be changed without CAP_NET_ADMIN"
    if code in _NO_NFTABLES:
        return "this kernel has no nftables, or not what the firewall needs of it"
    return f"nftables refused the firewall: {errno.errorcode.get(code, code)}"


async def _read(kernel: _Kernel, *, jumps_first: bool = False) -> _Present:
    """What is there.  ``jumps_first``: a jump counts only as the first rule of its chain."""
    tables = await kernel.dump(NFT_MSG_GETTABLE, Family.INET)
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
        if bases or ours:
            jumps += _jumps(family, await kernel.dump(NFT_MSG_GETRULE, family), first=jumps_first)
    names = frozenset(str(table.get_attr("NFTA_TABLE_NAME")) for table in tables)
    return _Present(names, tuple(bases), frozenset(ours), tuple(jumps))


def _hook_of(chain: Any) -> HookPoint | None:  # noqa: ANN401 - untyped library
    hook = chain.get_attr("NFTA_CHAIN_HOOK")
    if hook is None or chain.get_attr("NFTA_CHAIN_TYPE") != "filter":
        return None
    number = hook.get_attr("NFTA_HOOK_HOOKNUM")
    return HookPoint(number) if number in tuple(HookPoint) else None


def _jumps(family: Family, rules: list[Any], *, first: bool) -> Iterator[_Jump]:
    met: set[str] = set()
    for entry in rules:
        if entry.get_attr("NFTA_RULE_TABLE") != CONVENTIONAL:
            continue
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
