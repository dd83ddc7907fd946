"""``whois``, ``user-profile`` and ``peer-by-id``."""

import json
from typing import Any

import pytest
from tests.agent.backend.test_plan import netmap, node
from tests.agent.localapi.test_routes import ask
from tests.support.fake_backend import FakeBackend

from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.errors import UserError
from tailnet.agent.tailcfg.filter import CapGrant, FilterRule
from tailnet.agent.tailcfg.node import UserID, UserProfile

ALICE = UserProfile(id=UserID(7), login_name="alice@example.com")
GRANT = CapGrant(dsts=("100.64.0.1/32",), cap_map={"example.com/cap/x": ({"role": "admin"},)})
KEY = str(node(2).key)


def tailnet() -> NetworkMap:
    """Alice's machine, which may do something at ours."""
    rules = (FilterRule(src_ips=("100.64.0.2",), cap_grant=(GRANT,)),)
    peer = node(2, name="box.example.ts.net.", user=UserID(7))
    return netmap(peer, packet_filter=rules, user_profiles={UserID(7): ALICE})


async def whois(addr: str, known: NetworkMap | None) -> Any:  # noqa: ANN401 - JSON
    """The answer's tree, or its status."""
    answer = await ask(FakeBackend(known=known), "GET", "whois", addr=addr)
    return json.loads(answer.body) if answer.status == 200 else answer.status


@pytest.mark.parametrize(
    "addr", ["100.64.0.2", "100.64.0.2:80", "fd7a:115c:a1e0::2", "[fd7a:115c:a1e0::2]:80", KEY]
)
async def test_whois_knows_machine_user_and_grants(addr: str) -> None:
    """By any address, with or without a port, and by key."""
    who = await whois(addr, tailnet())
    assert (who["Node"]["Name"], who["Node"]["ID"]) == ("box.example.ts.net.", 2)
    assert who["UserProfile"] == {"ID": 7, "LoginName": "alice@example.com"}
    assert who["CapMap"] == {"example.com/cap/x": [{"role": "admin"}]}


async def test_whois_knows_this_machine() -> None:
    """To which no rule grants anything."""
    who = await whois("100.64.0.1", tailnet())
    assert (who["Node"]["ID"], who["CapMap"]) == (1, {})


@pytest.mark.parametrize("addr", ["100.64.0.9", "nodekey:00", "192.0.2.1:53"])
async def test_whois_of_strangers_is_not_found(addr: str) -> None:
    """And of everybody while there is no map."""
    assert await whois(addr, tailnet()) == 404
    assert await whois("100.64.0.2", None) == 404


@pytest.mark.parametrize("addr", ["box", "100.64.0.2:http", "nodekey:" + "0" * 200, "[::1"])
async def test_whois_of_nonsense_is_refused(addr: str) -> None:
    """Only addresses and keys are asked for."""
    with pytest.raises(UserError, match="invalid 'addr'"):
        await whois(addr, tailnet())
    assert await whois("", tailnet()) == 400


@pytest.mark.parametrize(
    ("name", "number", "status", "field"),
    [
        ("user-profile", "7", 200, ("LoginName", "alice@example.com")),
        ("user-profile", "8", 404, None),
        ("user-profile", "-1", 400, None),
        ("peer-by-id", "2", 200, ("Name", "box.example.ts.net.")),
        ("peer-by-id", "1", 404, None),
        ("peer-by-id", "", 400, None),
        ("peer-by-id", "9" * 30, 400, None),
    ],
)
async def test_users_and_peers_by_number(
    name: str, number: str, status: int, field: tuple[str, str] | None
) -> None:
    """As control described them."""
    answer = await ask(FakeBackend(known=tailnet()), "GET", name, id=number)
    assert answer.status == status
    if field is not None:
        assert json.loads(answer.body)[field[0]] == field[1]
