"""Parts of the network map, and the process."""

import asyncio
import json
import logging
from typing import Any

import pytest
from tests.agent.backend.test_plan import netmap, node
from tests.agent.localapi.test_routes import ask
from tests.support.fake_backend import FakeBackend

from tailnet.agent.backend.prefs import Prefs, toggle_exit_node
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.view.process.aio import MAX_WAITING, ProcessView
from tailnet.agent.tailcfg.dns import DNSConfig

EXIT = node(2, stable_id="n2", name="out.x.", allowed_ips=("100.64.0.2/32", "0.0.0.0/0", "::/0"))
KNOWN = FakeBackend(known=netmap(EXIT))


async def tree(method: str, name: str, backend: FakeBackend = KNOWN, **query: Any) -> Any:  # noqa: ANN401 - JSON
    """The answer's tree, or its status."""
    answer = await ask(backend, method, name, **query)
    return json.loads(answer.body) if answer.status == 200 else answer.status


async def test_the_map_is_shown_in_upstreams_shape() -> None:
    """Whole, its names' part, and its rules; nothing without one."""
    shown = await tree("POST", "debug", action="current-netmap")
    assert shown["SelfNode"]["ID"] == 1
    assert [peer["ID"] for peer in shown["Peers"]] == [2]
    assert "PrivateKey" not in shown
    assert await tree("GET", "dns-config") == {}
    assert (await tree("GET", "debug-packet-filter-rules"))[0]["SrcIPs"] == ["*"]
    nobody = FakeBackend()
    for name in ("dns-config", "debug-packet-filter-rules"):
        assert await tree("GET", name, nobody) == 503


async def test_domains_for_certificates_are_controls() -> None:
    """None without a map."""
    known = netmap(EXIT, dns=DNSConfig(cert_domains=("me.x.ts.net",)))
    assert await tree("GET", "cert-domains", FakeBackend(known=known)) == ["me.x.ts.net"]
    assert await tree("GET", "cert-domains", FakeBackend()) == []


async def test_an_exit_node_is_suggested_if_there_is_one() -> None:
    """By its stable id and its name."""
    assert (await tree("GET", "suggest-exit-node"))["ID"] == "n2"
    assert (await tree("GET", "suggest-exit-node", FakeBackend()))["ID"] == ""


@pytest.mark.parametrize(
    "used", [{"exit_node_id": "n2"}, {"exit_node_ip": "100.64.0.2"}, {"auto_exit_node": "any"}]
)
def test_an_exit_node_is_left_and_used_again(used: dict[str, Any]) -> None:
    """In the form it was chosen; leaving none, and using what is used, change nothing."""
    before = Prefs(**used)
    without = toggle_exit_node(before, enabled=False)
    assert not without.wants_exit_node
    assert toggle_exit_node(without, enabled=False) == without
    again = toggle_exit_node(without, enabled=True)
    assert {name: getattr(again, name) for name in used} == used
    assert toggle_exit_node(before, enabled=True) == before


async def test_the_last_exit_node_is_asked_for_by_name() -> None:
    """Who never had one is told what to do."""
    backend = FakeBackend(current=Prefs(exit_node_id="n2"))
    assert (await tree("POST", "set-use-exit-node-enabled", backend, enabled="false"))[
        "InternalExitNodePrior"
    ] == "n2"
    assert await tree("POST", "set-use-exit-node-enabled", backend, enabled="maybe") == 400
    with pytest.raises(UserError, match="choose one with"):
        await tree("POST", "set-use-exit-node-enabled", FakeBackend(), enabled="true")


async def test_lines_of_others_are_logged_without_escapes() -> None:
    """Bounded in number and length."""
    backend = FakeBackend()
    lines = ["a\x1b[2J", "x" * 5000, *map(str, range(500))]
    body = json.dumps({"Lines": lines, "Prefix": "gui"}).encode()
    assert (await ask(backend, "POST", "debug-log", body)).status == 204
    said = [call[1] for call in backend.process.calls]
    assert (len(said), said[0], len(str(said[1]))) == (100, "gui: a[2J", 1000)
    assert (await ask(backend, "POST", "debug-log", b'{"Lines": 3}')).status == 400


async def test_components_are_logged_in_detail_for_a_while() -> None:
    """An unknown one is refused in words; nonsense is a bad request."""
    backend = FakeBackend()
    args = {"component": "magicsock", "secs": "5"}
    assert await tree("POST", "component-debug-logging", backend, **args) == {"Error": ""}
    assert backend.process.calls == [("log", "magicsock", 5)]
    said = await tree("POST", "component-debug-logging", backend, component="x", secs="1")
    assert "unknown component" in said["Error"]
    assert await tree("POST", "component-debug-logging", backend, component="x", secs="a") == 400


async def test_the_process_answers_for_real() -> None:
    """Tasks by name; a level that is put back; a log that is heard."""
    view = ProcessView()
    assert "task Task-" in view.tasks()
    assert "thread " in view.tasks()
    logger = logging.getLogger("tailnet.inspected")
    logger.setLevel(logging.WARNING)
    view.log_in_detail("inspected", 60)
    view.log_in_detail("inspected", 60)
    assert logger.level == logging.DEBUG
    view.log_in_detail("inspected", 0)
    assert logger.level == logging.WARNING
    with pytest.raises(UserError, match="unknown component 'x'; there are "):
        view.log_in_detail("x", 1)


async def test_the_log_is_heard_and_what_nobody_reads_is_lost() -> None:
    """The oldest first; an end ends the reading."""
    view = ProcessView()
    tap = view.logtap()
    logger = logging.getLogger("tailnet.inspected")
    logger.setLevel(logging.INFO)
    for number in range(MAX_WAITING + 5):
        logger.info("line %d", number)
    lines = (await tap.read()).decode().splitlines()
    oldest = json.loads(lines[0])
    assert (len(lines), oldest["text"]) == (MAX_WAITING, "I tailnet.inspected: line 5")
    assert (oldest["v"], oldest["client_time"][-6:]) == (0, "+00:00")
    reading = asyncio.ensure_future(tap.read())
    await asyncio.sleep(0)
    tap.close()
    assert await reading == b""
    logger.info("nobody hears this")
