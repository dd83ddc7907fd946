"""Several accounts of one node: the other one takes over whole, and nothing of this one stays."""

import asyncio
import json
import os
from base64 import b64decode
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.support.control import AUTH_KEY
from tests.support.disk import file_size_limit
from tests.support.nodes import Member, echo_request, running, tailnet_server

from tailnet.agent.backend.events import ProfileChanged, StateChanged
from tailnet.agent.backend.files.aio import StateFile
from tailnet.agent.backend.seal import Seal, is_sealed
from tailnet.agent.backend.state import State
from tailnet.agent.errors import UserError

DOWN = {"WantRunning": False, "WantRunningSet": True}


def prefs(url: str, **more: object) -> dict[str, object]:
    """A masked edit."""
    wanted: dict[str, object] = {"ControlURL": url, **more}
    return {**wanted, **{f"{name}Set": True for name in wanted}}


def entries(directory: Path) -> dict[str, bytes]:
    """The state file of "one"."""
    tree = json.loads((directory / "one.state").read_text())
    return {name: b64decode(value) for name, value in tree.items()}


def maps(directory: Path) -> set[str]:
    """Ids of the profiles of "one" with a map on disk."""
    return {path.name.split(".")[1] for path in directory.glob("one.*.netmap")}


async def join(member: Member, url: str, **more: object) -> str:
    """Log in; the profile's id."""
    await member.node.account.login(prefs(url, **more), AUTH_KEY)
    await member.state(State.RUNNING)
    return member.node.account.profile.id


async def test_switching_back_and_forth_between_two_servers(tmp_path: Path) -> None:
    """Each time the packets of that tailnet flow, with its key, and those of the other do not."""
    async with tailnet_server() as left, tailnet_server() as right:
        one, two, three = (Member(name, tmp_path) for name in ("one", "two", "three"))
        async with running(one), running(two), running(three):
            await join(two, left.origin)
            await join(three, right.origin)
            homes = {}
            for server, there in ((left, two), (right, three)):
                profile = await join(one, server.origin, Hostname=f"at-{there.node.host_name}")
                homes[profile] = (there, one.node.public_key, one.node.account.prefs.hostname)
            assert len(homes) == 2
            for number, profile in enumerate([*homes] * 3):
                await one.node.switch_profile(profile)
                there, key, hostname = homes[profile]
                await one.state(State.RUNNING)
                await one.until(lambda: one.system.router.config.routes != frozenset())
                assert (one.node.public_key, one.node.account.prefs.hostname) == (key, hostname)
                assert ip_network(there.ip) in one.system.router.config.routes
                await there.peers(1)
                packet = echo_request(one.ip, there.ip, number)
                await one.send(packet)
                assert await there.receive() == packet
            assert len(left.nodes()) == len(right.nodes()) == 2
            assert {p.id for p in one.node.account.profiles} == set(homes)


async def test_an_account_elsewhere_leaves_the_first_alone(tmp_path: Path) -> None:
    """A login to another server is a new profile; keys, settings and map of the old one stay."""
    async with tailnet_server() as left, tailnet_server() as right:
        one = Member("one", tmp_path)
        async with running(one):
            first = await join(one, left.origin, Hostname="here")
            key = one.node.public_key
            second = await join(one, right.origin)
            assert first != second
        assert maps(tmp_path) == {first, second}
        assert set(json.loads(entries(tmp_path)["_profiles"])) == {first, second}
        again = Member("one", tmp_path)
        async with running(again):
            await again.state(State.RUNNING)
            assert again.node.account.profile.id == second
            await again.node.switch_profile(first)
            await again.state(State.RUNNING)
            assert (again.node.public_key, again.node.account.prefs.hostname) == (key, "here")


async def test_the_same_account_again_replaces_its_profile(tmp_path: Path) -> None:
    """One server, one user: the older login goes, with its keys and its map."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            first = await join(one, server.origin)
            key = one.node.public_key
            await one.node.account.new_profile()
            assert (one.node.state, one.node.account.profile.id) == (State.NEEDS_LOGIN, "")
            assert [p.id for p in one.node.account.profiles] == [first]
            second = await join(one, server.origin)
            assert [p.id for p in one.node.account.profiles] == [second]
            assert key != one.node.public_key
        assert maps(tmp_path) == {second}
        assert f"profile-{first}" not in entries(tmp_path)


async def test_an_abandoned_login_leaves_no_trace(tmp_path: Path) -> None:
    """Back to the account of before; what was never logged in is forgotten."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            first = await join(one, server.origin)
            await one.node.account.new_profile()
            await one.node.switch_profile(first)
            await one.state(State.RUNNING)
        assert [n for n in entries(tmp_path) if n.startswith("profile-")] == [f"profile-{first}"]


async def test_logout_forgets_the_account_and_keeps_the_others(tmp_path: Path) -> None:
    """The server is told; what is left is not chosen by itself."""
    async with tailnet_server() as left, tailnet_server() as right:
        one = Member("one", tmp_path)
        async with running(one):
            first = await join(one, left.origin)
            second = await join(one, right.origin, OperatorUser="alice")
            await one.node.account.logout()
            assert one.node.state is State.NEEDS_LOGIN
            assert one.node.account.prefs.operator_user == "alice"
            assert [p.id for p in one.node.account.profiles] == [first]
            assert maps(tmp_path) == {first}
            assert f"profile-{second}" not in entries(tmp_path)
            while not one.node.tunnel.routed:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert one.system.router.config.routes == frozenset()


