"""Names that are not the tailnet's own, asked by the daemon of dnsmasq, beside and inside it.

::

    h1 (native datapath) ─┬─ h2 (pure Python datapath), with dnsmasq at its tailnet address
                          └─ outside: dnsmasq at its own address, no daemon
"""

from collections.abc import Callable

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import Process
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

SERVICE = "100.100.100.100"
BIG = "big.corp.example"
LONG = ".".join(["a" * 63] * 3 + ["b" * 48, "corp.example"])  # 253 letters: 255 bytes
TEN = [f"s{n}.example" for n in range(9)] + ["corp.example"]
BOTH = pytest.mark.parametrize("name", ["h1", "h2"])


def dnsmasq(host: Host, listen: str, *records: str) -> Process:
    """A server for these."""
    common = ("--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null")
    where = (f"--listen-address={listen}", "--bind-interfaces", "--user=root", "--pid-file=")
    server = host.spawn("dnsmasq", "dnsmasq", *common, *where, *records)
    until("dnsmasq answers", lambda: "status:" in dig(host, listen, "x.example"), 10)
    return server


def dig(host: Host, server: str, *words: str) -> str:
    """What it prints; one try of three seconds."""
    command = ("dig", "+tries=1", "+timeout=3", f"@{server}", *words)
    return host.exec(*command, check=False).stdout


@pytest.fixture(scope="module")
def started() -> dict[str, Process]:
    """Servers, by host."""
    return {}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab, started: dict[str, Process]) -> Lab:
    """Both joined; names below corp.example are asked outside, below inside.example inside."""
    lab = make_lab(flat("h1", "h2", "outside"))
    lab.hosts["h1"].start()
    lab.hosts["h2"].start("--datapath=reference")
    members = [lab.hosts["h1"], lab.hosts["h2"]]
    for host in members:
        host.up(AUTH_KEY)
    until("they see each other", lambda: members[0].peer("h2"), 20)
    outside, inside = str(lab.hosts["outside"].underlay), str(members[1].ipv4)
    texts = [f"--txt-record={BIG},{n}-{'x' * 200}" for n in range(12)]
    addresses = [
        "--host-record=www.corp.example,203.0.113.5,2001:db8::5",
        f"--address=/{LONG}/203.0.113.8",
        "--local=/example/",  # what is not there is denied: a refusal would end libc's search
    ]
    started["outside"] = dnsmasq(
        lab.hosts["outside"], outside, *texts, *addresses, "--address=/example.com/203.0.113.9"
    )
    dnsmasq(members[1], inside, "--host-record=db.inside.example,203.0.113.6")
    lab.admin(
        "set_names",
        dns={
            "Resolvers": [{"Addr": outside}],
            "Routes": {
                "corp.example": [{"Addr": outside}],
                "inside.example": [{"Addr": inside}],
            },
            "ExtraRecords": [{"Name": "extra.lab.ts.net.", "Value": "203.0.113.7"}],
        },
    )
    lab.admin("drop_streams")
    for host in members:
        until("the names have come", _knows(host), 30)
    return lab


def _knows(host: Host) -> Callable[[], bool]:
    return lambda: dig(host, SERVICE, "+short", "extra.lab.ts.net") == "203.0.113.7\n"


@BOTH
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize("server", [SERVICE, "fd7a:115c:a1e0::53"])
def test_every_name_is_asked_of_who_knows_it(
    lab: Lab, name: str, transport: str, server: str
) -> None:
    """By the longest suffix, the rest by default; a server in the tailnet through the tunnel."""
    host = lab.hosts[name]
    for asked, kind, said in (
        ("www.corp.example", "A", "203.0.113.5"),
        ("WWW.Corp.Example", "AAAA", "2001:db8::5"),
        ("example.com", "A", "203.0.113.9"),
        ("db.inside.example", "A", "203.0.113.6"),
        ("extra.lab.ts.net", "A", "203.0.113.7"),
    ):
        assert dig(host, server, transport, "+short", asked, kind) == f"{said}\n"


@BOTH
def test_a_big_answer_comes_by_tcp(lab: Lab, name: str) -> None:
    """``dig`` is told by UDP that it is too long, and asks again."""
    said = dig(lab.hosts[name], SERVICE, "+bufsize=1232", BIG, "TXT")
    assert "ANSWER: 12," in said
    assert "(TCP)" in said or "retrying in TCP" in said
    short = dig(lab.hosts[name], SERVICE, "+ignore", "+bufsize=1232", BIG, "TXT")
    assert " tc " in short


@BOTH
def test_who_says_no_is_believed(lab: Lab, name: str) -> None:
    """A name that its server does not have, and one that nobody has."""
    host = lab.hosts[name]
    assert "status: NXDOMAIN" in dig(host, SERVICE, "nobody.lab.ts.net")
    assert "203.0.113" not in dig(host, SERVICE, "+short", "nobody.corp.example")


@BOTH
def test_the_longest_name_there_can_be(lab: Lab, name: str) -> None:
    """255 bytes, of which libc and dig make no more."""
    assert len(LONG) == 253
    assert dig(lab.hosts[name], SERVICE, "+short", LONG) == "203.0.113.8\n"
    assert "203.0.113.8" in lab.hosts[name].tnet("dns", "query", LONG).stdout


def test_a_name_is_found_by_the_tenth_search_domain(lab: Lab) -> None:
    """All are told to the host, in order, and libc tries them."""
    here = lab.hosts["h1"]
    outside = str(lab.hosts["outside"].underlay)
    lab.admin("set_names", dns={"Domains": TEN, "Resolvers": [{"Addr": outside}]})
    lab.admin("drop_streams")
    said = f"search lab.ts.net {' '.join(TEN)}\n"
    until("ten domains", lambda: said in here.exec("cat", "/etc/resolv.conf").stdout, 20)
    assert here.exec("getent", "ahostsv4", "www").stdout.split()[0] == "203.0.113.5"


def test_a_resolver_inside_that_is_away_holds_up_nothing_else(lab: Lab) -> None:
    """Its names are not asked outside and fail in time; others are answered at once meanwhile."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    outside = str(lab.hosts["outside"].underlay)
    route = {"corp.example": [{"Addr": str(there.ipv4)}]}
    lab.admin("set_names", dns={"Resolvers": [{"Addr": outside}], "Routes": route})
    lab.admin("drop_streams")
    there.kill9()
    until("the route", lambda: "203.0.113" not in dig(here, SERVICE, "www.corp.example"), 20)
    words = ("dig", "+tries=1", "+timeout=12", f"@{SERVICE}", "www.corp.example")
    asking = here.spawn("asking", *words)
    for _ in range(10):
        assert dig(here, SERVICE, "+short", "+timeout=1", "example.com") == "203.0.113.9\n"
    assert asking.returncode is None
    there.start("--datapath=reference")
    there.wait_running()
    asking.wait(15)
    assert "203.0.113" not in asking.tail(100)


def test_a_resolver_that_was_dead_is_asked_again(lab: Lab, started: dict[str, Process]) -> None:
    """Nothing has to be done when it is back."""
    here = lab.hosts["h1"]
    at = str(lab.hosts["outside"].underlay)
    started["outside"].kill()
    assert "203.0.113" not in dig(here, SERVICE, "example.com")
    dnsmasq(lab.hosts["outside"], at, "--address=/example.com/203.0.113.9")
    until("an answer", lambda: dig(here, SERVICE, "+short", "example.com") == "203.0.113.9\n", 10)
