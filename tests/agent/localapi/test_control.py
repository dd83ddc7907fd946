"""What the control server is asked for local programs."""

from datetime import UTC, datetime

import pytest
from tests.agent.localapi.test_debug import ask
from tests.support.fake_backend import FakeBackend

from tailnet.agent.control.wishes import Wish
from tailnet.agent.errors import UserError


class Refusing(FakeBackend):
    """The server has nothing of the kind."""

    async def ask_control(self, wish: Wish) -> dict[str, object]:
        """Refuse."""
        msg = f"this control server does not {wish.refused} (501)"
        raise UserError(msg)

    async def expire_sooner(self, at: datetime) -> None:
        """Refuse."""
        msg = "no"
        raise UserError(msg)


async def test_wishes_reach_the_server() -> None:
    """With what they are about."""
    backend = FakeBackend()
    assert (await ask(backend, "GET", "id-token", aud="x")).status == 200
    assert (await ask(backend, "POST", "query-feature", feature="serve")).status == 200
    assert (await ask(backend, "POST", "set-expiry-sooner", expiry="1800000000")).body == b"done\n"
    assert (await ask(backend, "POST", "disconnect-control")).status == 204
    assert (await ask(backend, "POST", "reset-auth")).status == 204
    assert [call[0] for call in backend.calls] == ["ask", "ask", "expire", "disconnect", "reset"]
    assert [call[1] for call in backend.calls[:2]] == [
        "/machine/id-token",
        "/machine/feature/query",
    ]
    assert backend.calls[2][1] == datetime(2027, 1, 15, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("method", "name", "query"),
    [
        ("GET", "id-token", {"aud": "x"}),
        ("POST", "query-feature", {"feature": "serve"}),
        ("POST", "set-expiry-sooner", {"expiry": "1800000000"}),
    ],
)
async def test_a_refusal_of_the_server_is_no_fault_of_ours(
    method: str, name: str, query: dict[str, str]
) -> None:
    """502, as JSON, with its words."""
    answer = await ask(Refusing(), method, name, **query)
    assert (answer.status, answer.content_type) == (502, "application/json")


@pytest.mark.parametrize("expiry", ["", "0", "-1", "x", "9" * 11, "1.5"])
async def test_a_time_must_be_one(expiry: str) -> None:
    """Unix, in seconds."""
    assert (await ask(FakeBackend(), "POST", "set-expiry-sooner", expiry=expiry)).status == 400


async def test_a_bug_report_is_a_marker_and_a_printable_note() -> None:
    """Of upstream's form; what would damage a log is left out."""
    backend = FakeBackend()
    answer = await ask(backend, "POST", "bugreport", note="a\x1b[2J\nb", diagnose="true")
    assert answer.body.startswith(b"BUG-")
    assert backend.calls == [("bugreport", "a[2Jb", True)]
