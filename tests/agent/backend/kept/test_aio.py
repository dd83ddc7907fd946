"""The kept map on a real disk."""

import asyncio
import logging
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tailnet.agent.backend.kept import aio as kept
from tailnet.agent.backend.kept.aio import MapFile, MapKeeper
from tailnet.agent.control.fold import Folder
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.dates import Calendar
from tailnet.agent.keys import NodePublic
from tailnet.agent.tailcfg.mapping import MapResponse
from tailnet.agent.tailcfg.node import Node, NodeID

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CALENDAR = Calendar(lambda: 0.0, lambda: NOW)
SERVER = "https://control.example"
KEY = NodePublic(bytes([1]) * 32)


def netmap(*peers: int, expiry: datetime | None = None, **mine: object) -> NetworkMap:
    """A map with these peers."""
    folder = Folder()
    me = Node(id=NodeID(1), key=KEY, **mine)  # type: ignore[arg-type]
    nodes = tuple(
        Node(id=NodeID(n), key=NodePublic(bytes([n]) * 32), key_expiry=expiry) for n in peers
    )
    folder.fold(MapResponse(node=me, peers=nodes or None), NOW)
    return folder.netmap(NOW)


def keeper(path: Path, *, expired: list[NetworkMap] | None = None) -> MapKeeper:
    """A keeper of that file."""
    told = expired if expired is not None else []
    return MapKeeper(MapFile(path, calendar=CALENDAR), calendar=CALENDAR, on_expired=told.append)


async def keep(path: Path, what: NetworkMap) -> None:
    """One life of a daemon."""
    one = keeper(path)
    one.note(what, SERVER)
    await one.close()


async def test_the_next_life_begins_with_the_last_map(tmp_path: Path) -> None:
    """And knows how old it is; the file is for our eyes only."""
    path = tmp_path / "x.netmap"
    await keep(path, netmap(2, 3))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    two = keeper(path)
    found = await two.load(SERVER, KEY)
    assert found is not None
    assert list(found.peers) == [2, 3]
    assert two.since == NOW
    await two.close()
    assert os.listdir(tmp_path) == [path.name]


async def test_the_age_ends_with_the_servers_first_map(tmp_path: Path) -> None:
    """From then on the map is not a kept one."""
    path = tmp_path / "x.netmap"
    await keep(path, netmap(2, 3))
    one = keeper(path)
    await one.load(SERVER, KEY)
    one.note(netmap(2), SERVER)
    assert one.since is None
    await one.close()


@pytest.mark.parametrize(
    ("server", "key"), [("https://other.example", KEY), (SERVER, NodePublic(bytes(32)))]
)
async def test_the_map_of_another_login_is_removed(
    tmp_path: Path, server: str, key: NodePublic
) -> None:
    """Another server, or another key of ours."""
    path = tmp_path / "x.netmap"
    await keep(path, netmap(2))
    assert await keeper(path).load(server, key) is None
    assert not path.exists()


async def test_a_damaged_file_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And otherwise as good as none."""
    path = tmp_path / "x.netmap"
    path.write_bytes(b"\x00garbage\n")
    with caplog.at_level(logging.WARNING):
        assert await keeper(path).load(SERVER, KEY) is None
    assert len(caplog.records) == 1
    assert "of no use" in caplog.text


async def test_a_server_that_forbids_it_leaves_nothing(tmp_path: Path) -> None:
    """Also not of what was kept before."""
    path = tmp_path / "x.netmap"
    await keep(path, netmap(2))
    await keep(path, netmap(2, cap_map={"disable-cache-network-maps": None}))
    assert not path.exists()


async def test_what_is_forgotten_is_not_written(tmp_path: Path) -> None:
    """Logout right after a map came."""
    path = tmp_path / "x.netmap"
    one = keeper(path)
    one.note(netmap(2), SERVER)
    one.forget()
    await one.close()
    assert not path.exists()


async def test_a_disk_that_refuses_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The session goes on."""
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        await keep(tmp_path / "file" / "x.netmap", netmap(2))
    assert len(caplog.records) == 1


async def test_without_a_file_nothing_is_kept() -> None:
    """As with an ephemeral node."""
    one = MapKeeper(None, calendar=CALENDAR, on_expired=lambda _: None)
    assert await one.load(SERVER, KEY) is None
    one.note(netmap(2), SERVER)
    one.forget()
    await one.close()


