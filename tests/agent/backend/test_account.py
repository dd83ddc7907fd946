"""Logging in and in again, over whole nodes in one process."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.support.control import AUTH_KEY
from tests.support.nodes import Member, echo_request, running, tailnet_server

from tailnet.agent.backend.events import BrowseToURL, LoginFinished, LoginRefused, StateChanged
from tailnet.agent.backend.state import State
from tailnet.agent.errors import UserError


def prefs(url: str) -> dict[str, object]:
    """A masked edit."""
    return {"ControlURL": url, "ControlURLSet": True}


def urls(one: Member) -> list[str]:
    """All login URLs so far."""
    return [event.url for event in one.events if isinstance(event, BrowseToURL)]


async def test_one_process_is_in_two_tailnets(tmp_path: Path) -> None:
    """Two servers, two nodes each, the same addresses in both: nothing meets."""
    async with tailnet_server() as left, tailnet_server() as right, AsyncExitStack() as stack:
        pairs = []
        for name, server in (("left", left), ("right", right)):
            one, two = Member(f"{name}1", tmp_path), Member(f"{name}2", tmp_path)
            for member in (one, two):
                await stack.enter_async_context(running(member))
                await member.node.account.login(prefs(server.origin), AUTH_KEY)
            pairs.append((server, one, two))
        for number, (server, one, two) in enumerate(pairs):
            for member in (one, two):
                await member.state(State.RUNNING)
                await member.peers(1)
            packet = echo_request(one.ip, two.ip, number)
            await one.send(packet)
            assert await two.receive() == packet
            assert len(server.nodes()) == 2
        assert {str(one.ip) for _, one, _ in pairs} <= {"100.64.0.1", "100.64.0.2"}


async def test_a_login_in_a_browser(tmp_path: Path) -> None:
    """The URL is an event and stays at hand; asking again is no new login."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            await one.node.account.login(prefs(server.origin), "")
            await one.until(lambda: bool(urls(one)))
            account = one.node.account
            assert (account.auth_url, one.node.state) == (urls(one)[0], State.NEEDS_LOGIN)
            account.login_interactive()
            assert urls(one) == [account.auth_url] * 2
            assert await server.approve(account.auth_url.rpartition("/")[2])
            await one.state(State.RUNNING)
            assert account.auth_url == ""


async def test_a_new_login_beside_the_old_one(tmp_path: Path) -> None:
    """Connected until the new key is accepted, and after it; the address stays."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            account = one.node.account
            await account.login(prefs(server.origin), AUTH_KEY)
            await one.state(State.RUNNING)
            key, ip = one.node.public_key, one.ip
            one.events.clear()
            account.login_interactive()  # of the login before, which is done
            assert one.events == [LoginFinished()]
            one.events.clear()
            account.login_interactive()
            account.login_interactive()
            await one.until(lambda: bool(urls(one)))
            assert (one.node.public_key, one.node.state) == (key, State.RUNNING)
            assert await server.approve(urls(one)[0].rpartition("/")[2])
            await one.until(lambda: any(isinstance(e, LoginFinished) for e in one.events))
            await one.until(
                lambda: (
                    one.node.netmap is not None
                    and str(one.node.netmap.self_node.key) == one.node.public_key
                )
            )
            assert one.node.public_key != key
            assert one.ip == ip
            assert not any(isinstance(e, StateChanged) for e in one.events)
            assert [n["id"] for n in server.nodes()] == [1]


async def test_a_refused_new_login_leaves_the_old_one(tmp_path: Path) -> None:
    """And is not tried again."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            account = one.node.account
            await account.login(prefs(server.origin), AUTH_KEY)
            await one.state(State.RUNNING)
            key = one.node.public_key
            await account.login({}, "tskey-wrong")
            account.login_interactive()
            await one.until(lambda: any(isinstance(e, LoginRefused) for e in one.events))
            assert not account.line.contact.fresh
            assert (one.node.public_key, one.node.state) == (key, State.RUNNING)
            assert account.login_problem == ""


