"""One of ours and one of others', each pair in a lab of its own: ``make interop``.

The table goes into docs/interop.md.  With ``--long`` traffic goes on for 190 s, in which sessions
are renewed by either side.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from integration.lab.foreign import OUR_PORT, PROGRAMS, Foreign
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import LabError
from integration.lab.topology import flat
from integration.lab.waiting import until

OURS = "h1"
WORKS, NOT, ABSENT = "yes", "**no**", "—"
TIMEOUT = 30.0  # seconds for each thing to work
LONG = 190.0  # seconds: past REJECT_AFTER_TIME of 180
PAGE = Path(__file__).resolve().parents[2] / "docs" / "interop.md"
BEGIN, END = "<!-- matrix: made by make interop -->", "<!-- end of matrix -->"
PINGS = {"disco": (), "TSMP": ("--tsmp",), "ICMP": ("--icmp",), "peerapi": ("--peerapi",)}
COLUMNS = (
    "relayed, to it", "relayed, from it", "direct, to it", "direct, from it",
    "after its restart", "after ours", "we ping it", "it pings us",
)  # fmt: skip


class Pairing:
    """Our host and a foreign one."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.ours = lab.hosts[OURS]
        self.name = name
        self.foreign: Foreign = PROGRAMS[name][1](lab, lab.hosts[name], self.ours)

    def join(self) -> None:
        """Both, ours with a web server."""
        self.lab.join(OURS)
        www = self.ours.directory / "www"
        www.mkdir()
        (www / "page").write_text("a page\n")
        serve = [sys.executable, "-m", "http.server", str(OUR_PORT), "--directory", str(www)]
        self.ours.spawn("http", *serve)
        self.foreign.start()
        self.ours.wait_peers({self.name}, 20)

    def to_it(self) -> bool:
        """We get a page from it, or a ping if it serves none."""
        if self.foreign.serves:
            url = f"http://{self.foreign.address}/hello"
            command = ["curl", "-sS", "--fail", "--max-time", "3", url]
            return "hello" in self.ours.exec(*command, check=False).stdout
        said = self.ours.tnet("ping", "-c", "1", "--timeout", "3s", self.name, check=False)
        return said.stdout.startswith("pong")

    def both(self) -> str:
        """Whether both directions work in the end."""
        return WORKS if works(self.to_it) == works(self.foreign.fetches) == WORKS else NOT

    def direct(self) -> bool:
        """Our path to it is direct."""
        self.to_it()
        return bool(self.ours.path_to(self.name)) or not self.foreign.discovers

    def rows(self) -> dict[str, str]:
        """All columns."""
        found: dict[str, str] = dict.fromkeys(COLUMNS, ABSENT)
        if self.foreign.discovers:
            found["relayed, to it"] = works(self.to_it)
            found["relayed, from it"] = works(self.foreign.fetches)
        self.lab.network.allow_udp(allowed=True)
        direct = works(self.direct)
        found["direct, to it"] = direct if works(self.to_it) == WORKS else NOT
        found["direct, from it"] = works(self.foreign.fetches)
        self.foreign.stop()
        self.foreign.start()
        found["after its restart"] = self.both()
        restart(self.ours)
        found["after ours"] = self.both()
        found["we ping it"] = self._pings(self._ping)
        if self.foreign.asked:
            found["it pings us"] = self._pings(self._asked)
        return found

    def _pings(self, one: Callable[[str], bool]) -> str:
        return ", ".join(kind for kind in PINGS if one(kind)) or "none"

    def _ping(self, kind: str) -> bool:
        words = ["ping", "-c", "1", "--timeout", "4s", *PINGS[kind], self.name]
        said = self.ours.tnet(*words, check=False)
        return not said.returncode or said.stdout.startswith("pong")

    def _asked(self, kind: str) -> bool:
        try:
            said = self.lab.admin("ping", name=self.name, types=kind, ip=str(self.ours.ipv4))
        except LabError:
            return False
        return not said.get("Err")

    def go_on(self, seconds: float) -> str:
        """Whether a page comes both ways each second for so long."""
        began, failed = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            failed += not (self.to_it() and self.foreign.fetches())
            time.sleep(1)
        return WORKS if not failed else f"**{failed} failed**"


def works(look: Callable[[], bool]) -> str:
    """``yes`` if it does within the time."""
    try:
        until("it to work", look, TIMEOUT, every=0.3)
    except LabError:
        return NOT
    return WORKS


def restart(host: Host) -> None:
    """Stop and start the daemon."""
    host.stop()
    host.start()
    host.wait_running(20)


def examine(name: str, *, long: float = 0.0) -> dict[str, str]:
    """The row of one program.

    Raises:
        LabError: it is not installed, or did not join.
    """
    with Lab(flat(OURS, name, udp=False)) as lab:
        pair = Pairing(lab, name)
        pair.join()
        found = pair.rows()
        if long:
            found["190 s of traffic"] = pair.go_on(long)
        return found


def table(rows: dict[str, dict[str, str]]) -> str:
    """In Markdown, a program a column."""
    names = list(rows)
    titles = [PROGRAMS[name][0] for name in names]
    lines = ["| |" + "|".join(f" {title} " for title in titles) + "|", "|---" * (len(names) + 1)]
    lines[1] += "|"
    for column in dict.fromkeys(column for row in rows.values() for column in row):
        cells = (f" {rows[name].get(column, ABSENT)} " for name in names)
        lines.append(f"| {column} |" + "|".join(cells) + "|")
    return "\n".join(lines)


def run(names: Sequence[str], long: float) -> dict[str, dict[str, str]]:
    """All rows, at the same time; a program that is not there has none."""

    def one(name: str) -> dict[str, str]:
        try:
            return examine(name, long=long)
        except LabError as error:
            sys.stdout.write(f"{name}: {error}\n")
            return {}

    with ThreadPoolExecutor(len(names)) as pool:
        rows = dict(zip(names, pool.map(one, names), strict=True))
    return {name: row for name, row in rows.items() if row}


def main() -> int:
    """Exit code 1 if something does not work."""
    parser = argparse.ArgumentParser(prog="make interop", description=__doc__)
    parser.add_argument("--long", action="store_true", help="and 190 s of traffic each")
    parser.add_argument("--no-docs", action="store_true", help="leave the page as it is")
    parser.add_argument("programs", nargs="*", metavar="NAME", help=", ".join(PROGRAMS))
    arguments = parser.parse_args()
    names = arguments.programs or list(PROGRAMS)
    rows = run(names, LONG if arguments.long else 0.0)
    text = table(rows)
    sys.stdout.write(text + "\n")
    if not arguments.no_docs:
        head, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    return int("**" in text or len(rows) < len(names))


if __name__ == "__main__":
    sys.exit(main())
