"""``tnet dns``."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from dnslib import AAAA, QTYPE, RCODE, RR, TXT, A, DNSRecord
from tests.agent.backend.test_plan import netmap
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import RUNNING, Daemon

from tailnet.agent.localapi.schema.names import DNSOSConfig, DNSQueryAnswer, DNSResolver
from tailnet.agent.localapi.schema.status import TailnetStatus
from tailnet.agent.tailcfg.dns import DNSConfig, Resolver
from tailnet.agent.tailcfg.dns import DNSRecord as Extra

ABOUT = msgspec.structs.replace(
    RUNNING,
    current_tailnet=TailnetStatus(name="x", magic_dns_suffix="lab.ts.net", magic_dns_enabled=True),
)
CONFIG = DNSConfig(
    routes={"corp.example": (Resolver(addr="192.0.2.53"),), "ours.example": None},
    domains=("lab.ts.net",),
    proxied=True,
    extra_records=(Extra(name="db.corp", value="192.0.2.9"),),
)
BEFORE = DNSOSConfig(nameservers=("10.0.0.1",), search_domains=("home",), mode="direct")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Connected, with split DNS."""
    known = dataclasses.replace(netmap(), dns=CONFIG)
    backend = FakeBackend(about=ABOUT, known=known, dns_before=BEFORE)
    path = tmp_path / "s"
    with served(backend, path):
        yield Daemon(backend, path)


def message(*records: RR, rcode: str = "NOERROR") -> bytes:
    """An answer."""
    reply = DNSRecord.question("a.example").reply()
    reply.header.rcode = getattr(RCODE, rcode)
    for record in records:
        reply.add_answer(record)
    return bytes(reply.pack())


def test_status_says_how_names_are_resolved(daemon: Daemon) -> None:
    """What is set, what the tailnet wants, and what the host did before."""
    said = daemon.run("dns", "status").output
    assert said.splitlines()[0] == "Tailnet DNS: on"
    assert "MagicDNS: on, for names below lab.ts.net; this machine is " in said
    assert "configured by direct; without the tailnet: 10.0.0.1, search home" in said
    assert "  corp.example → 192.0.2.53\n  ours.example → this daemon\n" in said
    assert "Extra records" not in said
    said = daemon.run("dns", "status", "--all").output
    assert "Extra records:\n  db.corp A 192.0.2.9\n" in said
    assert "Resolvers:\n  none\n" in said


def test_status_for_programs_is_upstreams(daemon: Daemon) -> None:
    """Names and shapes."""
    tree = json.loads(daemon.run("dns", "status", "--json").output)
    assert tree["TailscaleDNS"] is True
    assert tree["CurrentTailnet"]["MagicDNSSuffix"] == "lab.ts.net"
    assert tree["SplitDNSRoutes"]["corp.example"] == [{"Addr": "192.0.2.53"}]
    assert tree["SystemDNS"]["Nameservers"] == ["10.0.0.1"]
    assert tree["ExtraRecords"] == [{"Name": "db.corp", "Value": "192.0.2.9"}]


def test_status_when_little_is_known(daemon: Daemon) -> None:
    """No network map, settings off, a host that cannot be read."""
    backend = daemon.backend
    backend.known, backend.dns_before = None, "cannot read /etc/resolv.conf: it is on fire"
    backend.about = msgspec.structs.replace(ABOUT, current_tailnet=None)
    backend.current = msgspec.structs.replace(backend.current, corp_dns=False)
    said = daemon.run("dns", "status").output
    assert "Tailnet DNS: off; turn it on with: tnet set --accept-dns" in said
    assert "MagicDNS: not known" in said
    assert "This host: cannot read /etc/resolv.conf: it is on fire" in said
    tree = json.loads(daemon.run("dns", "status", "--json").output)
    assert tree["SystemDNSError"] == "cannot read /etc/resolv.conf: it is on fire"


