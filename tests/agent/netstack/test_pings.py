"""Pings that go on, answered by this machine's own kernel."""

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.netstack.pings import aio as pings

PEER4, PEER6 = ip_address("100.64.0.1"), ip_address("fd7a::1")
HERE4, HERE6 = ip_address("127.0.0.1"), ip_address("::1")
BY_SOCKET, BY_PROGRAM = "socket", "program"


class Answers:
    """The part of a stack that pings need."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()

    def send_icmp(self, local: str, remote: str, message: bytes) -> None:
        """An answer leaves."""
        self.got.put_nowait((local, remote, message))


def make(answers: Answers, *, allowed: bool = True, means: IPAddress | None = None) -> pings.Pings:
    """Pings whose way is always, or never, allowed; ``means``: and leads there."""
    stack: Any = answers

    def onward(local: AddrPort) -> AddrPort | None:
        return AddrPort(means or local.ip, local.port) if allowed else None

    return pings.Pings(stack, now=asyncio.get_running_loop().time, onward=onward)


def request(peer: IPAddress, identifier: bytes, data: bytes) -> bytes:
    """An echo request; its checksum is the sender's business."""
    return bytes((8 if peer.version == 4 else 128, 0, 0, 0)) + identifier + b"\0\1" + data


def by(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the way, if the system has it."""
    if way == BY_PROGRAM:
        monkeypatch.setattr(pings, "_icmp_socket", lambda _: None)
    elif (sock := pings._icmp_socket(HERE4)) is None:
        pytest.skip("ping_group_range excludes this process")
    else:
        sock.close()


@pytest.mark.parametrize("way", [BY_SOCKET, BY_PROGRAM])
@pytest.mark.parametrize(("here", "peer"), [(HERE4, PEER4), (HERE6, PEER6)])
@pytest.mark.parametrize("size", [0, 56, 5000])
async def test_an_answer_is_the_request_turned_round(
    way: str, here: IPAddress, peer: IPAddress, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the peer's identifier, number and data; the checksum is made by the stack."""
    by(way, monkeypatch)
    answers = Answers()
    all_pings = make(answers)
    sent = request(peer, b"\xab\xcd", b"d" * size)
    async with asyncio.timeout(10):
        all_pings.handle(here, peer, sent)
        local, remote, message = await answers.got.get()
    assert (local, remote) == (str(here), str(peer))
    assert message[0] == (0 if peer.version == 4 else 129)
    assert message[4:] == sent[4:]
    assert all_pings.dropped == 0
    await all_pings.close()


@pytest.mark.parametrize("way", [BY_SOCKET, BY_PROGRAM])
async def test_a_site_is_asked_by_ipv4_and_answers_by_ipv6(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kinds of message are those of each family."""
    by(way, monkeypatch)
    answers = Answers()
    all_pings = make(answers, means=HERE4)
    sent, site = request(PEER6, b"\xab\xcd", b"data"), ip_address("fd7a:115c:a1e0:b1a:0:7:7f00:1")
    async with asyncio.timeout(10):
        all_pings.handle(site, PEER6, sent)
        local, remote, message = await answers.got.get()
    assert (local, remote) == (str(site), str(PEER6))
    assert message[0] == 129
    assert message[4:] == sent[4:]
    await all_pings.close()


async def test_where_nothing_may_go_no_ping_goes() -> None:
    """Nor does half a message."""
    answers = Answers()
    refusing, allowing = make(answers, allowed=False), make(answers)
    refusing.handle(HERE4, PEER4, request(PEER4, b"\0\1", b""))
    allowing.handle(HERE4, PEER4, b"\x08\0\0")
    assert (refusing.dropped, allowing.dropped) == (1, 1)
    await refusing.close()
    await allowing.close()


async def test_twenty_programs_run_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are dropped and counted; closing ends those that run."""
    by(BY_PROGRAM, monkeypatch)
    all_pings = make(Answers())
    for number in range(100):
        all_pings.handle(HERE4, PEER4, request(PEER4, number.to_bytes(2), b""))
    assert all_pings.dropped == 80
    await all_pings.close()


async def test_flows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer with many identifiers keeps the latest of them."""
    by(BY_SOCKET, monkeypatch)
    monkeypatch.setattr(pings, "MAX_FLOWS", 8)
    answers = Answers()
    all_pings = make(answers)
    for number in range(100):
        all_pings.handle(HERE4, PEER4, request(PEER4, number.to_bytes(2), b""))
    assert len(all_pings._flows) == 6
    await all_pings.close()
    assert len(all_pings._flows) == 0
