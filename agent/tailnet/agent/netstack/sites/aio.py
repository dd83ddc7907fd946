"""The shell: a stack beside the kernel, for what the kernel cannot translate.

::

    peer ═ datapath ═ packet socket ═ stack, IPv6 ─┬ TCP ──┬─ ordinary sockets, IPv4 ─ the site
                                                   ├ UDP ──┤
                                                   └ pings ┘

Without a TUN device the stack that is there anyway does it.

Source: tailscale ipn/ipnlocal/local.go, ShouldHandleViaIP; wgengine/netstack/netstack.go.
"""

import logging
from collections.abc import Callable, Iterable

from tailnet.agent.addr import IPNetwork, is_site
from tailnet.agent.netstack.aio import Userspace
from tailnet.agent.netstack.interface import MakeStack
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.sites")


class SiteRouter:
    """A stack for as long as this node announces sites.

    Args:
        make_stack: makes a stack on a packet socket's descriptor; ``None``: there is none.
        set_socket: gives the datapath the other end, or takes it away.
        now: a clock.
    """

    def __init__(
        self,
        make_stack: MakeStack | None,
        set_socket: Callable[[int | None], None],
        *,
        now: Callable[[], float],
    ) -> None:
        self._make_stack = make_stack
        self._set_socket = set_socket
        self._now = now
        self._stack: Userspace | None = None
        self._tasks = Tasks()
        self._died = ""

    @property
    def problem(self) -> str:
        """Why sites are not reached; empty if they are."""
        if self._make_stack is None:
            return "translating 4via6 to IPv4 needs the native extension"
        return self._died

    def want(self, announced: Iterable[IPNetwork]) -> None:
        """Be the router of the sites among these, and of no others."""
        sites = frozenset(net for net in announced if is_site(net))
        if sites and self._stack is None and self._make_stack is not None:
            self._stack = Userspace(self._make_stack, now=self._now, on_failed=self._failed)
            self._stack.listen()
            self._set_socket(self._stack.open_tun().detach())
        if self._stack is not None:
            self._stack.sites = sites
            if not sites:
                self._end(self._stack)

    def _end(self, stack: Userspace) -> None:
        self._stack = None
        self._died = ""
        self._set_socket(None)
        _ = self._tasks.start("end of sites", stack.close())

    def _failed(self, reason: str) -> None:
        log.warning("sites are not reached any more: %s", reason)
        self._died = reason

    async def close(self) -> None:
        """End every connection.  Idempotent."""
        if self._stack is not None:
            stack, self._stack = self._stack, None
            self._set_socket(None)
            await stack.close()
        await self._tasks.close()

    def drops(self) -> dict[str, int]:
        """What was not carried, by reason."""
        return self._stack.drops() if self._stack is not None else {}


class StackSites:
    """The same by the stack in the kernel's place."""

    problem = ""

    def __init__(self, stack: Userspace) -> None:
        self._stack = stack

    def want(self, announced: Iterable[IPNetwork]) -> None:
        """Be the router of the sites among these, and of no others."""
        self._stack.sites = frozenset(net for net in announced if is_site(net))

    async def close(self) -> None:
        """The stack outlives the tunnel."""

    def drops(self) -> dict[str, int]:
        """They are the stack's."""
        return {}
