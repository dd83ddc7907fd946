"""Bugs that other implementations had, as far as no other test is about them."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import msgspec
import pytest
import zstandard
from integration.lab.control_faults import send
from tests.agent.control.test_map_fields import WHOLE, hear
from tests.support.control import config, faulty, hostinfo, member, serving, settings

from tailnet.agent.addr import AddrPort
from tailnet.agent.control.events import Connected, Disconnected, LoginFailed, Registered
from tailnet.agent.control.mapstream import decompress_untrusted
from tailnet.agent.control.register import Accepted, Registration
from tailnet.agent.control.request import map_request
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.keys import DiscoPrivate, NodePrivate
from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.register import RegisterResponse

KEY, OTHER = NodePrivate.from_random(b"1" * 32), NodePrivate.from_random(b"2" * 32)


def test_the_key_that_was_replaced_is_named_at_every_login() -> None:
    """Also at ordinary restarts; a server that does not know it ignores it."""
    mine = replace(config("https://c.example"), node_key=KEY, old_node_key=OTHER)
    login = Registration(mine, lambda n: b"3" * n)
    for _ in range(2):
        assert login.request(hostinfo("box")).old_node_key == public_of(OTHER)
        step = login.judge_untrusted(200, {}, encode(RegisterResponse()), datetime.now(UTC))
        assert isinstance(step, Accepted)


async def test_the_same_auth_key_is_sent_again_and_again() -> None:
    """A one-shot key is not used up by the machine that used it."""
    async with serving(settings()) as server:
        mine = replace(config(server.origin, "once"), node_key=KEY)
        for _ in range(2):
            async with member(mine) as one:
                await one.until(Connected)
        assert len(server.nodes()) == 1


async def test_a_node_key_is_bound_to_its_machine() -> None:
    """Whoever knows another's node key is refused by our server, at the login and at the map."""
    async with (
        serving(settings()) as server,
        member(replace(config(server.origin), node_key=KEY)) as one,
    ):
        await one.until(Connected)
        async with member(replace(config(server.origin), node_key=KEY), "thief") as thief:
            failed = await thief.until(LoginFailed)
            assert failed.final
            assert failed.message == "this node key belongs to another machine"


async def test_two_logins_of_one_machine_at_once_make_one_node() -> None:
    """The server takes them one after the other."""
    async with serving(settings()) as server:
        mine = replace(config(server.origin), node_key=KEY)
        async with member(mine) as one, member(mine) as two:
            await asyncio.gather(one.until(Registered), two.until(Registered))
        assert len(server.nodes()) == 1


async def test_an_empty_answer_is_no_map() -> None:
    """200 and nothing: a reason, a pause, another try."""
    async with faulty(settings()) as server:
        server.script["/machine/map"] = [send(b"")] * 2
        async with member(config(server.origin)) as one:
            dropped = await one.until(Disconnected)
            assert dropped.reason == "the control server ended the map stream"
            await one.until(Connected)


def test_every_request_has_the_whole_description() -> None:
    """Stream and update alike: some servers take it from one, some from the other."""
    info = hostinfo("box", home=7)
    endpoints = ((AddrPort.parse("192.0.2.1:5"), 2), (AddrPort.parse("[2001:db8::1]:5"), 1))
    disco = public_of(DiscoPrivate.from_random(b"4" * 32))
    trees = [
        msgspec.json.decode(encode(map_request(KEY, disco, info, endpoints, stream=stream)))
        for stream in (True, False)
    ]
    assert [tree.pop("Stream", False) for tree in trees] == [True, False]
    assert [tree.pop("OmitPeers", False) for tree in trees] == [False, True]
    assert trees[0] == trees[1]
    assert trees[0]["Hostinfo"]["NetInfo"] == {"PreferredDERP": 7}
    assert trees[0]["Endpoints"] == ["192.0.2.1:5", "[2001:db8::1]:5"]
    assert trees[0]["EndpointTypes"] == [2, 1]


def test_a_full_list_wins_over_patches_beside_it() -> None:
    """Neither an error nor half of both."""
    both = {"Peers": [{"ID": 4}], "PeersChangedPatch": [{"NodeID": 4, "DERPRegion": 9}]}
    assert hear(WHOLE, both).map.peers[4].home_derp == 0  # type: ignore[index]


