"""Kept maps of several accounts."""

import asyncio
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.agent.backend.kept.test_aio import CALENDAR, SERVER, netmap

from tailnet.agent.backend.kept.accounts.aio import KeptMaps
from tailnet.agent.backend.keptmap import map_path


async def test_the_map_of_an_account_that_goes_while_it_is_written_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk: it would lie there until the next start."""
    store: Any = SimpleNamespace(path=tmp_path / "one.state", seal=None)
    prefs = SimpleNamespace(server_url=SERVER, no_kept_map=False)
    account: Any = SimpleNamespace(profile_id="aa", prefs=prefs)
    maps = KeptMaps(store, account, keep=True, calendar=CALENDAR, on_expired=lambda _: None)
    writing, free, sync = asyncio.Event(), threading.Event(), os.fsync
    loop = asyncio.get_running_loop()

    def slow(fd: int) -> None:
        loop.call_soon_threadsafe(writing.set)
        free.wait()
        sync(fd)

    monkeypatch.setattr(os, "fsync", slow)
    maps.note(netmap(2))
    assert maps.switch("bb", frozenset())
    await writing.wait()
    maps.switch("cc", frozenset({"aa"}))
    free.set()
    await maps.close()
    assert not map_path(store.path, "aa").exists()
