"""How the path to a peer behaves on bad links, on a real kernel.

``make impairment`` prints the table; ``integration/test_impairment.py`` holds its claims with less
time for each row.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import NamedTuple

from integration.lab.bad_link import GOOD, BadLink, Badness
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import LabError
from integration.lab.topology import flat
from integration.lab.waiting import until

DIRECT_TIMEOUT = 20.0  # seconds until the path is direct on a good link
INTERVAL = 0.2  # seconds between pings


class Row(NamedTuple):
    """One kind of bad link.

    Attributes:
        bad: what it does, each way.
        most_lost: share of pings that may be lost.
        most_switches: changes of the path a minute.
    """

    bad: Badness
    most_lost: float
    most_switches: float


ROWS: dict[str, Row] = {
    "good": Row(GOOD, 0.01, 0),
    "1 % loss": Row(Badness(loss=0.01), 0.10, 2),
    "5 % loss": Row(Badness(loss=0.05), 0.25, 4),
    "20 % loss": Row(Badness(loss=0.20), 0.60, 16),
    "300 ms delay": Row(Badness(delay=0.15), 0.05, 2),
    "reordering, duplicates": Row(Badness(spread=0.03, duplication=0.05), 0.05, 4),
    "5 % loss, 300 ms, reordering": Row(Badness(loss=0.05, delay=0.15, spread=0.03), 0.25, 4),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of a row.

    Attributes:
        lost: share of pings.
        average_ms: their round trip.
        switches: changes of the path a minute, those of both ends together.
        kind: of the path at the end.
        handshakes: sessions made anew.
    """

    lost: float
    average_ms: float
    switches: float
    kind: str
    handshakes: int


def switches(here: Host, there: Host) -> tuple[int, str]:
    """Changes of the path so far, and its kind now."""
    said = json.loads(here.tnet("path", "--json", there.name).stdout)
    return int(said.get("Switches", 0)), str(said["Kind"])


def shaken(here: Host, there: Host) -> str:
    """When the session was made."""
    peer = here.peer(there.name)
    return "" if peer is None else str(peer["LastHandshake"])


def examine(one: Host, two: Host, link: BadLink, row: Row, seconds: float) -> Finding:
    """Ping through the tunnel for some seconds, on a link that begins good and direct."""
    link.set(GOOD)
    until("a direct path", lambda: _direct(one, two) and _direct(two, one), DIRECT_TIMEOUT)
    before = [switches(*pair)[0] for pair in ((one, two), (two, one))]
    made, session = 0, shaken(one, two)
    link.set(row.bad)
    began, sent, received, weighted = time.monotonic(), 0, 0, 0.0
    while (elapsed := time.monotonic() - began) < seconds:
        pings = max(1, int(min(10.0, seconds - elapsed) / INTERVAL))
        said = one.ping_os(two.ipv4, count=pings, interval=INTERVAL)
        sent, received = sent + said.sent, received + said.received
        weighted += said.average_ms * said.received
        if (now := shaken(one, two)) != session:
            made, session = made + 1, now
    minutes = (time.monotonic() - began) / 60
    after = [switches(*pair) for pair in ((one, two), (two, one))]
    changes = sum(count for count, _ in after) - sum(before)
    average = weighted / received if received else 0.0
    return Finding(1 - received / sent, average, changes / minutes, after[0][1], made)


def _direct(here: Host, there: Host) -> bool:
    here.ping_os(there.ipv4, count=1, wait=1)
    return bool(here.path_to(there.name))


def join(lab: Lab) -> BadLink:
    """h1 behind a link that can be bad, and h2; both joined."""
    link = BadLink(lab, lab.hosts["h1"])
    lab.join()
    lab.wait_complete()
    return link


def main() -> int:
    """Print the table; exit code 1 if a row is out of its bounds."""
    parser = argparse.ArgumentParser(prog="make impairment", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each row (default 60)")
    arguments = parser.parse_args()
    bad = False
    try:
        with Lab(flat("h1", "h2")) as lab:
            link = join(lab)
            one, two = lab.hosts["h1"], lab.hosts["h2"]
            say("| link, each way | pings lost | round trip | path changes a minute | at the end |")
            say("|---|---|---|---|---|")
            for name, row in ROWS.items():
                found = examine(one, two, link, row, arguments.seconds)
                wrong = found.lost > row.most_lost or found.switches > row.most_switches
                bad = bad or wrong
                said = f"{found.lost:.1%} | {found.average_ms:.0f} ms | {found.switches:.1f}"
                say(f"| {name} | {said} | {found.kind}{' **out of bounds**' if wrong else ''} |")
    except LabError as error:
        say(f"impairment: {error}")
        return 1
    return int(bad)


def say(text: str) -> None:
    """A line of output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
