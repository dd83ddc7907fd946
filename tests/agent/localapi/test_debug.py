"""What is for people who debug the daemon."""

import json

from tests.support.fake_backend import FakeBackend

from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Access, Request, Response
from tailnet.agent.localapi.routes import Route, find
from tailnet.agent.localapi.schema.basics import BASE
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion


async def ask(backend: FakeBackend, method: str, name: str, **query: str) -> Response:
    """Call a route's handler."""
    route = find(method, BASE + name, Access.WRITE)
    assert isinstance(route, Route)
    assert route.handler is not None
    return await route.handler(backend, Request(method, BASE + name, query, b""))


async def test_debug_answers_what_it_knows() -> None:
    """A tree, or nothing at all; 400 for what there is not."""
    backend = FakeBackend()
    plan = await ask(backend, "POST", "debug", action="plan")
    assert (plan.status, json.loads(plan.body)) == (200, {"Peers": []})
    cleared = await ask(backend, "POST", "debug", action="clear-netmap-cache")
    assert (cleared.status, cleared.body) == (200, b"done\n")  # upstream's client wants these
    assert (await ask(backend, "POST", "debug", action="explode")).status == 400
    assert backend.calls == [("debug", "plan"), ("debug", "clear-netmap-cache")]


async def test_reload_config_says_whether_it_did() -> None:
    """And why not, with 200 as in Go."""
    backend = FakeBackend()
    good = await ask(backend, "POST", "reload-config")
    assert json.loads(good.body) == {"Reloaded": True, "Err": ""}

    async def refuse() -> bool:
        msg = "bad field"
        raise UserError(msg)

    backend.reload_config = refuse  # type: ignore[method-assign]
    bad = await ask(backend, "POST", "reload-config")
    assert (bad.status, json.loads(bad.body)) == (200, {"Reloaded": False, "Err": "bad field"})


async def test_netcheck_and_the_map_of_relays() -> None:
    """The port is checked here, the address where it is used."""
    backend = FakeBackend(relays=DERPMap(regions={1: DERPRegion(region_id=1, region_code="a")}))
    shown = await ask(backend, "GET", "derpmap")
    assert json.loads(shown.body)["Regions"]["1"]["RegionCode"] == "a"
    report = await ask(backend, "POST", "netcheck", address="192.0.2.1", port="7")
    assert (report.status, json.loads(report.body)["UDP"]) == (200, False)
    for port in ("x", "65536", "-1", "٣"):
        assert (await ask(backend, "POST", "netcheck", port=port)).status == 400
    assert backend.calls == [("netcheck", "192.0.2.1", 7)]
