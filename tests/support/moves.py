"""What befalls a machine that moves: a call begins it, and says when its last part is."""

from collections.abc import Callable, Sequence

from tests.support.movenet import Host, Net
from tests.support.uplinks import Uplink

HOUR = 3600.0
OVERLAPS = (0.0, 0.05, 0.2, 0.6, 1.0, 2.0, 5.0)  # seconds with both networks
BEFORE, AFTER = 10.0, 12.0  # seconds of data, to the last part of a move and from it on
EVERY = 0.1  # seconds between packets
Move = Callable[[Host], float]


def _another(host: Host, *, v4: bool = True, v6: bool | None = None) -> Uplink:
    has_six = any(u.v6 for u in host.uplinks) if v6 is None else v6
    return host.net.uplink(host.nat, v4=v4, v6=has_six)


def _switch(host: Host, new: Uplink | None) -> None:
    host.default = new
    host.changed()


def _leave(host: Host, old: Uplink) -> None:
    host.uplinks.remove(old)
    if host.default is old:
        host.default = None
    host.changed()


def handover(host: Host) -> float:
    """Another network comes and is used; the old one goes some time later."""
    old, new, overlap = host.uplinks[-1], _another(host), host.net.rng.choice(OVERLAPS)
    host.uplinks.append(new)
    _switch(host, new)
    host.net.later(overlap, lambda: _leave(host, old))
    return overlap


def late_route(host: Host) -> float:
    """Another network comes, the old one goes, and only then the route is another."""
    old, new, rng = host.uplinks[-1], _another(host), host.net.rng
    overlap, gap = rng.choice(OVERLAPS), rng.choice((0.0, 0.1, 0.3, 1.0, 3.0))
    host.uplinks.append(new)
    host.changed()
    host.net.later(overlap, lambda: _leave(host, old))
    host.net.later(overlap + gap, lambda: _switch(host, new))
    return overlap + gap


def pulled(host: Host) -> float:
    """The cable is pulled, and another network is there some time later."""
    new, gap = _another(host), host.net.rng.choice((0.0, 0.1, 0.5, 3.0))
    _leave(host, host.uplinks[-1])

    def plug() -> None:
        host.uplinks.append(new)
        _switch(host, new)

    host.net.later(gap, plug)
    return gap


def out_of_range(host: Host) -> float:
    """The old network keeps its address and carries nothing; the route follows, soon or late."""
    old, new, gap = host.uplinks[-1], _another(host), host.net.rng.choice((0.0, 0.2, 2.0, 8.0))
    old.works = False

    def plug() -> None:
        host.uplinks.append(new)
        _switch(host, new)

    host.net.later(gap, plug)
    host.net.later(gap + 10, lambda: _leave(host, old))
    return gap


def other_address(host: Host) -> float:
    """The same network gives another address."""
    old = host.uplinks[-1]
    fresh = _another(host)
    new = Uplink(fresh.v4, fresh.v6, old.boxes)
    _leave(host, old)
    host.uplinks.append(new)
    _switch(host, new)
    return 0.0


def other_version(host: Host) -> float:
    """Another network, of the other IP version, or of both."""
    v4, v6 = host.net.rng.choice(((True, False), (False, True), (True, True)))
    old, new = host.uplinks[-1], _another(host, v4=v4, v6=v6)
    host.uplinks.append(new)
    _switch(host, new)
    _leave(host, old)
    return 0.0


def router_restarts(host: Host) -> float:
    """Its translator forgets everything."""
    for box in host.uplinks[-1].boxes:
        box.forget()
    host.relay.broken = True
    return 0.0


def other_router(host: Host) -> float:
    """Another one at the same address: nothing that the host would see is different."""
    host.uplinks[-1].boxes = _another(host).boxes
    host.relay.broken = True
    return 0.0


def away(host: Host) -> float:
    """No way out for a while, then the same one as before."""
    link, gap = host.uplinks[-1], host.net.rng.choice((0.1, 0.5, 3.0))
    link.works = False
    _switch(host, None)

    def back() -> None:
        link.works = True
        _switch(host, link)

    host.net.later(gap, back)
    return gap


def sleeps(host: Host) -> float:
    """It is shut and opened again, at another place."""
    seconds = host.net.rng.choice((10.0, 40.0, 200.0, HOUR, 3 * HOUR))

    def woke() -> None:
        other_address(host)
        host.uplinks[-1].boxes = _another(host).boxes

    host.sleep(seconds, woke)
    return seconds


def dozes(host: Host) -> float:
    """The same at the same place, where the router has forgotten the host meanwhile."""
    seconds = host.net.rng.choice((10.0, 40.0, 200.0, HOUR, 3 * HOUR))

    def woke() -> None:
        if seconds > 30:
            for box in host.uplinks[-1].boxes:
                box.forget()

    host.sleep(seconds, woke)
    return seconds


MOVES: tuple[Move, ...] = (
    handover,
    late_route,
    pulled,
    out_of_range,
    other_address,
    other_version,
    router_restarts,
    other_router,
    away,
    sleeps,
    dozes,
)


def cut_relay(net: Net, seconds: float) -> None:
    """All connections to the relay end, and new ones are not accepted for a while."""
    net.relay_up = False
    net.a.relay.broken = net.b.relay.broken = True
    net.later(seconds, lambda: setattr(net, "relay_up", True))


def watch(net: Net, move: Move, hosts: Sequence[Host], cut: float | None = None) -> float:
    """Let it befall these hosts, while both send data.

    Args:
        net: where they are.
        move: what.
        hosts: whom, all at once.
        cut: seconds without the relay from then on; ``None``: it stays.

    Returns:
        Seconds from the last part of the move to when the last packet left that was lost.
    """
    last = max([move(host) for host in hosts])
    if cut is not None:
        cut_relay(net, cut)
    idle = max(0.0, last - BEFORE)
    for host in (net.a, net.b):
        net.later(idle, lambda h=host: h.talk(last - idle + AFTER, EVERY))  # type: ignore[misc]
    net.sent.clear()
    net.run(last)
    since = net.now
    net.run(AFTER + 1)
    lost = [each.at - since + EVERY for each in net.lost(since)]
    return max(lost, default=0.0)
