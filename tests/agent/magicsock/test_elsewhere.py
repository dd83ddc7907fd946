"""Where a peer's data comes from, and whether ours goes there too."""

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.choice import NOISE, WORSE, Quality, as_good
from tailnet.agent.magicsock.elsewhere import FLOOR, FOLLOWED_FOR, Elsewhere

OLD = Quality(AddrPort.parse("1.1.1.1:1"), 0.05)
NEW = Quality(AddrPort.parse("2.2.2.2:2"), 0.06)
LAN = Quality(AddrPort.parse("192.168.1.1:1"), 0.05)


def test_who_sends_from_there_is_followed_if_it_answers_soon() -> None:
    """And nobody else is."""
    it = Elsewhere()
    assert not it.leads_to(NEW, OLD, 1.0)
    it.note(NEW.addr, 1.0)  # type: ignore[arg-type]
    assert not it.leads_to(LAN, OLD, 1.0)
    assert not it.leads_to(NEW, OLD, 1.1 + FOLLOWED_FOR)
    assert not it.leads_to(NEW, NEW, 1.0)
    assert it.leads_to(NEW, OLD, 1.0)


def test_nobody_is_followed_twice_in_a_moment() -> None:
    """Two that follow each other would never end."""
    it = Elsewhere()
    for now, follows in ((1.0, True), (1.2, False), (1.0 + FLOOR, True)):
        it.note(NEW.addr, now)  # type: ignore[arg-type]
        assert it.leads_to(NEW, OLD, now) is follows


def test_what_is_worse_in_kind_or_clearly_slower_is_not_as_good() -> None:
    """A router's outer side is no better than the LAN, however quick it is."""
    slow = NEW._replace(latency=WORSE * OLD.latency + NOISE)
    assert as_good(slow, OLD)
    assert not as_good(slow._replace(latency=slow.latency + 0.001), OLD)
    assert not as_good(NEW._replace(latency=0.001), LAN)
    assert as_good(LAN, NEW)
