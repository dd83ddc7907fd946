"""A host in userspace mode and a host with a TUN device: one stream each way, and with many open.

The same proxy on a host with a TUN device shows the kernel's TCP in the stack's place, and the same
host without a proxy what two TUN devices do.  All in turn, in rounds: they share one machine, and
the ratios are what counts.

``python -m integration.bench.userspace [--seconds S] [--rounds R] [--datapath native|reference]
[--open N …]``.
"""

import argparse
import json
import resource
import sys
from pathlib import Path

from integration.bench.measures import Sample
from integration.bench.table import report
from integration.bench.throughput import load
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.measure import wait_until_logged
from integration.lab.process import LabError
from integration.lab.topology import flat
from integration.lab.waiting import until

PROXY = "127.0.0.1:1055"
PORT, ECHO = 5201, 7000
DIRECT_TIMEOUT, OPEN_TIMEOUT = 20.0, 120.0  # seconds
BULK = [sys.executable, "-u", "-m", "integration.lab.bulk"]
Pairs = dict[str, tuple[Host, Host, str]]  # who sends, who receives, through which proxy
PROXIED = [sys.executable, "-u", "-m", "integration.lab.proxied"]


def memory(host: Host) -> int:
    """Resident memory of its daemon [MiB]."""
    status = Path(f"/proc/{host.running.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) >> 10


def descriptors(host: Host) -> int:
    """How many its daemon has open."""
    return len(list(Path(f"/proc/{host.running.pid}/fd").iterdir()))


def stream(
    sender: Host, receiver: Host, to: str, listen: str, *, seconds: float, proxy: str
) -> Sample:
    """One stream of some seconds."""
    before = sender.running.cpu_seconds(), receiver.running.cpu_seconds()
    wait_until_logged(receiver.spawn("bulk", *BULK, "serve", listen, str(PORT)), "listening")
    words = [*BULK, "send", to, str(PORT), str(seconds), *([proxy] if proxy else [])]
    result = json.loads(sender.exec(*words, timeout=seconds + 60).stdout)
    gigabytes = result["bytes"] / 1e9
    cpu = sum((sender.running.cpu_seconds(), receiver.running.cpu_seconds())) - sum(before)
    return {"Gbit/s": gigabytes * 8 / result["seconds"], "CPU s/GB": cpu / gigabytes}


def run(lab: Lab, arguments: argparse.Namespace) -> None:
    """Measure and print."""
    lab.start()
    one, two, three = (lab.hosts[name] for name in ("h1", "h2", "h3"))
    datapath = f"--datapath={arguments.datapath}"
    proxy = f"--socks5-server={PROXY}"
    one.start("--tun=userspace-networking", proxy, datapath)
    two.start(datapath)
    three.start(proxy, datapath)
    for host in (one, two, three):
        host.up(AUTH_KEY)
    lab.wait_complete()
    for name in ("h1", "h3"):
        two.ping_os(lab.hosts[name].ipv4, count=2)
        until("a direct path", lambda name=name: two.path_to(name), DIRECT_TIMEOUT)  # type: ignore[misc]
    pairs: Pairs = {
        "SOCKS5, our TCP": (one, two, PROXY),
        "SOCKS5, kernel's TCP": (three, two, PROXY),
        "two TUN devices": (three, two, ""),
        "TUN to 127.0.0.1": (two, one, ""),
    }
    for version in (4, 6):
        show(f"IPv{version}", f"load average {load()}")
        compare(pairs, arguments, version)
    wait_until_logged(two.spawn("echo", *PROXIED, "serve", str(ECHO)), "listening")
    del pairs["TUN to 127.0.0.1"]
    for number, count in enumerate(arguments.open):
        for host, tcp in ((one, "our TCP"), (three, "kernel's TCP")):
            hold(host, two, number, count, tcp)
        show("one stream beside them", f"load average {load()}")
        compare(pairs, arguments, 4)


def compare(pairs: Pairs, arguments: argparse.Namespace, version: int) -> None:
    """Each pair in each round."""
    samples: dict[str, list[Sample]] = {name: [] for name in pairs}
    for _ in range(arguments.rounds):
        for name, (sender, receiver, proxy) in pairs.items():
            to = str(receiver.ipv4 if version == 4 else receiver.ipv6)
            listen = "127.0.0.1" if name.endswith("127.0.0.1") else to
            sample = stream(sender, receiver, to, listen, seconds=arguments.seconds, proxy=proxy)
            samples[name].append(sample)
    report(samples)


def hold(host: Host, server: Host, number: int, count: int, tcp: str) -> None:
    """Open connections that stay."""
    before = memory(host), descriptors(host)
    words = [*PROXIED, "hold", PROXY, str(server.ipv4), str(ECHO), str(count)]
    holder = host.spawn(f"hold{number}", *words)
    until(
        f"{count} connections",
        lambda: b"opened" in holder.log.read_bytes(),
        OPEN_TIMEOUT,
    )
    grown, more = memory(host) - before[0], descriptors(host) - before[1]
    show(f"{count} more, {tcp}, each used once", f"{grown:+} MiB, {more:+} descriptors")


def show(label: str, text: str) -> None:
    """One aligned line."""
    sys.stdout.write(f"{label:<60}{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="integration.bench.userspace", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--datapath", choices=("native", "reference"), default="native")
    parser.add_argument("--open", type=int, nargs="*", default=[1000, 4000], metavar="N")
    arguments = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    lab = Lab(flat("h1", "h2", "h3"))
    try:
        run(lab, arguments)
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        lab.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
