"""Everything that is asked of a host's programs fails once.

``python -m integration.lab.dns_faults DEVICE STATE WAYS``: STATE is a shell command that prints how
the host resolves names.  The names of a node follow it through start, configuration, changes and
stop, as in the daemon; at each of these the first thing that is asked of D-Bus or of a program
fails, then the second, and so on; in one way each, or in all of them.

A line is printed for each; the first that is not survived ends it with an error.
"""

import asyncio
import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dbus_fast.aio import MessageBus
from tests.support.nodes import no_https

from tailnet.agent.backend.naming import aio as naming_room
from tailnet.agent.backend.naming.aio import Naming
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.slices import finish
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.node import Node, NodeID
from tailnet.platform import processes
from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.dns.configurator import LinuxDns
from tailnet.platform.linux.dns.connection import Connection
from tailnet.platform.linux.dns.errors import BusError
from tailnet.platform.linux.dns.restore import cleanup
from tailnet.platform.processes import Ended

PATIENCE = 20.0  # seconds for the state that must come
MANY = 60  # more things than any step asks for
DOMAIN, OTHER = "lab.ts.net", "more.example"
ME = Node(id=NodeID(1), name=f"me.{DOMAIN}.", addresses=("100.64.0.1/32",))


class How(Enum):
    """In which way something fails."""

    REFUSED = "refused"  # an error is answered; the program says no
    SILENT = "silent"  # nothing is answered, and nothing was done
    LATE = "done, but not said"
    GONE = "gone"  # the connection ends; the program is not there


class Fault:
    """The ``number``-th thing fails, while ``armed``."""

    def __init__(self) -> None:
        self.number, self.how, self.armed = 0, How.REFUSED, False
        self.seen, self.what = 0, ""

    def arm(self, number: int, how: How) -> None:
        """From now on."""
        self.number, self.how, self.armed = number, how, True
        self.seen, self.what = 0, ""

    def strikes(self, what: str) -> bool:
        """Whether this one fails."""
        if not self.armed or self.what:
            return False
        self.seen += 1
        if self.seen == self.number:
            self.what = what
        return bool(self.what)


def between_us_and_the_bus(fault: Fault) -> None:
    """Connections and calls."""
    call, connect = Connection.call, MessageBus.connect

    async def faulty_call(self: Connection, *words: Any) -> list[Any]:  # noqa: ANN401
        destination, member = words[0], words[3]
        if not fault.strikes(f"{member} of {destination}"):
            return await call(self, *words)
        if fault.how is How.REFUSED:
            name = "org.freedesktop.DBus.Error.Failed"
            raise BusError(name, f"{destination} refused {member}: no")
        if fault.how is How.GONE:
            self._connection.disconnect()
            return await call(self, *words)
        if fault.how is How.LATE:
            await call(self, *words)
        line = f"{destination} does not answer {member} on the system bus"
        raise PlatformError(line)

    async def faulty_connect(self: MessageBus) -> MessageBus:
        if fault.strikes("connection to the bus"):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return await connect(self)

    Connection.call = faulty_call  # type: ignore[assignment,method-assign]
    MessageBus.connect = faulty_connect  # type: ignore[method-assign]


def between_us_and_programs(fault: Fault) -> None:
    """Runs."""
    run = processes.run

    async def faulty_run(*command: str, feed: bytes = b"") -> Ended:
        if not fault.strikes(" ".join(command)):
            return await run(*command, feed=feed)
        if fault.how is How.GONE:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        if fault.how is How.SILENT:
            raise TimeoutError
        if fault.how is How.LATE:
            await run(*command, feed=feed)
        return Ended(1, b"something is locked\n")

    processes.run = faulty_run  # type: ignore[assignment]


def netmap(*domains: str) -> NetworkMap:
    """A tailnet with these search domains."""
    return NetworkMap(
        self_node=ME,
        peers=MappingProxyType({}),
        derp_map=DERPMap(),
        dns=DNSConfig(proxied=True, domains=domains),
        packet_filter=(),
        user_profiles={},
        domain="",
        health=(),
        display_messages={},
    )


class Life:
    """Of a node's names on this host.

    Attributes:
        said: problems that a person would have seen.
    """

    def __init__(self, device: str) -> None:
        resolver = MagicDns(Forwarder(no_https, random_bytes=os.urandom), lambda: 0.0)
        self.naming = Naming(resolver)
        self.naming.on_change = self._on_change
        self.said: list[str] = []
        self._dns = LinuxDns(device)

    def _on_change(self) -> None:
        if trouble := self.naming.refused or self.naming.unreadable:
            self.said.append(trouble)

    async def start(self) -> None:
        """Nobody is logged in."""
        await self.naming.open(self._dns)

    def follow(self, *domains: str) -> None:
        """The tailnet has these search domains."""
        current = netmap(*domains)
        finish(self.naming.apply(current, None))
        self.naming.follow(Prefs(), current)

    def is_told(self, *domains: str) -> bool:
        """The host was told so."""
        told = self.naming._applied
        return told is not None and told.search[: len(domains)] == domains


