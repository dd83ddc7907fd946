"""How fast names are answered: ``python -m integration.bench.names [--seconds N] [--rounds N]``.

::

    h1: dnsperf ─► 100.100.100.100 ─► TUN ─► datapath ─► stack ─► resolver ─► dnsmasq on the LAN

Needs ``dnsperf``.  CPU is that of each thread of the daemon, by its name.
"""

import argparse
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from integration.bench.measures import CLOCK_TICKS
from integration.bench.table import figure, say
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import Process
from integration.lab.topology import flat
from integration.lab.waiting import until

LAN = "10.99.0.1"
SERVICE = "100.100.100.100"
OURS = "h1.lab.ts.net A\nh2.lab.ts.net A\nnobody.lab.ts.net A\nh2.lab.ts.net AAAA\n"
OTHERS = "".join(f"{n}.printer.example A\n" for n in range(50))
ANSWERED = re.compile(r"^> \w+ \S+ \w+ ([0-9.]+)$", re.MULTILINE)


def cpu_by_thread(pid: int) -> dict[str, float]:
    """User and system time [s] of each thread, by its name (proc_pid_stat(5))."""
    found: dict[str, float] = defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        head, _, rest = (task / "stat").read_text().rpartition(")")
        fields = rest.split()
        found[head.partition("(")[2]] += (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
    return found


def dnsperf(host: Host, server: str, queries: str, *words: str) -> str:
    """What it prints."""
    file = host.directory / "queries"
    file.write_text(queries)
    return host.exec("dnsperf", "-s", server, "-d", str(file), *words).stdout


def flood(host: Host, seconds: int) -> str:
    """As many as there can be: rate, and what each costs."""
    before = cpu_by_thread(host.running.pid)
    said = dnsperf(host, SERVICE, OURS, "-c", "4", "-q", "100", "-l", str(seconds))
    after = cpu_by_thread(host.running.pid)
    spent = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    most = sorted(spent, key=lambda name: -spent[name])[:4]
    done = int(re.findall(r"Queries completed:\s+(\d+)", said)[0])
    lost = int(re.findall(r"Queries lost:\s+(\d+)", said)[0])
    layers = ", ".join(f"{name} {1e6 * spent[name] / done:.1f} µs" for name in most)
    return f"{done / seconds:.0f}/s, {lost} lost; CPU an answer: {layers}"


def paced(host: Host, server: str, queries: str, rate: int, seconds: int) -> str:
    """How long answers take at ``rate`` a second."""
    said = dnsperf(host, server, queries, "-Q", str(rate), "-l", str(seconds), "-v")
    delays = sorted(float(word) * 1e3 for word in ANSWERED.findall(said))
    p99 = delays[len(delays) * 99 // 100]
    return f"p50 {figure(statistics.median(delays))}, p99 {figure(p99)} ms of {len(delays)}"


def measure(lab: Lab, seconds: int) -> None:
    """One round."""
    host = lab.hosts["h1"]
    say(f"ours, as many as can be   {flood(host, seconds)}")
    say(f"ours at 1,000/s           {paced(host, SERVICE, OURS, 1000, seconds)}")
    for rate in (200, 1000):
        at = f"{rate:,}/s"
        say(f"others at {at:15} {paced(host, SERVICE, OTHERS, rate, seconds)}")
        say(f"others, dnsmasq at {at:6} {paced(host, LAN, OTHERS, rate, seconds)}")
    say(f"ours at 200/s             {paced(host, SERVICE, OURS, 200, seconds)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Rounds, in a lab of two hosts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args(arguments)
    with Lab(flat("h1", "h2")) as lab:
        words = ("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts")
        where = ("--bind-interfaces", f"--listen-address={LAN}", "--user=root", "--pid-file=")
        server = Process(
            "dnsmasq",
            [*words, *where, "--address=/printer.example/192.0.2.7"],
            lab.directory / "dnsmasq.log",
            namespace=lab.network.internet,
        )
        for host in lab.hosts.values():
            host.start()
            host.up(AUTH_KEY)
        lab.wait_complete()
        lab.admin("set_names", dns={"Resolvers": [{"Addr": LAN}], "Proxied": True})
        lab.admin("drop_streams")
        host = lab.hosts["h1"]
        asked = ("dig", "+short", "+tries=1", "+timeout=1", f"@{SERVICE}", "1.printer.example")
        until("names", lambda: host.exec(*asked, check=False).stdout == "192.0.2.7\n", 30)
        for _ in range(options.rounds):
            measure(lab, options.seconds)
        server.kill()


if __name__ == "__main__":
    main()
