"""The tunnel's addresses, routes and policy rules, made so through rtnetlink.

What is wanted is compared with what the kernel says is there, not with what was done before, so
that crashes and other programs' changes are repaired by applying the configuration again.  The
decisions are in ``rules.py``.

Source: tailscale wgengine/router/osrouter/router_linux.go.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from socket import AF_INET, AF_INET6

from tailnet.platform.interface import MTU, PlatformError, RouterConfig
from tailnet.platform.linux.company import company, refuse_company
from tailnet.platform.linux.constants import RULE_BASE
from tailnet.platform.linux.kernelstate import (
    FAMILIES,
    Connect,
    Policy,
    carry_out,
    computed,
    raise_first,
    read,
    read_policy,
    runs,
)
from tailnet.platform.linux.netlink import Kernel, Link, open_netlink
from tailnet.platform.linux.rules import (
    LEAK_GUARD,
    Abilities,
    Interface,
    Prefix,
    Request,
    Route,
    Rule,
    State,
    Verb,
    covered,
    desired,
    family_of,
    obstacles,
    plan,
)

log = logging.getLogger("tailnet.platform")

Net = IPv4Network | IPv6Network

# Routes; up to here everything is read before every change (4 ms per 100), beyond it only at the
# start, after errors, and when the same configuration is applied again, as it is to repair.
ALWAYS_READ = 16
MAX_NAMED = 4  # rules of others, in one line for people


@dataclass(frozen=True, slots=True)
class _Applied:
    """A configuration, and what it was applied to."""

    config: RouterConfig
    index: int
    able: Abilities


class LinuxRouter:
    """A ``Router`` in the network namespace of the calling thread.

    Args:
        tun_name: the tunnel's device; it must exist from ``up`` to the last ``apply``.
        mtu: of the tunnel.  IPv6 needs 1280.
        connect: opens the connection to the kernel.
    """

    def __init__(self, tun_name: str, *, mtu: int = MTU, connect: Connect = open_netlink) -> None:
        self._name = tun_name
        self._mtu = mtu
        self._connect = connect
        self._one_at_a_time = asyncio.Lock()
        self._added: set[Interface] = set()
        self._last: _Applied | None = None  # done to the end; None: the kernel must be read
        self._missing_told: set[str] = set()
        self.obstacle = ""

    async def up(self) -> None:
        """Remove residue, install the policy rules, set MTU, bring the link up.

        Raises:
            PlatformError: no such device, no permission, the kernel refused, or another daemon has
                this table.
        """
        async with self._session() as kernel:
            link = await self._link(kernel)
            await kernel.set_link(link.index, mtu=self._mtu)
            policy = await self._policy(kernel)
            able = self._abilities(kernel, policy)
            have = await read(kernel, policy, link.index, self._added)
            refuse_company(have.routes, link.index)
            rules = desired(RouterConfig(), link.index, able).rules
            # what a crash left to stop leaks stays until the first configuration
            want = State(rules, frozenset(r for r in have.routes if r.blocks))
            self._last = None
            if errors := await self._do_all(kernel, plan(want, have), link.index):
                raise_first(errors)

    async def apply(self, config: RouterConfig) -> None:
        """Make it so.  Collects errors, does everything it can, then raises the first.

        Raises:
            PlatformError: the first thing that could not be done; the others are in its notes.
        """
        async with self._session() as kernel:
            link = await self._link(kernel)
            whole = link.up and link.mtu >= MTU
            if not whole:  # some or all of its routes went, too
                log.info("%s was %s", self._name, "too small" if link.up else "down")
                await kernel.set_link(link.index, mtu=self._mtu if link.mtu < MTU else None)
            if config.lan_direct:
                near = covered(config.routes, await kernel.lan(link.index))
                config = replace(config, local_routes=config.local_routes | near)
            last, self._last = self._last, None  # until everything is done
            if last is not None and whole and _is_known(last, config, link.index):
                now = replace(last, config=config)
                want, have = await _difference(last, now)
            else:
                policy = await self._policy(kernel)
                now = _Applied(config, link.index, self._abilities(kernel, policy))
                want, have = await self._compare(kernel, policy, now)
            steps = await computed(len(want.routes) + len(have.routes), plan, want, have)
            errors = await self._do_all(kernel, steps, link.index)
            if any(_is_removed_address(s) for s in steps):
                # the last address of a family takes the routes of the device with it
                want, have = await self._compare(kernel, await read_policy(kernel), now)
                errors += await self._do_all(kernel, plan(want, have), link.index)
            if errors:
                raise_first(errors)
            self._last = now

    async def down(self, *, leak_guard: bool = False) -> None:
        """Remove every address, route and rule that is ours, and take the link down.

        If the device is gone, somebody took it from us: what stops leaks stays, as after a crash
        and for ``leak_guard``.

        Raises:
            PlatformError: the first thing that could not be removed.
        """
        async with self._session() as kernel:
            link = await kernel.link(self._name)
            index = link.index if link else None
            self._last = None
            errors = []
            if index is not None:
                try:  # its routes go with it at once, however many
                    await kernel.set_link(index, up=False)
                except PlatformError as error:
                    errors.append(error)
            have = await read(kernel, await read_policy(kernel), index, self._added)
            if company(have.routes, index):
                return  # the rest is another's
            keep = leak_guard or index is None
            blocks = have.routes & LEAK_GUARD if keep else frozenset()
            want = State(have.rules if blocks else frozenset(), blocks)
            errors += await self._do_all(kernel, plan(want, have), index)
            if errors:
                raise_first(errors)
            self._added.clear()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Kernel]:
        async with self._one_at_a_time, self._connect() as kernel:
            yield kernel

    async def _link(self, kernel: Kernel) -> Link:
        link = await kernel.link(self._name)
        if link is None:
            line = f"there is no interface {self._name}; open the TUN device first"
            raise PlatformError(line)
        return link

    def _abilities(self, kernel: Kernel, policy: Policy) -> Abilities:
        """What works here; what does not is told once."""
        families = {AF_INET}
        if kernel.ipv6_usable(self._name):
            families.add(AF_INET6)
        else:
            self._tell_once("IPv6 is off on this host; the tunnel carries IPv4 only")
        routable = {f for f in families if policy[f] is not None}
        if AF_INET not in routable:
            self._tell_once("this kernel has no policy routing; routes go to the main table")
            return Abilities(frozenset(families), frozenset(), tables=False)
        stoppable = frozenset(f for f in FAMILIES if policy[f] is not None)
        return Abilities(frozenset(routable), stoppable)

    async def _policy(self, kernel: Kernel) -> Policy:
        """The rules there are; of those that come before ours people are told."""
        policy = await read_policy(kernel)
        found = obstacles(rule for rules in policy.values() for rule in rules or ())
        self.obstacle = _in_the_way(found)
        return policy

    def _tell_once(self, line: str) -> None:
        if line not in self._missing_told:
            self._missing_told.add(line)
            log.warning("%s", line)

    async def _compare(self, kernel: Kernel, policy: Policy, now: _Applied) -> tuple[State, State]:
        """What is wanted and what is there."""
        have = await read(kernel, policy, now.index, self._added)
        refuse_company(have.routes, now.index)
        size = len(now.config.routes)
        return await computed(size, desired, now.config, now.index, now.able), have

    async def _do_all(
        self, kernel: Kernel, steps: Iterable[Request], index: int | None
    ) -> list[PlatformError]:
        """Do everything possible; where adding failed nothing of that family is deleted.

        Else a half-done change could send into the open what the old routes kept in the tunnel.
        """
        errors: list[PlatformError] = []
        held: set[int] = set()
        for run in runs(steps):
            wanted = [s for s in run if s.verb is Verb.ADD or family_of(s.item) not in held]
            refused = await carry_out(kernel, wanted, index)
            for request, error in refused:
                log.debug("%s", error)
                errors.append(error)
                if request.verb is Verb.ADD:
                    held.add(family_of(request.item))
            if wanted and not refused:
                self._remember(wanted[0])  # of routes nothing is remembered
        return errors

    def _remember(self, step: Request) -> None:
        if isinstance(step.item, Rule | Route):
            return
        if step.verb is Verb.ADD:
            self._added.add(step.item)
        else:
            self._added.discard(step.item)


def _in_the_way(found: list[Rule]) -> str:
    if not found:
        return ""
    these = "; ".join(map(str, found[:MAX_NAMED]))
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return (
        f"a rule of another program comes before the tunnel's and may take packets for peers: "
        f"{these}{more}; have it use a priority above {RULE_BASE + 70}"
    )


def _is_known(last: _Applied, config: RouterConfig, index: int) -> bool:
    """The change can be told from what was done last, without asking the kernel what is there."""
    large = len(last.config.routes) > ALWAYS_READ
    return large and last.index == index and last.config != config


async def _difference(last: _Applied, now: _Applied) -> tuple[State, State]:
    """What is wanted and what was done, of that in which they differ."""
    a, b = last.config, now.config
    pairs = ((a.routes, b.routes), (a.local_routes, b.local_routes), (a.blocked, b.blocked))
    changed = frozenset[Net]().union(*(_not_in_both(x, y) for x, y in pairs if x is not y))
    want, had = [
        await computed(len(changed), desired, _only(a.config, changed), a.index, a.able)
        for a in (now, last)
    ]
    return want, had


def _not_in_both(one: frozenset[Net], two: frozenset[Net]) -> frozenset[Net]:
    """As ``one ^ two``, which copies 10,000; and looks through the second only for a reason."""
    left = one - two
    return left | (two - one) if len(two) > len(one) - len(left) else left


def _only(config: RouterConfig, prefixes: frozenset[Prefix]) -> RouterConfig:
    """The same with these prefixes alone."""
    return replace(
        config,
        routes=config.routes & prefixes,
        local_routes=config.local_routes & prefixes,
        blocked=config.blocked & prefixes,
    )


def _is_removed_address(step: Request) -> bool:
    return step.verb is Verb.DELETE and not isinstance(step.item, Rule | Route)
