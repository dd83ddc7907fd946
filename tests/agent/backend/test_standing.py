"""What the control session says, and what a login makes of it."""

import os
from datetime import UTC, datetime

import pytest

from tailnet.agent.backend.account.record import Record
from tailnet.agent.backend.account.standing import Standing
from tailnet.agent.backend.events import LoginRefused, NodeEvent
from tailnet.agent.backend.store import Stored, fresh
from tailnet.agent.control.events import Connected, ControlEvent, Disconnected, LoginFailed
from tailnet.agent.control.trouble import Cause
from tailnet.agent.errors import UserError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def standing() -> Standing:
    """Of a new installation."""
    return Standing(Record(fresh(os.urandom), lambda _: None, os.urandom), lambda: NOW)


def hear(one: Standing, event: ControlEvent, *, accepted: bool = True) -> list[NodeEvent]:
    """What follows."""
    return list(one.handle(event, accepted=accepted, fresh=False))


@pytest.mark.parametrize("cause", Cause)
def test_the_kind_of_trouble_is_known_until_there_is_contact(cause: Cause) -> None:
    """And is gone when we hang up ourselves."""
    one = standing()
    for end in (lambda: hear(one, Connected()), one.hung_up):
        assert hear(one, Disconnected("why", 1.0, cause)) == []
        assert (one.control_cause, "why" in one.control_problem) == (cause, True)
        end()
        assert (one.control_cause, one.control_problem) == (Cause.OTHER, "")


def test_a_problem_is_logged_once_until_it_is_another_or_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that is away for days fills no log."""
    caplog.set_level("INFO", "tailnet.account")
    one = standing()
    away, busy = Disconnected("away", 1.0), Disconnected("busy", 2.0)
    refused = LoginFailed("away", None)
    for event in (away, away, busy, busy, away, Connected(), away, refused, refused):
        hear(one, event)
    one.hung_up()
    hear(one, refused)
    not_again = "that auth key is not tried again; log in with another: tnet up --auth-key=KEY"
    assert caplog.messages == [
        "control: away (trying again in 1.0 s)",
        "control: busy (trying again in 2.0 s)",
        "control: away (trying again in 1.0 s)",
        "control: away (trying again in 1.0 s)",
        f"login: away ({not_again})",
        f"login: away ({not_again})",
    ]


def test_a_failed_login_beside_a_good_one_is_no_trouble() -> None:
    """Whoever asked is told all the same."""
    one = standing()
    failed = LoginFailed("no", 1.0, cause=Cause.TLS)
    assert hear(one, failed) == [LoginRefused("no")]
    assert (one.login_problem, one.control_cause) == ("", Cause.OTHER)
    hear(one, failed, accepted=False)
    assert (one.login_problem, one.control_cause) == ("no", Cause.TLS)


def test_what_cannot_be_written_is_not_changed() -> None:
    """But what the server told us counts until the end."""
    full = "disk full"

    def save(_: Stored) -> None:
        raise UserError(full)

    record = Record(fresh(os.urandom), save, os.urandom)
    before = record.stored
    with pytest.raises(UserError, match=full):
        record.change(profile_id="ffff")
    with pytest.raises(UserError, match=full):
        record.use(record.blank())
    assert record.stored is before
    record.note(profile_id="ffff")
    assert record.stored.profile_id == "ffff"


def test_what_could_not_be_written_is_with_the_next_thing_that_is() -> None:
    """Also if nothing else changes: whoever says it again wants it on disk."""
    written: list[Stored] = []
    full = True

    def save(stored: Stored) -> None:
        if full:
            msg = "disk full"
            raise UserError(msg)
        written.append(stored)

    record = Record(fresh(os.urandom), save, os.urandom)
    record.note(profile_id="ffff")
    record.note(profile_id="ffff")
    assert written == []
    full = False
    record.note(profile_id="ffff")
    record.note(profile_id="ffff")
    assert written == [record.stored]
