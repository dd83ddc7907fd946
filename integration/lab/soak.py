"""Eight machines and a change every few seconds, for as long as is wanted: ``make soak``.

Each change is one of those below, chosen with a seed.  After it, every node that should be there
must reach every other within a time; memory, descriptors and tasks are looked at all along.  At the
end all is well again, and each daemon must be no larger than after the first minute, but for a
margin.
"""

import argparse
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from integration.lab.bad_link import GOOD, BadLink, Badness
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import LabError
from integration.lab.topology import flat
from integration.lab.waiting import until

HOSTS = 8
WARM = 60.0  # seconds before the first measure that counts, at most a fifth of the run
PAUSE = (1.0, 4.0)  # seconds between changes
REACH = 40.0  # seconds until a pair must have exchanged a packet
MEMORY_MARGIN = 12.0  # MiB that a daemon may grow
FD_MARGIN = 16  # descriptors; connections to relays come and go
THREAD_MARGIN = 2
METRICS = "http://local-tailscaled.sock/localapi/v0/metrics"
TASK_MARGIN = 8  # of the event loop; a dial or a request may be under way


@dataclass(frozen=True, slots=True)
class Size:
    """Of one daemon.

    Attributes:
        memory: resident [MiB].
        descriptors: open files.
        threads: of the process.
        tasks: of its event loop.
    """

    memory: float
    descriptors: int
    threads: int
    tasks: int

    def outgrew(self, before: "Size") -> bool:
        """By more than the margins."""
        return (
            self.memory > before.memory + MEMORY_MARGIN
            or self.descriptors > before.descriptors + FD_MARGIN
            or self.threads > before.threads + THREAD_MARGIN
            or self.tasks > before.tasks + TASK_MARGIN
        )


def size(host: Host) -> Size:
    """How large a host's daemon is now."""
    root = Path(f"/proc/{host.running.pid}")
    status = dict(
        line.split(":", 1) for line in (root / "status").read_text().splitlines() if ":" in line
    )
    memory = int(status["VmRSS"].split()[0]) / 1024
    descriptors = len(list((root / "fd").iterdir()))
    return Size(memory, descriptors, int(status["Threads"]), tasks(host))


def tasks(host: Host) -> int:
    """Of the event loop, as the daemon's own metrics say."""
    (line,) = (
        line
        for line in host.exec(
            "curl", "-sf", "--unix-socket", host.socket, METRICS
        ).stdout.splitlines()
        if line.startswith("tailnetd_tasks ")
    )
    return int(float(line.split()[1]))


@dataclass
class Soak:
    """One run.

    Attributes:
        lab: with all hosts joined.
        link: of the first host; can be bad.
        choose: where chance comes from.
        done: how often each change was made.
    """

    lab: Lab
    link: BadLink
    choose: random.Random
    done: dict[str, int] = field(default_factory=dict)
    _udp: bool = True

    def hosts(self) -> list[Host]:
        """All of them."""
        return list(self.lab.hosts.values())

    def step(self) -> str:
        """One change, and everybody reaches a few others; its name."""
        name = self.choose.choice(list(CHANGES))
        CHANGES[name](self)
        self.done[name] = self.done.get(name, 0) + 1
        for _ in range(3):
            one, two = self.choose.sample(self.hosts(), 2)
            self.reach(one, two, name)
        return name

    def reach(self, one: Host, two: Host, after: str) -> None:
        """A ping passes.

        Raises:
            LabError: it does not in time.
        """
        to = two.ipv4
        until(
            f"{one.name} to reach {two.name} after {after}",
            lambda: one.ping_os(to, count=1, wait=1).received,
            REACH,
        )

    def reach_all(self) -> None:
        """Every ordered pair."""
        for one in self.hosts():
            for two in self.hosts():
                if one is not two:
                    self.reach(one, two, "everything")

    # --- changes

    def restart(self) -> None:
        """A daemon ends in an orderly way and comes back."""
        host = self._any()
        host.stop()
        host.start()
        host.wait_running(20)

    def kill(self) -> None:
        """A daemon dies and comes back."""
        host = self._any()
        host.kill9()
        host.start()
        host.wait_running(20)

    def down_up(self) -> None:
        """A user switches it off and on."""
        host = self._steady()
        host.tnet("down")
        host.up(AUTH_KEY)

    def relay(self) -> None:
        """The relay restarts."""
        self.lab.admin("restart-derp", region=900)

    def control(self) -> None:
        """The control server restarts."""
        self.lab.admin("restart-control")

    def streams(self) -> None:
        """All connections to control are cut."""
        self.lab.admin("drop-streams")

    def udp(self) -> None:
        """UDP among hosts is dropped, or passes again."""
        self._udp = not self._udp
        self.lab.network.allow_udp(allowed=self._udp)

    def link_down(self) -> None:
        """A link is down for a moment."""
        host = self._steady()
        host.exec("ip", "link", "set", "eth0", "down")
        host.exec("ip", "link", "set", "eth0", "up")

    def bad_link(self) -> None:
        """The first host's link is bad, or good again."""
        self.link.set(
            self.choose.choice([GOOD, Badness(loss=0.05), Badness(delay=0.05, spread=0.02)])
        )

    def rebind(self) -> None:
        """A daemon opens other sockets."""
        self._any().tnet("debug", "rebind")

    def policy(self) -> None:
        """A path policy is set and taken back."""
        one, two = self.choose.sample(self.hosts(), 2)
        for rule in ("relay-only", "auto"):
            one.tnet("set", f"--path-policy={two.name}={rule}")

    def traffic(self) -> None:
        """A burst of large packets."""
        one, two = self.choose.sample(self.hosts(), 2)
        flood = ["ping", "-n", "-q", "-c200", "-i0.002", "-s1200", "-W1", str(two.ipv4)]
        one.exec(*flood, check=False)

    def _any(self) -> Host:
        return self.choose.choice(self.hosts())

    def _steady(self) -> Host:
        """Any but the one whose link is ours."""
        return self.choose.choice(self.hosts()[1:])


