"""``GET trace``."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.agent.localapi.test_routes import ask
from tests.agent.trace.test_walks import box, facts
from tests.support.fake_backend import FakeBackend

from tailnet.agent.errors import UserError
from tailnet.agent.trace.facts import Facts

AT = facts(box())
GONE = replace(AT, netmap=None, plan=None, state="Stopped")


async def trace(looked_at: Facts = AT, **query: Any) -> Any:  # noqa: ANN401 - JSON
    """The answer's tree, or its status."""
    answer = await ask(FakeBackend(looked_at=looked_at), "GET", "trace", **query)
    return json.loads(answer.body) if answer.status == 200 else answer.status


@pytest.mark.parametrize("dst", ["box", "box.example.ts.net", "100.64.0.2"])
async def test_a_trace_out_says_who_was_meant(dst: str) -> None:
    """A name is a step of its own, after the state."""
    told = await trace(dst=dst, port="22")
    assert (told["Src"], told["Dst"], told["Flow"]) == ("self", "100.64.0.2", "tcp 22")
    stages = [step["Stage"] for step in told["Steps"]]
    assert stages[:2] == ["state", "name" if dst != "100.64.0.2" else "key"]


async def test_a_trace_in_goes_to_this_machine() -> None:
    """By default to its address of the source's family."""
    told = await trace(src="box", port="22")
    assert (told["Src"], told["Dst"], told["Verdict"]) == ("box", "100.64.0.1", "pass")
    assert (await trace(src="box", dst="fd7a:115c:a1e0::1"))["Dst"] == "fd7a:115c:a1e0::1"


async def test_without_a_network_the_state_is_the_answer() -> None:
    """Whoever is asked about."""
    told = await trace(GONE, dst="box")
    assert [step["Stage"] for step in told["Steps"]] == ["state"]
    assert told["Verdict"] == "stop"


@pytest.mark.parametrize("query", [{"dst": "nobody"}, {"src": "nobody"}, {"dst": "\x1b[2J"}])
async def test_unknown_names_are_not_found(query: dict[str, Any]) -> None:
    """So that somebody else may be asked."""
    assert await trace(**query) == 404


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"dst": "box", "proto": "sctp"}, "protocol is one of"),
        ({"dst": "box", "port": "0"}, "a port is"),
        ({"dst": "box", "port": "65536"}, "a port is"),
        ({"dst": "box", "port": "²"}, "a port is"),
        ({"dst": "box", "proto": "icmp", "port": "1"}, "icmp has no ports"),
        ({"src": "box", "dst": "100.64.0.2"}, "begin or end at this machine"),
    ],
)
async def test_nonsense_is_refused_in_words(query: dict[str, Any], says: str) -> None:
    """One line each."""
    with pytest.raises(UserError, match=says):
        await trace(**query)
