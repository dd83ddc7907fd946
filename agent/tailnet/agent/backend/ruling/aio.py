"""A configuration file rules an account: at the start, and whenever it is read again."""

import logging
from collections.abc import Callable, Mapping

from tailnet.agent.backend.account.aio import Account
from tailnet.agent.backend.files.aio import ConfigFile
from tailnet.agent.errors import UserError

log = logging.getLogger("tailnet.config")


class Ruling:
    """Reads the file and makes the account follow it; without a file it does nothing.

    Attributes:
        problem: what was wrong with the file when it was last read; empty if nothing.
        hooks: what it wants to be run when something happens.
    """

    def __init__(self, source: ConfigFile | None, account: Account) -> None:
        """Read the file for the first time.

        Raises:
            UserError: it says something wrong.
        """
        self._source = source
        self._account = account
        self.problem = ""
        config = source.load() if source is not None else None
        self._auth_key = config.auth_key if config is not None else ""
        self._rules = config is not None
        self.hooks = config.hooks if config is not None else ()
        if config is not None:
            account.configure(config.masked)
            account.locked = config.locked

    def auth_key(self, fallback: str) -> str:
        """The key to log in with at the start."""
        if not self._rules:
            return fallback
        return (self._auth_key or fallback) if self._account.prefs.want_running else ""

    async def reload(self) -> bool:
        """Read the file again; false if there is none.

        Raises:
            UserError: it says something wrong; everything stays as it was.
        """
        if self._source is None:
            return False
        try:
            config = self._source.load()
            if config is not None:
                await self._follow(config.masked, config.auth_key)
        except UserError as error:
            self.problem = str(error)
            raise
        self._account.locked = config is not None and config.locked
        self.hooks = config.hooks if config is not None else ()
        self.problem = ""
        return config is not None

    async def _follow(self, masked: Mapping[str, object], auth_key: str) -> None:
        account = self._account
        url = masked.get("ControlURL", account.prefs.control_url)
        can_log_in = auth_key and masked["WantRunning"]
        if url != account.prefs.control_url or (can_log_in and not account.registered):
            await account.login(masked, auth_key, by_file=True)
        else:
            account.edit(masked, by_file=True)

    async def reload_quietly(self, then: Callable[[], None]) -> None:
        """For SIGHUP: nobody waits for an answer, so what is wrong is logged and a warning."""
        try:
            if await self.reload():
                log.info("the configuration file was read again")
        except UserError as error:
            log.warning("%s", error)
        then()