def test_query_says_who_answered_and_why(daemon: Daemon) -> None:
    """Ourselves, or one of those who were asked; nothing reaches the terminal raw."""
    daemon.backend.dns_answer = DNSQueryAnswer(
        data=message(RR("a.example", QTYPE.A, rdata=A("192.0.2.1"), ttl=5)), why="a node"
    )
    assert daemon.run("dns", "query", "a.example").output == (
        "a.example.  5  A  192.0.2.1\nanswered by tailnetd: a node\n"
    )
    daemon.backend.dns_answer = DNSQueryAnswer(
        data=message(RR("a.example", QTYPE.TXT, rdata=TXT("\x1b[2J"))),
        resolvers=(DNSResolver(addr="192.0.2.53"),),
        why="resolvers for corp.example",
        server="192.0.2.53:53",
    )
    said = daemon.run("dns", "query", "a.example", "txt").output
    assert "answered by 192.0.2.53:53, one of the resolvers for corp.example (192.0.2.53)" in said
    assert "\x1b" not in said
    assert daemon.backend.calls[-1] == ("dns-query", "a.example", 16)


def test_query_for_programs(daemon: Daemon) -> None:
    """Upstream's shape."""
    daemon.backend.dns_answer = DNSQueryAnswer(
        data=message(RR("a.example", QTYPE.AAAA, rdata=AAAA("::1"), ttl=7)), why="w"
    )
    tree = json.loads(daemon.run("dns", "query", "a.example", "AAAA", "--json").output)
    assert tree["ResponseCode"] == "RCodeSuccess"
    assert (
        tree["Answers"]
        == [
            {
                "Name": "a.example.",
                "TTL": 7,
                "Class": "ClassINET",
                "Type": "TypeAAAA",
                "Body": "0000:0000:0000:0000:0000:0000:0000:0001",
            }
        ]
        or tree["Answers"][0]["Body"] == "::1"
    )


@pytest.mark.parametrize(
    ("rcode", "line"), [("NXDOMAIN", "NXDOMAIN"), ("NOERROR", "no record of this type")]
)
def test_no_record_is_an_answer(daemon: Daemon, rcode: str, line: str) -> None:
    """Of two kinds."""
    daemon.backend.dns_answer = DNSQueryAnswer(data=message(rcode=rcode), why="w")
    result = daemon.run("dns", "query", "a.example")
    assert (result.exit_code, result.output.splitlines()[0]) == (0, line)


@pytest.mark.parametrize("data", [b"", b"\x00" * 5, b"\xff" * 40])
def test_no_answer_is_a_failure(daemon: Daemon, data: bytes) -> None:
    """Silence, and bytes that are no message."""
    daemon.backend.dns_answer = DNSQueryAnswer(
        data=data, resolvers=(DNSResolver(addr="192.0.2.53"),), why="resolvers for ."
    )
    result = daemon.run("dns", "query", "a.example")
    assert (result.exit_code, result.output) == (
        1,
        "no answer from 192.0.2.53 (resolvers for .)\n",
    )


def test_an_address_asks_for_its_name(daemon: Daemon) -> None:
    """And a type that does not exist is said."""
    daemon.backend.dns_answer = DNSQueryAnswer(data=message(), why="w")
    daemon.run("dns", "query", "100.64.0.1")
    assert daemon.backend.calls[-1] == ("dns-query", "1.0.64.100.in-addr.arpa", 12)
    result = daemon.run("dns", "query", "a.example", "NOPE")
    assert result.exit_code == 1
    assert "there is no DNS type 'NOPE'" in result.output


def test_names_of_this_host_come_and_go(daemon: Daemon) -> None:
    """By one command each; a mistake changes nothing."""
    assert daemon.run("dns", "record", "list").output == ""
    assert daemon.run("dns", "record", "add", "nas.home", "192.168.1.9", "fd00::9").output == ""
    daemon.run("dns", "record", "add", "*.dev.lan", "127.0.0.1")
    said = daemon.run("dns", "record", "list").output.splitlines()
    assert [line.split() for line in said] == [
        ["*.dev.lan", "127.0.0.1"],
        ["nas.home", "192.168.1.9", "fd00::9"],
    ]
    daemon.run("dns", "record", "remove", "nas.home", "fd00::9")
    for words in (("add", "a b", "::1"), ("add", "a.home", "x"), ("remove", "a.home")):
        assert daemon.run("dns", "record", *words).exit_code == 1
    daemon.run("dns", "record", "remove", "*.dev.lan")
    tree = json.loads(daemon.run("dns", "record", "list", "--json").output)
    assert tree == [{"Name": "nas.home", "Addresses": ["192.168.1.9"]}]
