"""The one timer of the shell, on a machine that sleeps."""

import asyncio
from typing import cast

from tests.agent.magicsock.test_hub import MINE, PEER, A, P, hub, mail

from tailnet.agent.datapath.interface import Path
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.disco.messages import Ping, Pong
from tailnet.agent.magicsock.drain.aio import Drain
from tailnet.agent.magicsock.measure.aio import Measuring
from tailnet.agent.magicsock.sender.aio import Sender


class Nothing:
    """Stands for measurements, relays and sockets that have nothing to do."""

    home = 0
    datapath = None

    def drain(self) -> bool:
        """Nothing."""
        return False

    def next_timeout(self) -> None:
        """Never."""

    def handle_timeout(self, *, needed: bool) -> None:
        """Nothing."""

    def live(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def send_to(self, dst: object, data: bytes) -> None:
        """Nowhere."""


async def test_after_a_sleep_what_is_overdue_happens_with_the_first_input() -> None:
    """Asyncio's clock stood still meanwhile, and its timer would come seconds late."""
    it, now, none = hub(PEER.info(A)), 1.0, Nothing()
    drain = Drain(
        it,
        cast("Measuring", none),
        cast("Sender", none),
        cast("DerpFleet", none),
        now=lambda: now,
    )
    it.note_data_sent(P, now)
    for dst, message in mail(it):
        if dst == A and isinstance(message, Ping):
            it.handle_disco_untrusted(PEER.seal(Pong(message.txid, MINE)), A, now)
    drain.start()
    assert it.route(P) == Path(A, relay=False)
    now += 100.0
    drain.run()
    async with asyncio.timeout(2):
        while not it.route(P).relay:  # noqa: ASYNC110 - a timer of 0 s; nothing says when
            await asyncio.sleep(0)
    drain.stop()
