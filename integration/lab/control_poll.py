"""Open map streams: who follows, what they are told, when a node counts as gone."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from integration.lab.control_nodes import Record
from integration.lab.control_noise import Request
from integration.lab.control_store import Store
from integration.lab.control_stream import Audience
from msgspec.structs import replace
from zstandard import ZstdCompressor

from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.mapping import MapRequest, MapResponse
from tailnet.agent.tasks import Tasks

REPLAY = 64  # messages that a session keeps for a client that missed them
KEEP_ALIVE = 50.0  # seconds, and up to 8 more


class Poll:
    """One open stream."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.extra: list[MapResponse] = []
        self.over = False


class Session:
    """What one node has been sent, over streams that follow each other.

    Attributes:
        handle: its name; empty if the server does not resume sessions.
    """

    def __init__(self, audience: Audience, handle: str) -> None:
        self.audience = audience
        self.handle = handle
        self._seq = 0
        self._sent: deque[MapResponse] = deque(maxlen=REPLAY)

    def numbered(self, message: MapResponse) -> MapResponse:
        """With its number, and kept, if it changes state and sessions resume."""
        if not self.handle or message.keep_alive:
            return message
        self._seq += 1
        message = replace(message, seq=self._seq)
        self._sent.append(message)
        return message

    def missed(self, seq: int) -> list[MapResponse] | None:
        """What was sent after number ``seq``; ``None`` if that is not known any more."""
        after = [message for message in self._sent if message.seq > seq]
        return after if 0 < seq <= self._seq and len(after) == self._seq - seq else None


class Polls:
    """All open streams, at most one per node.

    Attributes:
        opened: how many streams each node has opened so far.
        resumed: how many of them went on with an earlier session; the others began with a whole
            map.
    """

    def __init__(self, store: Store, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._random_bytes = random_bytes
        self.opened: Counter[int] = Counter()
        self.resumed: Counter[int] = Counter()
        self._sessions: dict[int, Session] = {}  # the newest of each node
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

    def push_all(self, message: MapResponse) -> None:
        """Send it to every node that listens."""
        for node_id in self._open:
            self.push(node_id, message)

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

    async def follow(
        self, record: Record, request: Request, wish: MapRequest, *, compress: bool
    ) -> None:
        """Serve a stream until the client leaves or a newer one of the same node takes over."""
        self.end(record.id)
        poll = self._open[record.id] = Poll()
        self.opened[record.id] += 1
        session, first = self._begin(record, wish)
        try:
            request.start(200)
            for message in first:
                await request.write(frame(message, compress=compress))
            self._store.set_online(record, online=True)
            self.notify()
            while not poll.over:
                for message in await self._next(poll, session.audience):
                    await request.write(frame(session.numbered(message), compress=compress))
            request.end()
        finally:
            if self._open.get(record.id) is poll:
                del self._open[record.id]
                self._gone = self._tasks.start("node gone", self._leave(record))

    def _begin(self, record: Record, wish: MapRequest) -> tuple[Session, list[MapResponse]]:
        """The session of a new stream, and the messages that it begins with."""
        old = self._sessions.get(record.id)
        if old is not None and old.handle and wish.map_session_handle == old.handle:
            missed = old.missed(wish.map_session_seq)
            if missed is not None:
                self.resumed[record.id] += 1
                news = old.audience.delta()
                missed += [old.numbered(news)] if news is not None else []
                hello = MapResponse(map_session_handle=old.handle, seq=wish.map_session_seq)
                return old, [hello, *missed]
        handle = self._random_bytes(8).hex() if self._store.settings.resume else ""
        session = self._sessions[record.id] = Session(Audience(self._store, record.id), handle)
        whole = session.numbered(session.audience.full())
        return session, [replace(whole, map_session_handle=handle)]

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