async def test_deleting_accounts(tmp_path: Path) -> None:
    """One at rest goes silently; the one in use leaves an empty one."""
    async with tailnet_server() as left, tailnet_server() as right:
        one = Member("one", tmp_path)
        async with running(one):
            first, second = await join(one, left.origin), await join(one, right.origin)
            await one.node.account.delete(first)
            await one.state(State.RUNNING)
            await one.node.account.delete(second)
            await one.state(State.NEEDS_LOGIN)
            assert one.node.account.profiles == ()
            with pytest.raises(UserError, match="there is no profile"):
                await one.node.account.delete(second)
        assert maps(tmp_path) == set()


async def test_watchers_hear_it_as_at_a_start(tmp_path: Path) -> None:
    """No state, then the prefs of the other account, then its way to Running."""
    async with tailnet_server() as left, tailnet_server() as right:
        one = Member("one", tmp_path)
        async with running(one):
            first = await join(one, left.origin)
            await join(one, right.origin)
            one.events.clear()
            await one.node.switch_profile(first)
            await one.state(State.RUNNING)
            changed = [e for e in one.events if isinstance(e, ProfileChanged)]
            assert changed == [ProfileChanged(first)]
            states = [e.state for e in one.events if isinstance(e, StateChanged)]
            assert states == [State.STARTING, State.RUNNING]


async def test_two_switches_at_once_end_at_one_of_them(tmp_path: Path) -> None:
    """Whoever asks last wins, and the node is whole."""
    async with tailnet_server() as left, tailnet_server() as right:
        one = Member("one", tmp_path)
        async with running(one):
            first, second = await join(one, left.origin), await join(one, right.origin)
            node = one.node
            await asyncio.gather(*(node.switch_profile(p) for p in (first, second, first, second)))
            await one.state(State.RUNNING)
            assert node.account.profile.id == second
            assert node.account.prefs.server_url == right.origin


async def test_a_locked_account_is_not_switched(tmp_path: Path) -> None:
    """A configuration file rules which account it is."""
    one = Member("one", tmp_path)
    async with running(one):
        one.node.account.locked = True
        for attempt in (one.node.account.new_profile, lambda: one.node.account.delete("0000")):
            with pytest.raises(UserError, match="locked"):
                await attempt()


async def test_a_full_disk_leaves_the_account_in_use(tmp_path: Path) -> None:
    """Neither switching nor logging in elsewhere half happens; later both work."""
    async with tailnet_server() as left, tailnet_server() as right:
        one = Member("one", tmp_path)
        async with running(one):
            first, second = await join(one, left.origin), await join(one, right.origin)
            node, before = one.node, entries(tmp_path)
            attempts: tuple[Callable[[], Awaitable[None]], ...] = (
                lambda: node.switch_profile(first),
                lambda: node.account.delete(first),
                node.account.new_profile,
                lambda: node.account.login(prefs(left.origin), AUTH_KEY),
            )
            for attempt in attempts:
                with file_size_limit(100), pytest.raises(UserError, match="cannot write the state"):
                    await attempt()
                assert node.account.profile.id == second
                await one.state(State.RUNNING)
            assert entries(tmp_path) == before
            await node.switch_profile(first)
            await one.state(State.RUNNING)


async def test_going_down_needs_no_byte_of_disk(tmp_path: Path) -> None:
    """It is said that it could not be kept; said again when there is room, it is."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            await join(one, server.origin)
            with file_size_limit(100):
                with pytest.raises(UserError, match="cannot write the state"):
                    one.node.account.edit({**DOWN, "ShieldsUp": True, "ShieldsUpSet": True})
                one.node.account.edit(DOWN)
                await one.state(State.STOPPED)
                assert "cannot write the state" in str(one.node.warnings)
                with pytest.raises(UserError, match="cannot write the state"):
                    one.node.account.edit({**DOWN, "WantRunning": True})
            one.node.account.edit(DOWN)
            assert "cannot write the state" not in str(one.node.warnings)
        two = Member("one", tmp_path)
        async with running(two):
            await two.state(State.STOPPED)


async def test_encrypted_accounts_and_maps(tmp_path: Path) -> None:
    """What was plain is not any more; everything works as before, the kept map too."""
    async with tailnet_server() as left, tailnet_server() as right:
        one = Member("one", tmp_path)
        async with running(one):
            first = await join(one, left.origin)
        seal = Seal(os.urandom(32), os.urandom)
        again = Member("one", tmp_path, store=StateFile(tmp_path / "one.state", seal))
        async with running(again):
            second = await join(again, right.origin)
        assert maps(tmp_path) == {second}  # the first one's was plain
        for name in os.listdir(tmp_path):
            data = (tmp_path / name).read_bytes()
            assert is_sealed(data)
            assert b"lab.ts.net" not in data
        last = Member("one", tmp_path, store=StateFile(tmp_path / "one.state", seal))
        await right.stop()
        async with running(last):
            await last.state(State.RUNNING)
            assert last.node.netmap is not None
            await last.node.switch_profile(first)
            await last.state(State.RUNNING)


async def test_a_map_of_an_early_release_is_adopted(tmp_path: Path) -> None:
    """Under its new name; one of a profile that is no more goes."""
    (tmp_path / "one.netmap").write_text("old")
    (tmp_path / "one.beef.netmap").write_text("orphan")
    one = Member("one", tmp_path)
    async with running(one):
        profile = one.node.account.profile_id
        assert os.listdir(tmp_path) == [f"one.{profile}.netmap"]
