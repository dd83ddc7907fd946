"""``Follower``: makes the plan in force follow the prefs and the network map.

A change of a few peers is done at once.  What concerns all of a large network takes a few hundred
milliseconds, and is done in slices between other things.  The plan of before stays in force, for
everybody who asks, until the last slice.  What comes meanwhile:

* a delta waits until the slices are done, and then costs as much as any delta;
* another whole map, other prefs, or no network at all: the slices are given up, and the newest
  wish begins at once.  What was done of them is not lost: tables are compared with what they have.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass

from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import Plan, plan_slices
from tailnet.agent.backend.plancache import PlanCache
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.keys import DiscoPublic, PeerId
from tailnet.agent.slices import SLICE, Steps, finish, much_to_keep
from tailnet.agent.tailcfg.node import Node, NodeID
from tailnet.agent.tasks import Tasks

Wish = tuple[Prefs | None, NetworkMap | None]


@dataclass(frozen=True, slots=True)
class Turn:
    """What comes into force.

    Attributes:
        plan: ``None``: no network.
        netmap: what it was made of.
        changed: only these nodes differ from those of the turn before; ``None``: any.
        alive: see ``Tunnel.apply``.
    """

    plan: Plan | None = None
    netmap: NetworkMap | None = None
    changed: Collection[NodeID] | None = None
    alive: PeerId | None = None


class Follower:
    """Holds the plan in force.

    Args:
        apply: gives the steps that bring everything to a plan.
        on_done: slices are done: look whether there is another wish.
    """

    def __init__(self, apply: Callable[[Turn], Steps[None]], on_done: Callable[[], None]) -> None:
        self._apply = apply
        self._on_done = on_done
        self._ids = PeerIds()
        self._cache = PlanCache()
        self._wish: Wish = (None, None)
        self._changed: set[NodeID] | None = None  # since that wish; None: any
        self._steps: Steps[None] | None = None
        self._idle = asyncio.Event()  # no slices are left
        self._idle.set()
        self._tasks = Tasks()
        self.plan: Plan | None = None

    def note(self, changed: frozenset[NodeID] | None) -> None:
        """Only these nodes will differ in the next map; ``None``: any may."""
        if changed is None:
            self._changed = None
        elif self._changed is not None:
            self._changed |= changed

    @property
    def exit_node(self) -> NodeID | None:
        """The one of the last wish, which may not be in force yet."""
        return self._cache.terms.exit_node

    def announce(self, node: Node, key: DiscoPublic) -> bool:
        """See ``PlanCache.announce``; whether :meth:`follow` has something to do now."""
        news = self._cache.announce(node, key)
        if news:
            self._changed = None
        return news

    def follow(self, prefs: Prefs, netmap: NetworkMap | None, alive: PeerId | None = None) -> None:
        """Follow this wish from now on; ``netmap`` is ``None`` where there is to be no network.

        ``alive``: see ``Tunnel.apply``.
        """
        old_prefs, old_map = self._wish
        is_small = self._changed is not None and len(self._changed) <= SLICE
        if prefs is old_prefs and netmap is old_map and (netmap is None or self._changed == set()):
            return
        if self._steps is not None:
            if netmap is not None and prefs is old_prefs and is_small:
                return  # it waits for its turn
            self._steps.close()
            self._steps = None
            is_small = False  # some peers are half-way
        changed = self._changed if is_small and old_map is not None else None
        self._wish, self._changed = (prefs, netmap), set()
        steps = self._follow(prefs, netmap, changed, alive)
        try:
            next(steps)
        except StopIteration:
            self._idle.set()
            return
        self._steps = steps
        self._idle.clear()
        _ = self._tasks.start("plan", self._go_on(steps))

    def start_over(self) -> None:
        """Another account: nothing of the one before is left when this returns."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None
            self._idle.set()
        self._cache = PlanCache()
        self._wish, self._changed, self.plan = (None, None), None, None
        finish(self._apply(Turn()))

    async def _go_on(self, steps: Steps[None]) -> None:
        """The other slices; closed steps have none."""
        await asyncio.sleep(0)
        for _ in steps:
            await asyncio.sleep(0)
        if self._steps is steps:
            self._steps = None
            self._idle.set()
            self._on_done()

    async def done(self) -> None:
        """Until the last wish is the plan in force."""
        while self._steps is not None:
            await self._idle.wait()

    def _follow(
        self,
        prefs: Prefs,
        netmap: NetworkMap | None,
        changed: set[NodeID] | None,
        alive: PeerId | None,
    ) -> Steps[None]:
        if netmap is None:
            self.plan = None
            yield from self._apply(Turn(alive=alive))
            return
        with much_to_keep() if changed is None else nullcontext():
            plan = yield from plan_slices(prefs, netmap, self._ids, self._cache, changed)
            yield from self._apply(Turn(plan, netmap, changed, alive))
            self.plan = plan

    async def close(self) -> None:
        """Leave it as it is."""
        await self._tasks.close()
