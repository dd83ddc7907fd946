"""What became of sessions, from one look to the next."""

from datetime import UTC, datetime, timedelta

from tailnet.agent.localapi.schema.bus import PeerSession
from tailnet.agent.localapi.view.watching.sessions import Sessions
from tailnet.agent.wireguard.events import PeerState

SHAKEN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = SHAKEN + timedelta(minutes=1)
THERE = PeerSession(state=PeerState.ESTABLISHED.value, at=SHAKEN)


def test_a_session_is_there_since_its_handshake_and_told_once() -> None:
    """Whoever comes later is told of those that there are."""
    sessions = Sessions()
    found = {"a": (PeerState.ESTABLISHED, SHAKEN)}
    assert sessions.update(found, NOW) == {"a": THERE}
    assert sessions.update(found, NOW) == {}
    assert sessions.known() == {"a": THERE}


def test_a_peer_without_a_session_is_no_news_until_it_has_lost_one() -> None:
    """That is so since we looked; and nobody is told of it later."""
    sessions = Sessions()
    none = {"a": (PeerState.NONE, SHAKEN)}
    assert sessions.update(none, NOW) == {}
    _ = sessions.update({"a": (PeerState.ESTABLISHED, SHAKEN)}, NOW)
    assert sessions.update(none, NOW) == {"a": PeerSession(at=NOW)}
    assert sessions.known() == {}


def test_a_peer_that_is_gone_has_lost_its_session() -> None:
    """Nothing of it is remembered: back again, it is news."""
    sessions = Sessions()
    found = {"a": (PeerState.ESTABLISHED, SHAKEN)}
    _ = sessions.update(found, NOW)
    assert sessions.update({}, NOW) == {"a": PeerSession(at=NOW)}
    assert sessions.update({}, NOW) == {}
    assert sessions.update(found, NOW) == {"a": THERE}
