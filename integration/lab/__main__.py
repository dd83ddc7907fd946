"""``make lab``: two hosts of one tailnet ping each other, first through a relay, then directly."""

import argparse
import contextlib
import shlex
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.measure import tcp_stream
from integration.lab.process import LabError
from integration.lab.topology import MAX_HOSTS, flat
from integration.lab.waiting import until

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DIRECT_TIMEOUT = 20.0  # seconds for a direct path to be found once UDP passes


class Interrupted(BaseException):
    """Ctrl-C, or another request to end.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def interrupt_once(number: int, _frame: FrameType | None) -> None:
    """Signal handler: raise :class:`Interrupted` and make sure nothing disturbs the cleaning up."""
    _ignore_signals()
    raise Interrupted(number)


class Printer:
    """Output of the demo: numbered steps, and below each what came of it."""

    def __init__(self) -> None:
        self._bold, self._plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")

    def step(self, text: str) -> None:
        """What happens now."""
        self.line(f"\n{self._bold}{text}{self._plain}")

    def result(self, label: str, text: str) -> None:
        """One aligned line of what came of it."""
        self.line(f"  {label:<50}{text}")

    def block(self, text: str) -> None:
        """Output of a program, indented."""
        for line in text.rstrip().splitlines():
            self.line(f"  {line}")

    def line(self, text: str) -> None:
        """Print as it is."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


class Demo:
    """The steps shown by ``make lab``."""

    def __init__(self, lab: Lab, out: Printer) -> None:
        self._lab = lab
        self._out = out

    def run(self, *, whole: bool) -> None:
        """Start and join; with ``whole`` also show the relay, the direct path and the speed.

        Raises:
            LabError: something did not work.
        """
        count = len(self._lab.topology.hosts)
        self._out.step(f"Starting a lab: control, DERP and STUN servers, {count} hosts")
        began = time.monotonic()
        self._lab.start()
        for host in self._lab.hosts.values():
            host.start(wait=False)
        for host in self._lab.hosts.values():
            host.wait_for_socket(15)
        self._out.result("everything is running after", f"{time.monotonic() - began:.1f} s")
        self._join()
        one, two = list(self._lab.hosts.values())[:2]
        self._status(one)
        if whole:
            self._ping(one, two)
            self._throughput(one, two)

    def _join(self) -> None:
        self._out.step("Joining the tailnet")
        for host in self._lab.hosts.values():
            self._out.line(f"  {host.name}$ tnet {shlex.join(host.up_arguments(AUTH_KEY))}")
            self._out.block(host.up(AUTH_KEY))
        self._lab.wait_complete()

    def _status(self, host: Host) -> None:
        self._out.line(f"  {host.name}$ tnet status")
        self._out.block(host.tnet("status").stdout)

    def _ping(self, one: Host, two: Host) -> None:
        self._out.step("Through the relay: UDP between the hosts is blocked")
        self._system_pings(one, two)
        self._tnet_ping(one, two)
        self._out.step("Directly: UDP is allowed now, nothing is restarted")
        self._lab.network.allow_udp(allowed=True)
        began = time.monotonic()
        one.ping_os(two.ipv4, count=1)
        until("a direct path", lambda: one.path_to(two.name), DIRECT_TIMEOUT)
        self._out.result("a direct path is found after", f"{time.monotonic() - began:.1f} s")
        self._system_pings(one, two)
        self._tnet_ping(one, two)
        self._status(one)

    def _system_pings(self, one: Host, two: Host) -> None:
        for address in (two.ipv4, two.ipv6):
            result = one.ping_os(address)
            answer = f"{result.received} of {result.sent} answered, {result.average_ms:.2f} ms"
            self._out.result(f"{one.name}$ ping {address}", answer)
            if result.lost:
                msg = f"{result.lost} pings from {one.name} to {address} were lost"
                raise LabError(msg)

    def _tnet_ping(self, one: Host, two: Host) -> None:
        command = ["ping", "-c", "1", "--until-direct=false", str(two.ipv4)]
        said = one.tnet(*command).stdout.strip()
        self._out.result(f"{one.name}$ tnet ping {two.ipv4}", said)

    def _throughput(self, one: Host, two: Host) -> None:
        self._out.step("Speed of one TCP stream")
        stream = tcp_stream(one, two, two.ipv4)
        self._out.result(f"{stream.tool}, direct", f"{stream.gbit:.2f} Gbit/s")

    def shell(self) -> None:
        """Keep everything running until Enter."""
        self._out.step("The lab stays open. In another terminal, enter a host with")
        for host in self._lab.hosts.values():
            self._out.result(host.name, shlex.join(host.shell_command()))
        self._out.line("  There, `tnet status`, `ping`, `curl` and so on are that host's own.")
        self._out.line("\nPress Enter to close the lab and remove everything.")
        sys.stdin.readline()

    def stop(self) -> None:
        """End the daemons in an orderly way."""
        self._out.step("Removing everything")
        for host in self._lab.hosts.values():
            if (code := host.stop()) != 0:
                msg = f"tailnetd of {host.name} ended with exit code {code}"
                raise LabError(msg)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make lab ARGS=…", description=__doc__)
    parser.add_argument("--shell", action="store_true", help="keep it open, to try things out")
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="copy all logs there")
    parser.add_argument("--hosts", type=int, default=2, metavar="N", help="how many (default 2)")
    arguments = parser.parse_args()
    if not 2 <= arguments.hosts <= MAX_HOSTS:
        parser.error(f"--hosts takes 2 to {MAX_HOSTS}")
    return arguments


def _ignore_signals() -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)


def _perform(demo: Demo, lab: Lab, out: Printer, *, shell: bool) -> int:
    """Run the demo; exit code."""
    try:
        demo.run(whole=not shell)
        if shell:
            demo.shell()
        demo.stop()
    except LabError as error:
        out.line(f"\nThis did not work: {error}\n\n{lab.logs()}")
        return 1
    except Interrupted as stop:
        with contextlib.suppress(OSError):
            out.step("Interrupted, removing everything")
        return 128 + stop.number
    finally:
        _ignore_signals()
    return 0


def main() -> int:
    """Run the demo and clean up whatever happens; exit code."""
    arguments = _arguments()
    began = time.monotonic()
    lab = Lab(flat(*(f"h{n}" for n in range(1, arguments.hosts + 1)), udp=arguments.shell))
    out = Printer()
    for each in _SIGNALS:
        signal.signal(each, interrupt_once)
    try:
        code = _perform(Demo(lab, out), lab, out, shell=arguments.shell)
        if arguments.keep_logs is not None:
            lab.keep_logs(arguments.keep_logs)
    finally:
        lab.close()
    if code == 0:
        out.line(f"  Nothing is left. {time.monotonic() - began:.0f} s in all.")
    return code


if __name__ == "__main__":
    sys.exit(main())