def test_capability_version_zero_is_unchanged() -> None:
    """In a patch."""
    first = {**WHOLE, "Peers": [{"ID": 2, "Cap": 130}]}
    patch = {"PeersChangedPatch": [{"NodeID": 2, "Cap": 0, "Endpoints": ["1.2.3.4:5"]}]}
    peer = hear(first, patch).map.peers[2]  # type: ignore[index]
    assert (peer.cap, peer.endpoints) == (130, ("1.2.3.4:5",))


@pytest.mark.parametrize(
    "addresses",
    [
        None,
        [],
        ["100.64.0.2/32"],
        ["fd7a::2/128"],
        ["100.64.0.2/32", "fd7a::2/128", "100.9.0.1/32"],
    ],
)
def test_a_node_has_any_number_of_addresses(addresses: list[str] | None) -> None:
    """None, one family, or those of services too."""
    peers = {**WHOLE, "Peers": [{"ID": 2, "Addresses": addresses}]}
    peer = hear(peers).map.peers[2]  # type: ignore[index]
    assert list(peer.address_prefixes()) == [ip_network(text) for text in addresses or []]


def test_names_are_spelt_as_go_does() -> None:
    """Acronyms are upper case; another spelling is another field."""
    odd = {"DerpMap": {"Regions": {"9": {"RegionID": 9}}}, "DnsConfig": {"Proxied": True}}
    heard = hear(WHOLE, odd)
    assert heard.map.derp_map.region(9) is None
    assert not heard.map.dns.proxied


def test_zstd_frames_need_not_say_how_long_they_are() -> None:
    """Streaming encoders do not know."""
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    data = packer.compress(b"{}" * 1000) + packer.flush()
    assert zstandard.frame_content_size(data) == -1
    assert decompress_untrusted(data) == b"{}" * 1000


@pytest.mark.parametrize("expiry", ["0001-01-01T00:00:00Z", None, ""])
def test_an_expiry_of_zero_is_never(expiry: str | None) -> None:
    """Not long ago."""
    first = {"Node": {"ID": 1, "KeyExpiry": expiry}, "Peers": [{"ID": 2, "KeyExpiry": expiry}]}
    if expiry == "":
        first = {"Node": {"ID": 1}, "Peers": [{"ID": 2}]}
    heard = hear(first)
    assert not heard.map.self_node.expired
    assert not heard.map.peers[2].expired  # type: ignore[index]


def test_numbers_beyond_floats_and_escaped_text_are_read_exactly() -> None:
    """As old nodes' ids, and as Go writes angle brackets."""
    number = 2**53 + 1
    first = {**WHOLE, "Peers": [{"ID": number, "Name": "a\u003cb\u0026c."}]}
    peer = hear(first).map.peers[number]  # type: ignore[index]
    assert (peer.id, peer.name) == (number, "a<b&c.")


@pytest.mark.parametrize(
    "about",
    [
        {"Env": "mars", "OS": "plan9", "LinkType": 7},
        {"TPM": {"Vendor": "x", "FirmwareVersion": 2**64 - 1}},
        {"NetInfo": {"LinkType": "pigeon", "New": [1]}},
    ],
)
def test_unknown_descriptions_of_peers_are_no_error(about: dict[str, object]) -> None:
    """Whatever they say of themselves."""
    first = {**WHOLE, "Peers": [{"ID": 2, "Hostinfo": about}]}
    assert list(hear(first).map.peers) == [2]


def test_both_directions_of_a_wrong_clock_are_allowed_for() -> None:
    """Ours is a day ahead or behind: whose key ends in an hour is judged by the server's."""
    wall = datetime(2026, 3, 1, tzinfo=UTC)
    for days in (-1, 1):
        there = wall + timedelta(days=days)
        ends = {"soon": there + timedelta(hours=1), "gone": there - timedelta(hours=1)}
        peers = [
            {"ID": number, "KeyExpiry": at.isoformat()}
            for number, at in enumerate(ends.values(), 2)
        ]
        first = {"Node": {"ID": 1}, "Peers": peers, "ControlTime": there.isoformat()}
        heard = hear(first)
        assert [p.expired for p in heard.map.peers.values()] == [False, True]
