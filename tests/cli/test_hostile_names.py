"""Peers, servers and accounts may call themselves anything: a terminal is shown only text."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.agent.backend.test_plan import netmap, node
from tests.agent.trace.test_walks import box, facts
from tests.support.commandlines import check, run
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import BOX, ME, RUNNING

from tailnet.agent.backend.loginprofile import LoginProfile, NetworkProfile
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.localapi.schema.identity import UserProfile
from tailnet.agent.localapi.schema.names import DNSOSConfig, DNSQueryAnswer, DNSResolver
from tailnet.agent.localapi.schema.network import NetcheckReport, RouteEntry
from tailnet.agent.localapi.schema.paths import PathCandidate, PathDetails, PathSwitch, PingResult
from tailnet.agent.localapi.schema.status import TailnetStatus
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion
from tailnet.agent.tailcfg.node import UserID
from tailnet.agent.tailcfg.node import UserProfile as Person

EVIL = "\x1b]0;owned\x07\x1b[2J\u202e\r\n\x9bevil"
PEER = msgspec.structs.replace(
    BOX, id="n2", dns_name=f"{EVIL}.x.ts.net.", os=EVIL, relay=EVIL, cur_addr=EVIL, user_id=7,
    active=True, exit_node_option=True, tags=(EVIL,), rx_bytes=1, peer_relay=EVIL,
)  # fmt: skip
NAMELESS = msgspec.structs.replace(PEER, dns_name="", tailscale_ips=(EVIL,), cur_addr="")
ABOUT = msgspec.structs.replace(
    RUNNING,
    tailscale_ips=("100.64.0.1",),
    peer={"nodekey:2": PEER, "nodekey:3": NAMELESS, EVIL: PEER},
    user={7: UserProfile(id=7, login_name=EVIL, display_name=EVIL)},
    health=(EVIL,),
    self_=msgspec.structs.replace(ME, dns_name=EVIL, host_name=EVIL, user_id=7),
    current_tailnet=TailnetStatus(name=EVIL, magic_dns_suffix=EVIL, magic_dns_enabled=True),
)
PATH = PathDetails(
    id="n2", name=EVIL, kind=EVIL, addr=EVIL, relay=EVIL, policy=EVIL,
    candidates=(PathCandidate(addr=EVIL, sources=(EVIL,), verdict=EVIL),),
    history=(PathSwitch(path=EVIL, why=EVIL),),
)  # fmt: skip
READING = (
    "status", "status --json", "status --header", "top", "status --watch", "ip box",
    "ip 100.64.0.2", "whoami", "whoami --json",
    "whois 100.64.0.2", "whois --json 100.64.0.2", "routes", "routes --json", "routes --dry-run",
    "dns status --all", "dns status --json", "dns query box", "dns query box --json", "dns record",
    "exit-node list", "exit-node suggest", "path 100.64.0.2", "path --json 100.64.0.2",
    "ping -c=1 100.64.0.2", "ping --peerapi 100.64.0.2", "trace 100.64.0.2:22",
    "explain 100.64.0.2", "switch --list",
    "switch --list --json", "switch 00ff", "get", "get --json", "get hostname", "get --set-flags",
    "version --daemon", "version --json --daemon", "netcheck", "netcheck --verbose",
    "netcheck --format=json", "debug netmon", "debug drops", "debug portmap",
    "debug peer-relay-sessions", "up --hostname=box", "set --exit-node=nobody",
)  # fmt: skip


SILENT = frozenset((
    "ip box", "ip 100.64.0.2", "routes --dry-run", "dns record", "exit-node suggest",
    "version --daemon", "version --json --daemon", "debug netmon", "debug drops",
    "debug portmap", "debug peer-relay-sessions", "set --exit-node=nobody",
))  # fmt: skip
"""Of them, those that show numbers, addresses and words of ours alone."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a daemon that was told all that."""
    backend = FakeBackend(
        about=ABOUT,
        about_path=PATH,
        known=netmap(
            node(2, name=f"{EVIL}.example.ts.net.", user=UserID(7)),
            user_profiles={UserID(7): Person(id=UserID(7), login_name=EVIL, display_name=EVIL)},
        ),
        looked_at=facts(box(name=f"{EVIL}.x.ts.net.")),
        current=Prefs(control_url="https://c.example", hostname=EVIL, operator_user=EVIL),
        pings=[PingResult(node_name=EVIL, node_ip=EVIL, endpoint=EVIL, peer_api_url=EVIL)] * 9,
        dns_before=DNSOSConfig(mode=EVIL, nameservers=(EVIL,), search_domains=(EVIL,)),
        dns_answer=DNSQueryAnswer(resolvers=(DNSResolver(addr=EVIL),), why=EVIL, server=EVIL),
        relays=DERPMap(regions={1: DERPRegion(region_id=1, region_code=EVIL, region_name=EVIL)}),
        measured=NetcheckReport(
            global_v4=EVIL,
            ipv4=True,
            udp=True,
            preferred_derp=1,
            region_latency={1: 9},
        ),
        route_entries={None: (RouteEntry(prefix=EVIL, peer=EVIL, peer_id="2", why=EVIL),)},
        accounts=[
            LoginProfile(id=EVIL, name=EVIL, network_profile=NetworkProfile(domain_name=EVIL)),
            LoginProfile(id="00ff", name=EVIL),
        ],
    )
    socket_path = tmp_path_factory.mktemp("hostile") / "s"
    with served(backend, socket_path):
        yield socket_path


@pytest.mark.parametrize("line", READING)
def test_a_terminal_is_shown_only_text(path: Path, line: str, tmp_path: Path) -> None:
    """And nothing falls over."""
    ended = run(path, tuple(line.split()), tmp_path)
    check(ended)
    shown = ended.stdout + ended.stderr
    assert "evil" in shown or line in SILENT, shown  # it was there to be shown