class Rig:
    """The host, and what its states ought to be."""

    def __init__(self, device: str, state: str) -> None:
        self._device, self._state = device, state
        self.fault = Fault()
        between_us_and_the_bus(self.fault)
        between_us_and_programs(self.fault)
        self._right: dict[tuple[str, ...], str] = {}

    def _now(self) -> str:
        words = ["sh", "-c", self._state]
        return subprocess.run(words, check=False, capture_output=True, text=True).stdout

    async def _until(self, condition: Callable[[], bool], why: str) -> None:
        end = asyncio.get_running_loop().time() + PATIENCE
        while not await asyncio.to_thread(condition):
            if asyncio.get_running_loop().time() > end:
                msg = f"{why}: it stays\n{self._now()}\n, and right would be\n{self._right}"
                raise AssertionError(msg)
            await asyncio.sleep(0.02)

    async def learn(self) -> None:
        """The states of a life without trouble."""
        life = Life(self._device)
        self._right[()] = self._now()
        await life.start()
        for domains in ((DOMAIN,), (DOMAIN, OTHER)):
            life.follow(*domains)
            await self._until(lambda d=domains: life.is_told(*d), "the first time")  # type: ignore[misc]
            self._right[domains] = self._now()
        await life.naming.close()
        after = self._now()
        assert after == self._right[()], f"without trouble:\n{self._right[()]}\nbecame\n{after}"
        assert len(set(self._right.values())) == len(self._right), f"alike: {self._right}"
        assert not life.said, life.said

    async def _becomes(self, life: Life, *domains: str) -> None:
        """In the end everything is as if nothing had happened; till then somebody is told."""
        async with life.naming._telling:  # nothing is half done
            found = self._now()
        assert found in self._right.values() or life.said, f"{self.fault.what}: in silence\n{found}"
        self.fault.armed = False
        is_right = lambda: self._now() == self._right[domains]  # noqa: E731
        await self._until(is_right, f"{self.fault.what} {self.fault.how.value}, for {domains}")

    def _tell(self, when: str, said: Sequence[str]) -> bool:
        fault = self.fault
        if fault.what:
            words = "; ".join(dict.fromkeys(said)) or "mended"
            sys.stdout.write(f"{when}: {fault.what}, {fault.how.value}: {words}\n")
            sys.stdout.flush()
        return bool(fault.what)

    async def ends(self, number: int, how: How) -> bool:
        """Start and stop, each with a thing that fails; false if neither has so many."""
        life = Life(self._device)
        self.fault.arm(number, how)
        await life.start()
        await self._becomes(life)
        life.follow(DOMAIN)
        await self._becomes(life, DOMAIN)
        struck = self._tell("start", life.said)
        self.fault.arm(number, how)
        await life.naming.close()
        self.fault.armed = False
        if self._now() != self._right[()]:  # as the caretaker does, the next daemon, --cleanup
            await cleanup(Path("/"))
            self._forget_link()
        assert self._now() == self._right[()], self.fault.what
        return self._tell("stop", life.said) or struck

    def _forget_link(self) -> None:
        """The tunnel's device goes with the daemon, and its settings with it."""
        words = ["sh", "-c", f"resolvectl revert {self._device}"]
        subprocess.run(words, check=False, capture_output=True)

    async def changes(self, ways: Callable[[int], Sequence[How]]) -> int:
        """One life, in which every change has a thing that fails."""
        life, happened = Life(self._device), 0
        await life.start()
        domains: tuple[str, ...] = ()
        for number in range(1, MANY):
            struck = False
            for how in ways(number):
                domains = (DOMAIN, OTHER) if domains == (DOMAIN,) else (DOMAIN,)
                life.said.clear()
                self.fault.arm(number, how)
                life.follow(*domains)
                told = lambda d=domains: bool(self.fault.what) or life.is_told(*d)  # noqa: E731
                await self._until(told, "a change")
                await self._becomes(life, *domains)
                happened += (hit := self._tell("change", life.said))
                struck |= hit
            if not struck:
                break
        await life.naming.close()
        after = self._now()
        assert after == self._right[()], f"after the changes:\n{after}\nnot\n{self._right[()]}"
        return happened


async def main(device: str, state: str, ways: str) -> None:
    """Everything, in one way each or in all."""
    naming_room.RETRY = 0.1
    every = tuple(How)
    rig = Rig(device, state)

    def of(number: int) -> Sequence[How]:
        return every if ways == "all" else (every[number % len(every)],)

    await rig.learn()
    happened = await rig.changes(of)
    for number in range(1, MANY):
        struck = [await rig.ends(number, how) for how in of(number)]
        happened += sum(struck)
        if not any(struck):
            break
    sys.stdout.write(f"survived {happened}\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    with asyncio.Runner() as runner:
        try:
            runner.run(main(*sys.argv[1:]))
        except AssertionError as error:
            sys.stdout.write(f"{error}\n")
            sys.stdout.flush()
            os._exit(1)  # what is under way is not waited for