async def test_expiry_of_a_kept_peer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a timer, as with a live stream."""
    path = tmp_path / "x.netmap"
    await keep(path, netmap(2, expiry=NOW + timedelta(hours=1)))
    now = [0.0]
    calendar = Calendar(lambda: now[0], lambda: NOW + timedelta(seconds=now[0]))
    told: list[NetworkMap] = []
    one = MapKeeper(MapFile(path, calendar=calendar), calendar=calendar, on_expired=told.append)
    armed: list[tuple[float, object]] = []
    loop = asyncio.get_running_loop()

    def call_later(delay: float, callback: object) -> asyncio.TimerHandle:
        armed.append((delay, callback))
        return asyncio.TimerHandle(0, lambda: None, (), loop)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_later", call_later)
        patch.setattr(asyncio, "to_thread", _at_once)
        await one.load(SERVER, KEY)
        ((delay, callback),) = armed
        assert 3600 <= delay <= 3602
        now[0] = 3601.0
        assert callable(callback)
        callback()
    assert told[0].peers[NodeID(2)].expired
    await one.close()


async def _at_once(work: object, *args: object) -> object:
    assert callable(work)
    return work(*args)


async def test_a_user_who_wants_no_map_on_disk_has_none(tmp_path: Path) -> None:
    """What is in use stays in use; wanted again, the newest one is kept."""
    path = tmp_path / "x.netmap"
    await keep(path, netmap(2))
    one = keeper(path)
    assert await one.load(SERVER, KEY) is not None
    one.want(False)
    assert (path.exists(), one.since) == (False, NOW)
    one.note(netmap(2, 3), SERVER)
    await one.close()
    assert not path.exists()
    one.want(True)
    await one.close()
    assert path.exists()
    two = MapKeeper(
        MapFile(path, calendar=CALENDAR), calendar=CALENDAR, on_expired=lambda _: None, wanted=False
    )
    assert await two.load(SERVER, KEY) is None
    assert not path.exists()


async def test_news_waits_for_its_turn_and_losses_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write has to be paid for by time; a peer that is gone is struck out at once."""
    written: asyncio.Queue[int | bool] = asyncio.Queue()
    save, strike = MapFile._save, MapFile._strike

    def saving(self: MapFile, what: NetworkMap, server: str) -> int:
        size = save(self, what, server)
        loop.call_soon_threadsafe(written.put_nowait, len(what.peers))
        return size

    def striking(self: MapFile, what: NetworkMap, server: str) -> bool:
        done = strike(self, what, server)
        loop.call_soon_threadsafe(written.put_nowait, done)
        return done

    async def there() -> set[NodeID]:
        found = await MapFile(path, calendar=CALENDAR).load()
        assert found is not None
        return set(found.fold(NOW).netmap(NOW).peers)

    path = tmp_path / "x.netmap"
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(kept, "SETTLE", 0.0)
    monkeypatch.setattr(kept, "RATE", 1)  # bytes/s: an hour for any file
    monkeypatch.setattr(MapFile, "_save", saving)
    monkeypatch.setattr(MapFile, "_strike", striking)
    one = keeper(path)
    one.note(netmap(2, 3), SERVER)
    assert await written.get() == 2
    one.note(netmap(2, 3, 4), SERVER)
    one.note(netmap(2, 3, 4, 5), SERVER)
    assert written.empty()
    one.note(netmap(2, 4, 5), SERVER)
    assert await written.get() is True
    assert await there() == {2}
    one.note(netmap(2, 5), SERVER)  # of whom the file knows nothing
    assert await written.get() is True
    assert await there() == {2}
    one.note(netmap(5), SERVER)
    assert await written.get() is True
    assert await there() == set()
    one.note(netmap(2, 3), SERVER)
    await one.close()  # the end is no time to wait
    assert await written.get() == 2
    assert await there() == {2, 3}


async def test_a_loss_that_is_no_peers_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another filter; a file that cannot be added to."""
    monkeypatch.setattr(kept, "SETTLE", 0.0)
    monkeypatch.setattr(kept, "RATE", 1)
    saved: asyncio.Queue[tuple[int, object]] = asyncio.Queue()
    save = MapFile._save

    def saving(self: MapFile, what: NetworkMap, server: str) -> int:
        size = save(self, what, server)
        loop.call_soon_threadsafe(saved.put_nowait, (len(what.peers), what.packet_filter))
        return size

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(MapFile, "_save", saving)
    path = tmp_path / "x.netmap"
    one = keeper(path)
    before = netmap(2, 3)
    one.note(before, SERVER)
    assert await saved.get() == (2, None)
    one.note(replace(before, packet_filter=()), SERVER)
    assert await saved.get() == (2, ())
    path.unlink()
    one.note(netmap(2), SERVER)
    assert await saved.get() == (1, None)
    await one.close()
