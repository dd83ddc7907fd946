"""The kept network map's shell: one file, written off the event loop and not too often."""

import asyncio
import contextlib
import glob
import logging
import os
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tailnet.agent.backend.keptmap import (
    MAX_BYTES,
    KeptMap,
    decode_lines_untrusted,
    encode_lines,
    encode_struck,
    map_path,
    may_keep,
)
from tailnet.agent.backend.seal import Seal, is_sealed
from tailnet.agent.control.fold import Folder
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.dates import Calendar
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePublic
from tailnet.agent.tailcfg.node import NodeID
from tailnet.agent.tasks import Tasks

T = TypeVar("T")

log = logging.getLogger("tailnet.kept")

PURPOSE = "tailnetd network map"
FILE_MODE = 0o600
SETTLE = 2.0  # seconds from news to writing; a login brings several maps
LONGEST_TIMER = 86_400.0  # seconds
RATE = 128 << 10  # bytes/s that writing may come to, on the average


def tidy(state: Path, current: str, known: Collection[str], *, sealed: bool) -> None:
    """Maps of profiles that are no more go; the one that early releases kept gets its new name.

    So do maps that are not ``sealed`` when the state is, or are when it is not.
    """
    early = state.with_name(f"{state.stem}.netmap")
    with contextlib.suppress(OSError):
        if early.exists():
            early.replace(map_path(state, current))
        left = {map_path(state, profile_id) for profile_id in (current, *known)}
        for path in state.parent.glob(f"{glob.escape(state.stem)}.[0-9a-f]*.netmap"):
            if path not in left or _is_sealed(path) is not sealed:
                path.unlink()


def _is_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        return is_sealed(file.read(64))


def remove_map(state: Path, profile_id: str) -> None:
    """The map of a profile that is no more."""
    with contextlib.suppress(OSError):
        map_path(state, profile_id).unlink()


