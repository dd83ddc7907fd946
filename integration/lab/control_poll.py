"""Open map streams: who follows, what they are told, when a node counts as gone."""

import asyncio
from collections import Counter
from collections.abc import Callable

from integration.lab.control_nodes import Record
from integration.lab.control_noise import Request
from integration.lab.control_store import Store
from integration.lab.control_stream import Audience
from zstandard import ZstdCompressor

from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.mapping import MapResponse
from tailnet.agent.tasks import Tasks

KEEP_ALIVE = 50.0  # seconds, and up to 8 more


class Poll:
    """One open stream."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.extra: list[MapResponse] = []
        self.over = False


class Polls:
    """All open streams, at most one per node.

    Attributes:
        opened: how many streams each node has opened so far; each began with a whole map.
    """

    def __init__(self, store: Store, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._random_bytes = random_bytes
        self.opened: Counter[int] = Counter()
        self._open: dict[int, Poll] = {}
        self._tasks = Tasks()

    def notify(self) -> None:
        """Something changed; everybody is told what of it concerns them."""
        for poll in self._open.values():
            poll.wake.set()

    def push(self, node_id: int, message: MapResponse) -> None:
        """Send one node a message out of turn."""
        poll = self._open[node_id]
        poll.extra.append(message)
        poll.wake.set()

    def end(self, node_id: int) -> None:
        """End a node's stream."""
        poll = self._open.pop(node_id, None)
        if poll is not None:
            poll.over = True
            poll.wake.set()

    async def close(self) -> None:
        """Forget the nodes that are about to count as gone."""
        await self._tasks.close()

    def one_shot(self, record: Record, *, compress: bool) -> bytes:
        """A whole map in one frame."""
        return frame(Audience(self._store, record.id).full(), compress=compress)

    async def follow(self, record: Record, request: Request, *, compress: bool) -> None:
        """Serve a stream until the client leaves or a newer one of the same node takes over."""
        self.end(record.id)
        poll = self._open[record.id] = Poll()
        self.opened[record.id] += 1
        audience = Audience(self._store, record.id)
        try:
            request.start(200)
            await request.write(frame(audience.full(), compress=compress))
            self._store.set_online(record, online=True)
            self.notify()
            while not poll.over:
                for message in await self._next(poll, audience):
                    await request.write(frame(message, compress=compress))
            request.end()
        finally:
            if self._open.get(record.id) is poll:
                del self._open[record.id]
                self._gone = self._tasks.start("node gone", self._leave(record))

    async def _next(self, poll: Poll, audience: Audience) -> list[MapResponse]:
        try:
            async with asyncio.timeout(KEEP_ALIVE + self._random_bytes(1)[0] / 32):
                await poll.wake.wait()
        except TimeoutError:
            return [MapResponse(keep_alive=True)]
        poll.wake.clear()
        extra, poll.extra = poll.extra, []
        delta = None if poll.over else audience.delta()
        return extra if delta is None else [*extra, delta]

    async def _leave(self, record: Record) -> None:
        grace = self._store.settings.offline_grace
        await asyncio.sleep(grace)
        if self._is_back(record):
            return
        self._store.set_online(record, online=False)
        self.notify()
        if record.ephemeral:
            await asyncio.sleep(max(0.0, self._store.settings.ephemeral_grace - grace))
            if not self._is_back(record):
                self._store.delete(record)
                self.notify()

    def _is_back(self, record: Record) -> bool:
        return record.id in self._open or self._store.records.get(record.id) is not record


def frame(message: MapResponse, *, compress: bool) -> bytes:
    """u32 little-endian length, then JSON, compressed if the client asked for that."""
    data = encode(message)
    if compress:
        data = ZstdCompressor().compress(data)
    return len(data).to_bytes(4, "little") + data
