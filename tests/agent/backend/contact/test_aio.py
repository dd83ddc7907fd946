"""The session in use, and what is not heard of others."""

import asyncio

import pytest
from tests.support.control import config

from tailnet.agent.backend.contact.aio import Contact, Hear
from tailnet.agent.control.aio import ControlClient
from tailnet.agent.control.events import AuthURL, ControlEvent
from tailnet.agent.control.wishes import set_dns
from tailnet.agent.dates import Calendar
from tailnet.agent.errors import UserError


async def test_what_an_ended_session_says_is_not_told() -> None:
    """A login that was given up may still be answered; nobody waits for it."""
    hears: list[Hear] = []
    told: list[ControlEvent] = []

    def make(fresh: bool, hear: Hear) -> ControlClient:
        hears.append(hear)
        return ControlClient(
            config("http://127.0.0.1:1"),
            on_event=hear,
            mark=lambda _: None,
            now=asyncio.get_running_loop().time,
            wall=lambda: pytest.fail("not needed"),
            calendar=Calendar(lambda: 0.0, lambda: pytest.fail("not needed")),
            random_bytes=bytes,
        )

    contact = Contact(make, told.append)
    contact.connect()
    contact.hang_up()
    contact.connect()
    hears[0](AuthURL("https://old/"))
    hears[1](AuthURL("https://new/"))
    assert told == [AuthURL("https://new/")]
    await contact.close()
    hears[1](AuthURL("https://late/"))
    assert len(told) == 1


async def test_without_a_login_nothing_is_asked_of_control() -> None:
    """A record for a certificate needs one."""
    contact = Contact(lambda _fresh, _hear: pytest.fail("no session is made"), lambda _: None)
    with pytest.raises(UserError, match="tnet up"):
        await contact.ask(set_dns("_acme-challenge.a.b", "x"))