class MapFile:
    """Keeps the latest network map in ``path``."""

    def __init__(self, path: Path, *, calendar: Calendar, seal: Seal | None = None) -> None:
        """``seal``: what the file is encrypted with."""
        self._path = path
        self._seal = seal
        self._calendar = calendar
        self._news: tuple[NetworkMap, str] | None = None
        self._there: tuple[NetworkMap, str] | None = None  # in the file
        self._peers: frozenset[NodeID] = frozenset()  # of that, but for who was struck out
        self._tasks = Tasks()
        self._writing = False
        self._hurry = asyncio.Event()
        self._removed = False

    async def load(self) -> KeptMap | None:
        """What is there; a file that makes no sense counts as none."""
        return await asyncio.to_thread(self._load)

    def note(self, netmap: NetworkMap, server: str, *, urgent: bool = False) -> None:
        """Write this one soon; ``urgent`` (somebody lost access) does not wait for its turn."""
        self._removed = False
        self._news = (netmap, server)
        if urgent:
            self._hurry.set()
        if not self._writing:
            self._writing = True
            _ = self._tasks.start("kept map", self._write())

    def remove(self) -> None:
        """Forget the map: logged out, or not allowed any more."""
        self._news = self._there = None
        if not self._removed:
            self._removed = True
            with contextlib.suppress(OSError):
                self._path.unlink()

    async def close(self) -> None:
        """Write what is not written yet."""
        await self._tasks.close()
        if self._news is not None:
            (netmap, server), self._news = self._news, None
            await self._in_thread(self._save, netmap, server)

    async def _write(self) -> None:
        """Write the news of now and, after a while, of then; ends when there is none."""
        await asyncio.sleep(SETTLE)
        while self._news is not None:
            (netmap, server), self._news = self._news, None
            self._hurry.clear()
            size = await self._in_thread(self._save, netmap, server)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(size / RATE):
                    await self._strike_out()
            await asyncio.sleep(SETTLE)
        self._writing = False

    async def _strike_out(self) -> None:
        """Peers that leave, for as long as the file needs nothing else at once."""
        while True:
            await self._hurry.wait()
            self._hurry.clear()
            await asyncio.sleep(SETTLE)
            if self._news is None or not await self._in_thread(self._strike, *self._news):
                return

    async def _in_thread(
        self, write: Callable[[NetworkMap, str], T], netmap: NetworkMap, server: str
    ) -> T:
        """Write; a thread does not stop when cancelled, and two must not write at once."""
        work = asyncio.get_running_loop().run_in_executor(None, write, netmap, server)
        try:
            return await asyncio.shield(work)
        finally:
            await work
            if self._removed:  # meanwhile
                self._removed = False
                self.remove()

    # --- in a thread

    def _strike(self, netmap: NetworkMap, server: str) -> bool:
        """Append who left; false if the file must be written anew for what became of it."""
        there = self._there
        if there is None or self._seal is not None:  # what is sealed cannot be added to
            return False
        before, its_server = there
        if (server, netmap.self_node.key) != (its_server, before.self_node.key):
            return False
        if netmap.packet_filter != before.packet_filter:  # a map that comes again has an equal one
            return False
        gone = self._peers.difference(netmap.peers)
        if not gone:
            return True
        try:
            with self._path.open("r+b", buffering=0) as file:
                file.seek(0, os.SEEK_END)
                file.write(encode_struck(gone))
                os.fsync(file.fileno())
        except OSError:
            return False
        self._peers -= gone
        return True

    def _load(self) -> KeptMap | None:
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size  # reading asks for so much memory at once
                data = file.read(min(size + 1, MAX_BYTES + MAX_BYTES // 1024))
            if self._seal is not None:
                data = self._seal.open_untrusted(data, PURPOSE)
            return decode_lines_untrusted(data)
        except FileNotFoundError:
            return None
        except (OSError, BadPacket) as error:
            log.warning("the kept network map %s is of no use: %s", self._path, error)
            return None

    def _save(self, netmap: NetworkMap, server: str) -> int:
        """Replace the file as a whole; its size [bytes].  No room is no reason to fail."""
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        size = 0
        self._there = None
        try:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(fd, "wb", buffering=1 << 18) as file:
                pieces = encode_lines(netmap, server, self._calendar.today(), self._calendar.ahead)
                if self._seal is not None:
                    pieces = self._seal.seal(pieces, PURPOSE)
                for piece in pieces:
                    size += file.write(piece)
                file.flush()
                os.fsync(fd)
            if size > MAX_BYTES:
                temporary.unlink()
                log.warning("the network map is too large to be kept")
            else:
                temporary.replace(self._path)
                self._there, self._peers = (netmap, server), frozenset(netmap.peers)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            log.warning("cannot keep the network map: %s", error.strerror or error)
        return size


class MapKeeper:
    """A kept map in use: since when, and who of it has expired meanwhile."""

    def __init__(
        self,
        file: MapFile | None,
        *,
        calendar: Calendar,
        on_expired: Callable[[NetworkMap], None],
        wanted: bool = True,
    ) -> None:
        """``file`` is ``None`` where nothing can be kept; ``wanted``: see :meth:`want`."""
        self._file = file
        self._wanted = wanted
        self._calendar = calendar
        self._on_expired = on_expired
        self._folder: Folder | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last: NetworkMap | None = None
        self._server = ""
        self.since: datetime | None = None

    async def load(self, server: str, node_key: NodePublic) -> NetworkMap | None:
        """Begin to use what is on disk, if it is a map of this login."""
        if not self._wanted:
            self.remove()
        kept = await self._file.load() if self._file is not None else None
        if kept is None:
            return None
        if kept.server != server or kept.node_key != node_key:
            self.forget()
            return None
        log.info("using the network map of %s until the control server answers", kept.at)
        self._calendar.guess(kept.date(self._calendar.here()))
        self._folder = await asyncio.to_thread(kept.fold, self._calendar.today())
        self.since = kept.at
        self._arm()
        return self._folder.netmap(self._calendar.today())

    def note(self, netmap: NetworkMap, server: str) -> None:
        """The server sent this one: the kept one has done its service, and is replaced."""
        self._end()
        last, self._last, self._server = self._last, netmap, server
        if not self._wanted or not may_keep(netmap):
            self.remove()
        elif self._file is not None:
            lost = last is not None and (
                len(netmap.peers) < len(last.peers)
                or netmap.packet_filter is not last.packet_filter
            )
            self._file.note(netmap, server, urgent=lost)

    def want(self, wanted: bool) -> None:
        """Whether the user wants a map on disk; the one in use stays in use."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if not wanted:
            self.remove()
        elif self._last is not None:
            self.note(self._last, self._server)

    def remove(self) -> None:
        """Keep nothing on disk."""
        if self._file is not None:
            self._file.remove()

    def forget(self) -> None:
        """Keep nothing, here and on disk."""
        self._end()
        self._last = None
        self.remove()

    async def close(self) -> None:
        """Write what is not written yet."""
        self._end()
        if self._file is not None:
            await self._file.close()

    def _end(self) -> None:
        self.since = self._folder = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._folder is None:
            return
        if (left := self._folder.next_expiry(self._calendar.today())) is not None:
            delay = min(left + 1.0, LONGEST_TIMER)
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        if self._folder is not None:
            change = self._folder.expire(self._calendar.today())
            self._arm()
            if change is not None:
                self._on_expired(self._folder.netmap(self._calendar.today()))
