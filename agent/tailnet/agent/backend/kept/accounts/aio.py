"""``KeptMaps``: every account has a kept map of its own; the one in use is looked after."""

from collections.abc import Callable
from datetime import datetime

from tailnet.agent.backend.account.aio import Account
from tailnet.agent.backend.files.aio import StateStore
from tailnet.agent.backend.kept.aio import MapFile, MapKeeper, remove_map, tidy
from tailnet.agent.backend.keptmap import map_path
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.dates import Calendar
from tailnet.agent.tasks import Tasks


class KeptMaps:
    """Follows the account in use.

    Args:
        keep: a map may lie on the disk at all.
        on_expired: of the map in use, by time alone.
    """

    def __init__(
        self,
        store: StateStore,
        account: Account,
        *,
        keep: bool,
        calendar: Calendar,
        on_expired: Callable[[NetworkMap], None],
    ) -> None:
        self._store = store
        self._account = account
        self._keep = keep
        self._calendar = calendar
        self._on_expired = on_expired
        self._profile_id = account.profile_id
        self._keeper = self._make_keeper()
        self._had_map = False
        self._ending: set[tuple[str, MapKeeper]] = set()  # with the profiles that they are of
        self._tasks = Tasks()

    def tidy(self) -> None:
        """Remove what no account of today has left."""
        if (path := self._store.path) is not None:
            known = {profile.id for profile in self._account.profiles}
            tidy(path, self._profile_id, known, sealed=self._store.seal is not None)

    @property
    def since(self) -> datetime | None:
        """When the kept map in use was kept; ``None``: none is in use."""
        return self._keeper.since

    async def load(self) -> NetworkMap | None:
        """What was known of this account's tailnet, to be used until its server answers."""
        account, keeper = self._account, self._keeper
        kept = await keeper.load(account.prefs.server_url, public_of(account.node_key))
        return kept if account.registered and keeper is self._keeper else None

    def note(self, netmap: NetworkMap) -> None:
        """The server sent this one."""
        self._keeper.note(netmap, self._account.prefs.server_url)

    def want(self, wanted: bool) -> None:
        """Whether the user wants a map on disk; the one in use stays in use."""
        self._keeper.want(wanted)

    def remove(self) -> None:
        """Keep nothing on disk until the next map."""
        self._keeper.remove()

    def follow(self) -> None:
        """Who has no map any more, logged out or deleted at the server, is to have none on disk."""
        has_map = self._account.netmap is not None
        if self._had_map and not has_map:
            self._keeper.forget()
        self._had_map = has_map

    def switch(self, profile_id: str, removed: frozenset[str]) -> bool:
        """This account is in use now, and those are gone; whether another one was before."""
        another = profile_id != self._profile_id
        if another:
            before, self._profile_id = (self._profile_id, self._keeper), profile_id
            self._keeper = self._make_keeper()
            self._had_map = False
            if removed:
                before[1].forget()
            self._ending.add(before)
            _ = self._tasks.start("kept map", self._end(before))
        for gone in removed:
            for its_profile, keeper in self._ending:
                if its_profile == gone:  # which may be about to write it
                    keeper.forget()
            if self._store.path is not None:
                remove_map(self._store.path, gone)
        return another

    async def _end(self, ending: tuple[str, MapKeeper]) -> None:
        try:
            await ending[1].close()
        finally:
            self._ending.discard(ending)

    async def close(self) -> None:
        """Write what is not written yet."""
        await self._tasks.close()
        await self._keeper.close()

    def _make_keeper(self) -> MapKeeper:
        file, store = None, self._store
        if store.path is not None and self._keep:
            path = map_path(store.path, self._profile_id)
            file = MapFile(path, calendar=self._calendar, seal=store.seal)
        return MapKeeper(
            file,
            wanted=not self._account.prefs.no_kept_map,
            calendar=self._calendar,
            on_expired=self._on_expired,
        )
