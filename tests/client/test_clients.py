"""Both clients ask a real socket the same questions."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.agent.localapi.test_who import tailnet
from tests.agent.trace.test_walks import box, facts
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import RUNNING

from tailnet.agent.localapi.aio import LocalServer
from tailnet.agent.localapi.schema.bus import INITIAL_STATE, Notify
from tailnet.client import Client, ClientError, NotRunning, Refused, TimedOut, questions
from tailnet.client.aio import AsyncClient
from tailnet.client.questions import Question

RUNNING_STATE = 6
Ask = Callable[[Question[Any]], Any]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeBackend]:
    """Running."""
    backend = FakeBackend(about=RUNNING, known=tailnet(), looked_at=facts(box()))
    with served(backend, tmp_path / "s"):
        yield backend


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Ask:
    """Either client."""
    path = str(tmp_path / "s")
    if request.param == "sync":
        return Client(path).ask
    return lambda question: asyncio.run(AsyncClient(path).ask(question))


@pytest.mark.usefixtures("daemon")
def test_answers_are_typed(ask: Ask) -> None:
    """Each question has its own type."""
    assert ask(questions.status(peers=False)).backend_state == "Running"
    assert ask(questions.whois("100.64.0.2")).node.name == "box.example.ts.net."
    assert ask(questions.trace("box", port=22)).flow == "tcp 22"
    assert ask(questions.profiles()) == []
    assert ask(questions.login_interactive()) is None


def test_prefs_change_alone(ask: Ask, daemon: FakeBackend) -> None:
    """What is not named stays."""
    before = ask(questions.prefs())
    after = ask(questions.edit_prefs({"Hostname": "new"}))
    assert after == {**before, "Hostname": "new"}
    assert daemon.current.hostname == "new"


@pytest.mark.usefixtures("daemon")
def test_refusals_have_status_and_words(ask: Ask) -> None:
    """The daemon's own."""
    with pytest.raises(Refused, match="no match") as caught:
        ask(questions.whois("100.64.9.9"))
    assert caught.value.status == 404
    with pytest.raises(ClientError, match="makes no sense"):
        ask(Question("GET", "prefs", list[int]))


def test_without_a_daemon_it_says_what_to_do(ask: Ask, tmp_path: Path) -> None:
    """Nobody ever, nobody any more, or something else."""
    with pytest.raises(NotRunning, match=r"no socket at .*; start it with: sudo tailnetd"):
        ask(questions.status())
    with served(FakeBackend(), tmp_path / "s"):
        pass
    (tmp_path / "s").mkdir(exist_ok=True)
    with pytest.raises(NotRunning, match=r"is not a socket"):
        ask(questions.status())


async def test_a_watch_gives_typed_notices(tmp_path: Path) -> None:
    """The first at once, then what happens."""
    backend, seen = FakeBackend(about=RUNNING), []
    server = LocalServer(backend, tmp_path / "s")
    await server.start()
    notices = aclosing(AsyncClient(str(tmp_path / "s")).watch(INITIAL_STATE))
    async with notices as watch:
        async for notice in watch:
            seen.append(notice.state)
            if len(seen) == 2:
                break
            backend.bus.publish(Notify(state=2))
    await server.close()
    assert seen == [RUNNING_STATE, 2]


def test_a_watch_that_waits_has_an_end(daemon: FakeBackend, tmp_path: Path) -> None:
    """Of the caller's choice."""
    assert daemon.bus is not None
    watch = Client(str(tmp_path / "s")).watch(INITIAL_STATE)
    assert b'"State":6' in watch.next_line(5.0)
    with pytest.raises(TimedOut):
        watch.next_line(0.01)
    watch.close()