async def test_a_refused_auth_key_is_tried_once(tmp_path: Path) -> None:
    """Not when the network or a setting changes; whoever then asks to log in, may by browser."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            account = one.node.account
            await account.login(prefs(server.origin), "tskey-wrong")
            await one.until(lambda: LoginRefused("invalid auth key") in one.events)
            account.line.network_changed([])
            account.poke()
            account.edit({"Hostname": "box", "HostnameSet": True})
            assert not account.line.contact.open
            refusals = [e for e in one.events if isinstance(e, LoginRefused)]
            assert refusals == [LoginRefused("invalid auth key")]
            assert account.login_problem == "invalid auth key"
            assert one.node.state is State.NEEDS_LOGIN
            account.login_interactive()
            await one.until(lambda: bool(urls(one)))
            await account.login({}, AUTH_KEY)
            await one.state(State.RUNNING)


async def test_a_refused_auth_key_leaves_a_node_that_is_known_as_it_was(tmp_path: Path) -> None:
    """Here its login has ended, so a URL is at hand as it was before somebody tried a key."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            account = one.node.account
            await account.login(prefs(server.origin), AUTH_KEY)
            await one.state(State.RUNNING)
            server.expire_key(1)
            await one.state(State.NEEDS_LOGIN)
            await account.login({}, "tskey-wrong")
            await one.until(lambda: LoginRefused("invalid auth key") in one.events)
            await one.until(lambda: bool(account.auth_url))
            assert one.node.state is State.NEEDS_LOGIN
            await account.login({}, AUTH_KEY)
            await one.state(State.RUNNING)


async def test_an_auth_key_is_for_the_new_login_too_that_follows_at_once(tmp_path: Path) -> None:
    """The server took the old key meanwhile, for which nothing was spent."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            account = one.node.account
            await account.login(prefs(server.origin), AUTH_KEY)
            await one.state(State.RUNNING)
            key = one.node.public_key
            one.events.clear()
            await account.login({}, AUTH_KEY)
            await one.until(lambda: LoginFinished() in one.events)
            assert one.node.public_key == key
            account.login_interactive()
            await one.until(lambda: one.node.public_key != key)
            assert urls(one) == []
            assert [n["id"] for n in server.nodes()] == [1]


async def test_deleted_while_a_new_login_waits_is_a_login(tmp_path: Path) -> None:
    """The tailnet is left, and the URL shown is that of a node that is not known."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            account = one.node.account
            await account.login(prefs(server.origin), AUTH_KEY)
            await one.state(State.RUNNING)
            await account.login({}, "")
            account.login_interactive()
            await one.until(lambda: len(urls(one)) == 1)
            server.delete(1)
            await one.state(State.NEEDS_LOGIN)
            assert (len(urls(one)), account.auth_url) == (2, urls(one)[1])
            assert await server.approve(account.auth_url.rpartition("/")[2])
            await one.state(State.RUNNING)
            account.login_interactive()
            await one.until(lambda: len(urls(one)) == 3)


async def test_who_is_down_cannot_log_in_anew(tmp_path: Path) -> None:
    """It would connect, which nobody asked for."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            account = one.node.account
            await account.login(prefs(server.origin), AUTH_KEY)
            await one.state(State.RUNNING)
            account.edit({"WantRunning": False, "WantRunningSet": True})
            with pytest.raises(UserError, match="tnet up"):
                account.login_interactive()


async def test_down_and_up_at_once_is_up(tmp_path: Path) -> None:
    """The end of the old session does not end the new one."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path)
        async with running(one):
            account = one.node.account
            await account.login(prefs(server.origin), AUTH_KEY)
            await one.state(State.RUNNING)
            for wanted in (False, True):
                account.edit({"WantRunning": wanted, "WantRunningSet": True})
            await one.state(State.RUNNING)
            await one.until(lambda: server.nodes()[0]["streams"] == 2)
