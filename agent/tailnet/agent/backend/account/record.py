"""The accounts of this installation: on disk first, then here."""

import logging
from collections.abc import Callable
from dataclasses import replace

from tailnet.agent.backend import profiles
from tailnet.agent.backend.prefs import Prefs, validate
from tailnet.agent.backend.store import RandomBytes, Stored
from tailnet.agent.errors import UserError
from tailnet.agent.keys import NodePrivate

log = logging.getLogger("tailnet.account")


class Record:
    """What is remembered, with the account in use.

    Args:
        stored: what was on disk.
        save: writes all of it; raises ``UserError`` and leaves what was there.
    """

    def __init__(
        self, stored: Stored, save: Callable[[Stored], None], random_bytes: RandomBytes
    ) -> None:
        self.stored = stored
        self._save = save
        self.random_bytes = random_bytes
        # Until a server accepts it this key is only a proposal, and is not on disk.
        self.node_key = stored.node_key or self._new_key()
        self._behind = False  # what is on disk is older than ``stored``

    @property
    def prefs(self) -> Prefs:
        """The user's wishes."""
        return self.stored.prefs

    @property
    def registered(self) -> bool:
        """A server has accepted this node's key before."""
        return self.stored.node_key is not None

    def check(self, prefs: Prefs) -> None:
        """Whether the account in use may have them.

        Raises:
            UserError: no; it says why.
        """
        validate(prefs)
        profiles.check_nickname(self.stored, prefs.profile_name)

    def blank(self) -> Stored:
        """With a new, empty account in use; not used yet.

        Raises:
            UserError: there are too many accounts.
        """
        return profiles.blank(self.stored, self.random_bytes)

    def change(self, **changes: object) -> None:
        """Replace fields of the account in use.

        Raises:
            UserError: it cannot be written; the old state stands.
        """
        stored = replace(self.stored, **changes)  # type: ignore[arg-type]
        if stored != self.stored or self._behind:
            self._keep(stored)

    def note(self, **changes: object) -> None:
        """Replace what need not wait for the disk; it is written with the next thing that can be.

        What the server told us, as a full disk must not end the session, and that it is to end.
        """
        try:
            self.change(**changes)
        except UserError as error:
            log.warning("%s", error)  # the store remembers it for the health list
            self.stored = replace(self.stored, **changes)  # type: ignore[arg-type]
            self._behind = True

    def write(self, stored: Stored) -> frozenset[str]:
        """Remember other things of the same account in use; ids of accounts that are gone now.

        Raises:
            UserError: it cannot be written; nothing changed.
        """
        gone = self._gone(stored)
        self._keep(stored)
        return gone

    def use(self, stored: Stored) -> frozenset[str]:
        """As :meth:`write`, with another account in use, or another identity of this one."""
        gone = self.write(stored)
        self.node_key = stored.node_key or self._new_key()
        return gone

    def settle(self) -> None:
        """Write it once more, in the form of today.

        Raises:
            UserError: it cannot be written; it is as it was.
        """
        self._keep(self.stored)

    def _keep(self, stored: Stored) -> None:
        self._save(stored)
        self.stored = stored
        self._behind = False

    def _gone(self, stored: Stored) -> frozenset[str]:
        left = {profile.id for profile in profiles.listed(stored)}
        return frozenset({profile.id for profile in profiles.listed(self.stored)} - left)

    def _new_key(self) -> NodePrivate:
        return NodePrivate.from_random(self.random_bytes(32))
