"""Every fault of the control server against a whole daemon: one host for each, all at once.

::

    well ──┐
    0 … 17 ┴── bridge: control, DERP, STUN        each number has another fault
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.control_ailing import CUTS, HANGS, POLL_FAULTS
from integration.lab.host import Host, parse_ping
from integration.lab.lab import Lab
from integration.lab.process import LabError, Process
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(240)]

SHOWN = 60.0  # seconds that contact is lost before people are told
PATIENCE = 30.0  # seconds on top, on a busy machine
RECOVERY = 30.0  # seconds: the longest wait between two attempts by then is about ten
LOOKS = 8  # at what a host holds
MOST = 120  # connections and requests of one host in that time: no storm


class Row(NamedTuple):
    """``says``: in the health of ``tnet status`` while it lasts; empty: all is well."""

    fault: str
    says: str


ROWS = (
    Row("cut at 0", "not in contact with the control server"),
    Row("cut at 40", "not in contact with the control server"),
    Row("cut at 300", "not in contact with the control server"),
    Row("cut at 600", "not in contact with the control server"),
    Row(HANGS, "no answer within 10 s"),
    Row("401", "map answered 401: who are you?"),
    Row("403", "map answered 403: not today"),
    Row("429", "map answered 429: slower"),
    Row("500", "map answered 500: out to lunch"),
    Row("503", "map answered 503: later"),
    Row("not JSON", "bad JSON"),
    Row("not zstd", "bad zstd"),
    Row("huge", "map message too long"),
    Row("bomb", "map message too long"),
    Row("frame of garbage", "not a record"),
    Row("wrong MAC", "authentication failed"),
    Row("drip", ""),
    Row("hang", "not in contact with the control server"),  # given up after two minutes
)


def test_every_fault_has_a_row() -> None:
    """Of those that the server knows."""
    assert {row.fault for row in ROWS} == POLL_FAULTS.keys() | CUTS.keys() | {HANGS}


class Held(NamedTuple):
    """What a daemon holds."""

    descriptors: int
    tasks: int


def held(host: Host) -> Held:
    """Now."""
    status, text = host.ask("GET", "goroutines")
    assert status == 200
    tasks = len(re.findall(r"^task ", text, re.MULTILINE))
    return Held(len(list(Path(f"/proc/{host.running.pid}/fd").iterdir())), tasks)


def health(host: Host) -> str:
    """All problems of a host, as status has them."""
    return "\n".join(host.status()["Health"] or ())


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """A host for each row, and one that is well."""
    lab = make_lab(flat("well", *(f"row{number}" for number in range(len(ROWS)))))
    lab.join()
    lab.wait_complete()
    return lab


class Told(NamedTuple):
    """What became of one host.

    Attributes:
        state: while the fault lasted, as ``tnet status`` has it.
        health: the same, at the end of it.
        asked: connections and requests that the server saw meanwhile.
        lost: pings to the host that is well, out of ``sent``.
        online: it was back within ``RECOVERY``, and its health said no more of control.
        before, after: what it holds.
        log: since the fault began.
    """

    state: str
    health: str
    asked: int
    sent: int
    lost: int
    online: bool
    before: Held
    after: Held
    log: str


@pytest.fixture(scope="module")
def told(lab: Lab) -> dict[str, Told]:
    """By fault.  All of them begin at once, are shown, and end at once."""
    hosts = {row.fault: lab.hosts[f"row{number}"] for number, row in enumerate(ROWS)}
    well = str(lab.hosts["well"].ipv4)
    before: dict[str, Held] = {}
    for _ in range(LOOKS):
        before = least(hosts, before)
    logs = {fault: host.log.stat().st_size for fault, host in hosts.items()}
    pings = {
        fault: host.spawn("ping", "ping", "-n", "-q", "-c120", "-i0.5", "-W3", well)
        for fault, host in hosts.items()
    }
    lab.admin("ail", faults={str(host.underlay): fault for fault, host in hosts.items()})
    silent = {row.fault for row in ROWS if row.says}

    def shown() -> bool:
        silent.difference_update(
            row.fault
            for row in ROWS
            if row.fault in silent and row.says in health(hosts[row.fault])
        )
        return not silent

    _ = is_so(shown, SHOWN + PATIENCE)
    states = {fault: str(host.status()["BackendState"]) for fault, host in hosts.items()}
    words = {fault: health(host) for fault, host in hosts.items()}
    asked = lab.admin("asked")
    results = {fault: finished(process) for fault, process in pings.items()}
    lab.admin("ail", faults={})
    names = {host.name for host in hosts.values()}
    _ = is_so(lambda: lab.online() >= names, RECOVERY)
    online = lab.online()
    _ = is_so(lambda: not any("control server" in health(h) for h in hosts.values()), PATIENCE)
    after: dict[str, Held] = {}

    def as_before() -> bool:
        nonlocal after
        after = least(hosts, after)
        return all(after[f].descriptors <= before[f].descriptors for f in hosts) and all(
            after[f].tasks <= before[f].tasks for f in hosts
        )

    _ = is_so(as_before, PATIENCE)
    return {
        fault: Told(
            states[fault],
            words[fault],
            asked[str(host.underlay)],
            *results[fault],
            host.name in online and "control server" not in health(host),
            before[fault],
            after[fault],
            host.log.read_bytes()[logs[fault] :].decode(errors="replace"),
        )
        for fault, host in hosts.items()
    }


def is_so(look: Callable[[], bool], timeout: float) -> bool:
    """Whether it becomes so in time."""
    try:
        return until("it", look, timeout, every=0.5)
    except LabError:
        return False


def finished(ping: Process) -> tuple[int, int]:
    """Sent and lost."""
    ping.wait(SHOWN + PATIENCE)
    result = parse_ping(ping.log.read_text())
    return result.sent, result.lost


def wait_login(host: Host) -> None:
    """Until it says that somebody must log in."""
    what = f"{host.name} to need a login"
    _ = until(what, lambda: host.status()["BackendState"] == "NeedsLogin", PATIENCE)


def least(hosts: Mapping[str, Host], seen: Mapping[str, Held]) -> dict[str, Held]:
    """Of what was seen and what is now: timers and questions of a moment do not count."""
    now = {fault: held(host) for fault, host in hosts.items()}
    return {
        fault: Held(*map(min, zip(now[fault], seen.get(fault, now[fault]), strict=True)))
        for fault in hosts
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault.replace(" ", "-"))
def test_a_fault_is_told_of_harms_no_traffic_and_passes(told: dict[str, Told], row: Row) -> None:
    """The node stays Running, peers answer, it asks with patience, comes back and is as before."""
    of = told[row.fault]
    assert of.state == "Running"
    if row.says:
        assert row.says in of.health
    else:
        assert "control server" not in of.health
    assert (of.sent, of.lost) == (120, 0)
    assert of.asked <= MOST
    assert of.online
    assert of.after.descriptors <= of.before.descriptors
    assert of.after.tasks <= of.before.tasks
    assert "Traceback" not in of.log


def test_another_clock_is_no_problem_and_decides_over_keys(lab: Lab) -> None:
    """Three hours ahead or behind: nobody complains, and a key that ends by it has ended."""
    hosts = lab.hosts
    for number, skew in enumerate((3.0, -3.0)):
        lab.admin("restart-control", skew=skew)
        until("all to be back", lambda: lab.online() == set(hosts), RECOVERY)
        assert {str(host.status()["BackendState"]) for host in hosts.values()} == {"Running"}
        assert not any("expire" in health(host) for host in hosts.values())
        host = hosts[f"row{number}"]
        lab.admin("expire", name=host.name)
        wait_login(host)
        lab.admin("restart-control", skew=0.0)
        host.up(AUTH_KEY, "--force-reauth")
        host.wait_running(PATIENCE)
    until("all to be back", lambda: lab.online() == set(hosts), RECOVERY)


def test_a_new_noise_key_is_learnt_by_all(lab: Lab) -> None:
    """The server starts with another key: all are back without a login, and no ping is lost."""
    one, well = lab.hosts["row2"], lab.hosts["well"]
    addresses = {host.ipv4 for host in lab.hosts.values()}
    lab.admin("restart-control", new_key=True)
    assert one.ping_os(well.ipv4).lost == 0
    until("all to be back", lambda: lab.online() == set(lab.hosts), RECOVERY)
    assert {host.ipv4 for host in lab.hosts.values()} == addresses


def test_a_lost_database_is_a_new_login(lab: Lab) -> None:
    """Nobody knows these nodes any more: each says so, and is back with its key."""
    lab.admin("restart-control", forget=True)
    hosts = list(lab.hosts.values())
    for host in hosts:
        wait_login(host)
    for process in [host.begin_up(AUTH_KEY) for host in hosts]:
        assert process.wait(PATIENCE) == 0, process.tail()
    for host in hosts:
        host.wait_running(PATIENCE)
    assert lab.online() == set(lab.hosts)
