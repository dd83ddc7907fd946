"""``tnet trace`` and ``tnet explain``."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.agent.trace.test_walks import box, facts, rule
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import BOX, RUNNING, Daemon

from tailnet.agent.localapi.schema.paths import PingResult
from tailnet.cli.commands.trace_packet import split
from tailnet.cli.errors import Failure


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Running; the peer may reach port 80 here and no other."""
    peer = msgspec.structs.replace(BOX, tailscale_ips=("100.64.0.2",))
    about = msgspec.structs.replace(RUNNING, peer={"nodekey:2": peer})
    rules = (rule("100.64.0.2", "100.64.0.1", 80, 80),)
    backend = FakeBackend(about=about, looked_at=facts(box(), packet_filter=rules))
    path = tmp_path / "s"
    with served(backend, path):
        yield Daemon(backend, path)


def test_trace_walks_and_says_the_verdict(daemon: Daemon) -> None:
    """A line a step; exit code 0 if nothing stops it."""
    shown = daemon.run("trace", "box:22")
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert lines[0] == "self → 100.64.0.2, tcp 22"
    assert "  ok  name     box is 100.64.0.2, an address of box" in lines
    assert lines[-1] == "Nothing here stops it."


def test_what_stops_it_is_named_with_its_evidence(daemon: Daemon) -> None:
    """And the exit code is 1."""
    shown = daemon.run("trace", "box", "self:22")
    assert shown.exit_code == 1
    assert "STOP  filter  no rule lets tcp 22 in from 100.64.0.2" in shown.output
    assert "rule 1: tcp, udp, icmp from 100.64.0.2 to 100.64.0.1 port 80" in shown.output
    assert "It does not get through: no rule lets tcp 22 in" in shown.output
    assert daemon.run("trace", "box", "self:80").exit_code == 0


def test_trace_in_json_is_the_daemons_answer(daemon: Daemon) -> None:
    """For programs."""
    told = json.loads(daemon.run("trace", "--json", "--proto=udp", "box:53").output)
    assert (told["Flow"], told["Verdict"]) == ("udp 53", "pass")


def test_a_foreign_name_is_asked_of_the_host(daemon: Daemon) -> None:
    """As any program would."""
    shown = daemon.run("trace", "localhost:1")
    assert shown.exit_code == 1
    assert "says this host's resolver" in shown.output
    assert "the host's own routes decide" in shown.output


def test_live_connects_as_a_program_would(daemon: Daemon) -> None:
    """And says how it went."""
    known = daemon.backend.looked_at
    assert known is not None
    assert known.netmap is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        own = msgspec.structs.replace(known.netmap.self_node, addresses=("127.0.0.1/32",))
        daemon.backend.looked_at = replace(known, netmap=replace(known.netmap, self_node=own))
        shown = daemon.run("trace", "--live", f"127.0.0.1:{port}")
    assert f"Tried: port    connected to 127.0.0.1 port {port}" in shown.output
    shown = daemon.run("trace", "--live", f"127.0.0.1:{port}")
    assert (shown.exit_code, "nobody listens" in shown.output) == (1, True)


def test_live_tries_every_part_of_the_way(daemon: Daemon) -> None:
    """The path, the system, the tunnel; the last one is what counts without a port."""
    pong = PingResult(node_name="box", endpoint="192.0.2.1:4", latency_seconds=0.012)
    through = PingResult(node_name="box", latency_seconds=0.013)
    daemon.backend.pings = [pong, PingResult(err="no reply\x1b"), through]
    shown = daemon.run("trace", "--live", "box")
    assert shown.exit_code == 0
    path, system, tunnel = shown.output.splitlines()[-3:]
    assert path == "Tried: path    disco: answered via 192.0.2.1:4 in 12ms."
    assert system.startswith("Tried: system  ICMP: no answer from its system, through WireGuard")
    assert system.endswith(": no reply.")
    assert tunnel == "Tried: tunnel  TSMP: answered in 13ms."
    daemon.backend.pings = [pong, through, PingResult(err="no reply")]
    assert daemon.run("trace", "--live", "box", "--proto=icmp").exit_code == 1
    kinds = [call[2] for call in daemon.backend.calls if call[0] == "ping"]
    assert kinds == ["disco", "ICMP", "TSMP", "disco", "TSMP", "ICMP"]


def test_explain_walks_both_ways(daemon: Daemon) -> None:
    """Any port."""
    shown = daemon.run("explain", "box")
    assert shown.exit_code == 0
    assert [line for line in shown.output.splitlines() if line.endswith("x:")] == [
        "To box:",
        "From box:",
    ]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("trace", "nobody.invalid"), 1, "no node and no name known here: nobody.invalid"),
        (("trace", "box:http"), 1, "a port is a number from 1 to 65535, not http"),
        (("trace", "a", "b", "c"), 2, "too many ends"),
        (("trace", "--live", "box", "self"), 2, "--live tries from this machine"),
        (("trace", "nobody", "self"), 1, "no node is called nobody"),
        (("explain", "nobody"), 1, "no peer found: nobody"),
    ],
)
def test_bad_questions_are_one_line(
    daemon: Daemon, args: tuple[str, ...], code: int, says: str
) -> None:
    """That says what to do."""
    shown = daemon.run(*args)
    assert (shown.exit_code, says in f"{shown.stderr}{shown.exception}") == (code, True)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("box", ("box", 0)),
        ("box:22", ("box", 22)),
        ("100.64.0.2:80", ("100.64.0.2", 80)),
        ("fd7a::1", ("fd7a::1", 0)),
        ("[fd7a::1]", ("fd7a::1", 0)),
        ("[fd7a::1]:443", ("fd7a::1", 443)),
    ],
)
def test_ends_are_split_from_their_ports(text: str, want: tuple[str, int]) -> None:
    """Of both families."""
    assert split(text) == want


@pytest.mark.parametrize("text", ["box:0", "box:65536", "box:", "[::1]:x"])
def test_ports_that_are_none(text: str) -> None:
    """Are refused."""
    with pytest.raises(Failure, match="a port is"):
        split(text)