CHANGES: dict[str, Callable[[Soak], None]] = {
    each.__name__: each
    for each in (
        Soak.restart, Soak.kill, Soak.down_up, Soak.relay, Soak.control, Soak.streams, Soak.udp,
        Soak.link_down, Soak.bad_link, Soak.rebind, Soak.policy, Soak.traffic,
    )
}  # fmt: skip


def run(lab: Lab, seconds: float, seed: int, say: Callable[[str], None]) -> list[str]:
    """Start, change, measure; what has grown too much, in words."""
    link = BadLink(lab, lab.hosts["h1"])
    lab.join()
    lab.wait_complete(30)
    soak = Soak(lab, link, random.Random(seed))
    began = time.monotonic()
    first: dict[str, tuple[int, Size]] = {}  # by name: process, its size when it was warm
    warm = min(WARM, seconds / 5)
    steps = 0
    while (elapsed := time.monotonic() - began) < seconds:
        name = soak.step()
        steps += 1
        say(f"{elapsed:6.0f} s  {name}")
        for host in soak.hosts():
            pid = host.running.pid
            if (first.get(host.name) or (0,))[0] != pid:
                first.pop(host.name, None)
                if time.monotonic() - began >= warm:
                    first[host.name] = pid, size(host)
        time.sleep(soak.choose.uniform(*PAUSE))
    link.set(GOOD)
    lab.network.allow_udp(allowed=True)
    soak.reach_all()
    say(f"{steps} changes: " + ", ".join(f"{n} {c}" for n, c in sorted(soak.done.items())))
    grown = []
    for host in soak.hosts():
        now = size(host)
        pid, before = first.get(host.name, (0, now))
        say(f"{host.name}: {before} → {now}")
        if pid == host.running.pid and now.outgrew(before):
            grown.append(f"{host.name} grew from {before} to {now}")
        text = host.log.read_text(errors="replace")
        if "Traceback" in text:
            grown.append(f"{host.name} has a traceback in its log")
    return grown


def main() -> int:
    """Exit code 1 if something leaked or somebody was not reached."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default 30)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="copy all logs there")
    arguments = parser.parse_args()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    lab = Lab(flat(*(f"h{number}" for number in range(1, HOSTS + 1))))
    try:
        lab.start()
        bad = run(lab, arguments.minutes * 60, arguments.seed, say)
    except LabError as error:
        bad = [str(error), lab.logs(8)]
    except KeyboardInterrupt:
        return 130
    finally:
        if arguments.keep_logs is not None:
            lab.keep_logs(arguments.keep_logs)
        lab.close()
    for line in bad:
        say(line)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
