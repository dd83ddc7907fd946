"""Names without a TUN device: proxies resolve them as the tailnet wants, not as the host does.

::

    h1 (user 65534, SOCKS5 and HTTP proxy) ── bridge ── h2 (TUN): web server, dnsmasq inside
                                                └─ outside: dnsmasq on the LAN, web server
"""

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.measure import wait_until_logged
from integration.lab.topology import flat
from integration.lab.waiting import until
from integration.test_names_of_others import dnsmasq

pytest.importorskip("tailnet_native", reason="userspace networking needs the native extension")

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

NOBODY = 65534
PROXY = "127.0.0.1:1055"
WEB = 8000
WAYS = pytest.mark.parametrize("way", ["socks5h", "http"])


def curl(host: Host, way: str, name: str) -> str:
    """The page, by a proxy that is given the name; or what curl says of the proxy."""
    url = f"http://{name}:{WEB}/page"
    words = ("curl", "-sS", "--max-time", "12", "--proxy", f"{way}://{PROXY}", url)
    done = host.exec(*words, check=False)
    return done.stdout or done.stderr


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Both joined; the host of h1 itself knows no name at all."""
    lab = make_lab(flat("h1", "h2", "outside"))
    one, two, outside = (lab.hosts[name] for name in ("h1", "h2", "outside"))
    proxies = (f"--socks5-server={PROXY}", f"--outbound-http-proxy-listen={PROXY}")
    one.start("--tun=userspace-networking", *proxies, user=NOBODY)
    two.start()
    for host in (one, two):
        host.up(AUTH_KEY)
    lab.wait_complete()
    for host in (two, outside):
        www = host.directory / "www"
        www.mkdir(parents=True, exist_ok=True)
        (www / "page").write_text(f"of {host.name}\n")
        words = ("python3", "-u", "-m", "http.server", str(WEB), "--bind", "::")
        wait_until_logged(host.spawn("web", *words, "--directory", str(www)), "erving")
    at, inside = str(outside.underlay), str(two.ipv4)
    dnsmasq(outside, at, f"--address=/www.example.org/{at}")
    dnsmasq(two, inside, f"--host-record=db.inside.example,{inside}")
    lab.admin(
        "set_names",
        dns={
            "Domains": ["inside.example"],
            "Resolvers": [{"Addr": at}],
            "Routes": {"inside.example": [{"Addr": inside}]},
            "ExtraRecords": [{"Name": "extra.lab.ts.net.", "Value": inside}],
        },
    )
    lab.admin("drop_streams")
    until("the names", lambda: curl(one, "http", "extra.lab.ts.net") == "of h2\n", 30)
    return lab


@WAYS
@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("h2.lab.ts.net", "of h2\n"),
        ("h2", "of h2\n"),
        ("extra.lab.ts.net", "of h2\n"),
        ("db.inside.example", "of h2\n"),
        ("db", "of h2\n"),
        ("www.example.org", "of outside\n"),
    ],
    ids=["node", "short", "record", "split DNS in the tailnet", "search domain", "default"],
)
def test_names_are_found_by_the_tailnets_rules(lab: Lab, way: str, name: str, page: str) -> None:
    """By both proxies, though the host's own resolver has none of them."""
    here = lab.hosts["h1"]
    assert here.exec("getent", "hosts", name, check=False).stdout == "" or name == "h2"
    assert curl(here, way, name) == page


@WAYS
def test_a_name_that_the_tailnets_resolver_denies_is_nowhere(lab: Lab, way: str) -> None:
    """The system is not asked after it."""
    said = curl(lab.hosts["h1"], way, "gone.inside.example")
    assert "of h2" not in said
    assert "of outside" not in said


def test_names_of_this_host_alone(lab: Lab) -> None:
    """``tnet dns record`` is for proxies too."""
    here, two = lab.hosts["h1"], lab.hosts["h2"]
    here.tnet("dns", "record", "add", "*.dev.lan", str(two.ipv4))
    assert curl(here, "socks5h", "a.dev.lan") == "of h2\n"
    here.tnet("dns", "record", "remove", "*.dev.lan")


def test_a_resolver_inside_that_is_gone_is_no_reason_to_ask_outside(lab: Lab) -> None:
    """Split names stay where they belong."""
    lab.admin("set_names", dns={"Routes": {"inside.example": [{"Addr": "100.64.255.254"}]}})
    lab.admin("drop_streams")
    here = lab.hosts["h1"]
    until("the new resolver", lambda: "of h2" not in curl(here, "http", "db.inside.example"), 30)
