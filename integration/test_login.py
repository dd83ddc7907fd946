"""Every way to join through ``tnet``, on real daemons.

::

    h1 ── bridge: control, DERP, STUN ── h2
"""

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY, EPHEMERAL_KEY, ONCE_KEY, TAGGED_KEY
from integration.lab.host import BIN, Host
from integration.lab.key_api import SECRET, TOKEN
from integration.lab.lab import ROOT, Lab
from integration.lab.process import Process
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

SOON = 15.0  # seconds
KEY_API = 8099  # port


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two hosts with daemons, not logged in."""
    lab = make_lab(flat("h1", "h2"))
    for host in lab.hosts.values():
        host.start()
    return lab


@pytest.fixture(autouse=True)
def _logged_out(lab: Lab) -> Iterator[None]:
    """Each test begins without nodes."""
    lab.admin("set-approval", needed=False)
    yield
    for host in lab.hosts.values():
        host.tnet("logout", check=False)
        host.tnet("set", "--accept-routes=false", "--hostname=")
    for node in lab.admin("nodes"):
        lab.admin("delete", name=node["name"])


def begin(host: Host, *arguments: str) -> Process:
    """Start ``tnet …`` and let it wait."""
    return host.spawn("login", BIN / "tnet", f"--socket={host.socket}", *arguments)


def begin_up(host: Host, *more: str) -> Process:
    """``tnet up`` without a key."""
    return begin(
        host, "up", f"--login-server={host.login_server}", f"--hostname={host.name}", *more
    )


def shown_url(process: Process) -> str:
    """The login URL that it shows, in exactly the form that others parse."""
    pattern = r"\nTo authenticate, visit:\n\n\t(http://\S+/login/\w+)\n\n"
    until("a login URL", lambda: re.search(pattern, process.log.read_text()), SOON)
    *_, last = re.finditer(pattern, process.log.read_text())
    return last.group(1)


def visit(lab: Lab, url: str) -> None:
    """Open it as a browser would, on another machine."""
    lab.hosts["h2"].exec("curl", "-sf", url)


def state(host: Host) -> str:
    """``BackendState``."""
    return str(host.status()["BackendState"])


def test_login_in_a_browser(lab: Lab) -> None:
    """URL on stderr, the same in status; opened elsewhere, the host is up and the command ends."""
    one = lab.hosts["h1"]
    going = begin_up(one)
    url = shown_url(going)
    assert (state(one), one.status()["AuthURL"]) == ("NeedsLogin", url)
    assert one.tnet("status", check=False).stdout.splitlines()[0] == "Logged out."
    visit(lab, url)
    assert going.wait(SOON) == 0
    assert going.log.read_text().endswith("Success.\n")
    assert (state(one), one.status()["AuthURL"]) == ("Running", "")


def test_login_command_with_a_qr_code(lab: Lab) -> None:
    """``tnet login`` is enough; a second one is another account, and leaves the first alone."""
    one = lab.hosts["h1"]
    going = begin(one, "login", f"--login-server={one.login_server}", "--qr", "--qr-format=ascii")
    url = shown_url(going)
    until("a code", lambda: "##########" in going.log.read_text(), SOON)
    visit(lab, url)
    assert going.wait(SOON) == 0
    again = begin(one, "login", f"--login-server={one.login_server}")
    shown_url(again)
    again.stop()
    listed = one.tnet("switch", "--list").stdout.splitlines()
    assert [line.split()[1:] for line in listed] == [
        ["Tailnet", "Account"],
        ["lab.ts.net", "lab@example.com"],
    ]
    assert one.tnet("switch", "lab.ts.net").stdout.endswith("Success.\n")


def test_login_in_json(lab: Lab) -> None:
    """One object a step, with the code as an image."""
    one = lab.hosts["h1"]
    going = begin_up(one, "--json", "--qr")
    until("a login URL", lambda: going.log.read_text().count("}"), SOON)
    step = json.loads(going.log.read_text())
    assert step["BackendState"] in {"NeedsLogin", "NoState"}
    with urllib.request.urlopen(step["QR"]) as image:
        assert image.read(8) == b"\x89PNG\r\n\x1a\n"
    visit(lab, step["AuthURL"])
    assert going.wait(SOON) == 0
    assert going.log.read_text().endswith('{\n\t"BackendState": "Running"\n}\n')


@pytest.mark.parametrize("gone", [False, True])
def test_lost_login_gets_a_new_url(lab: Lab, gone: bool) -> None:
    """The server forgot the login, and says so with a new URL or with 410: the new one works."""
    one = lab.hosts["h1"]
    going = begin_up(one)
    first = shown_url(going)
    lab.admin("forget-logins", gone=gone)
    until("another URL", lambda: shown_url(going) != first, SOON)
    visit(lab, shown_url(going))
    assert going.wait(SOON) == 0


def test_login_survives_a_restart_of_the_server(lab: Lab) -> None:
    """While the person is still looking for the phone."""
    one = lab.hosts["h1"]
    going = begin_up(one)
    first = shown_url(going)
    lab.admin("restart-control")
    until("another URL", lambda: shown_url(going) != first, SOON)
    visit(lab, shown_url(going))
    assert going.wait(SOON) == 0


def test_second_up_shows_the_same_url(lab: Lab) -> None:
    """After Ctrl-C the login goes on; whoever asks again gets the URL that is pending."""
    one = lab.hosts["h1"]
    going = begin_up(one)
    url = shown_url(going)
    going.stop()
    again = begin_up(one)
    assert shown_url(again) == url
    visit(lab, url)
    assert again.wait(SOON) == 0


def test_machine_approval(lab: Lab) -> None:
    """The server takes the login but an administrator has to look first."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    two.up(AUTH_KEY)
    lab.admin("set-approval", needed=True)
    going = one.begin_up(AUTH_KEY)
    hint = f"\nTo approve your machine, visit (as admin):\n\n\t{one.login_server}/admin\n\n"
    until("the hint", lambda: hint in going.log.read_text(), SOON)
    assert state(one) == "NeedsMachineAuth"
    assert not one.status()["Peer"]
    assert two.peers() == set()
    streams = node(lab, "h1")["streams"]
    lab.admin("authorize", name="h1")
    assert going.wait(SOON) == 0
    assert going.log.read_text().endswith("Success.\n")
    one.wait_peers({"h2"})
    assert one.ping_os(two.ipv4).lost == 0
    assert node(lab, "h1")["streams"] == streams  # on the stream that was open


def node(lab: Lab, name: str) -> dict[str, object]:
    """What the server knows of a node."""
    return next(n for n in lab.admin("nodes") if n["name"] == name)


def test_force_reauth_in_a_browser(lab: Lab) -> None:
    """A new key for the same node: connected all the time, and no address changes."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for host in (one, two):
        host.up(AUTH_KEY)
    one.wait_peers({"h2"})
    before, key = one.status()["Self"], node(lab, "h1")["key"]
    going = begin_up(one, "--force-reauth", "--accept-routes")
    url = shown_url(going)
    assert state(one) == "Running"
    assert two.ping_os(one.ipv4).lost == 0
    assert node(lab, "h1")["key"] == key
    visit(lab, url)
    assert going.wait(SOON) == 0
    after = one.status()["Self"]
    assert after["PublicKey"] != before["PublicKey"]
    assert after["TailscaleIPs"] == before["TailscaleIPs"]
    assert node(lab, "h1")["key"] == after["PublicKey"]
    until("h2 to reach it again", lambda: two.ping_os(one.ipv4, count=1).lost == 0, SOON)
    one.stop()
    one.start()
    one.wait_running(SOON)
    assert one.status()["Self"]["PublicKey"] == after["PublicKey"]


def test_force_reauth_of_who_is_logged_out_is_a_login(lab: Lab) -> None:
    """There is no key that another one could replace."""
    one = lab.hosts["h1"]
    one.up(AUTH_KEY)
    one.tnet("logout")
    one.up(AUTH_KEY, "--force-reauth")
    one.wait_running()


def test_force_reauth_with_keys(lab: Lab) -> None:
    """A good one replaces the node key; a bad one is refused, and the login in use stays."""
    one = lab.hosts["h1"]
    one.up(AUTH_KEY)
    first = one.status()["Self"]
    one.up(AUTH_KEY, "--force-reauth")
    second = one.status()["Self"]
    assert second["PublicKey"] != first["PublicKey"]
    assert second["TailscaleIPs"] == first["TailscaleIPs"]
    refused = one.tnet(*one.up_arguments("tskey-auth-wrong"), "--force-reauth", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("invalid auth key; ")
    assert state(one) == "Running"
    assert one.status()["Self"]["PublicKey"] == second["PublicKey"]


def test_expired_key_and_login_again(lab: Lab) -> None:
    """Expired while connected: NeedsLogin and silence; a new login brings the same address back."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for host in (one, two):
        host.up(AUTH_KEY)
    one.wait_peers({"h2"})
    before = one.status()["Self"]
    lab.admin("expire", name="h1")
    until("NeedsLogin", lambda: state(one) == "NeedsLogin", SOON)
    assert one.exec("ping", "-c1", "-W1", str(two.ipv4), check=False).returncode != 0
    going = begin(one, "up")
    visit(lab, shown_url(going))
    assert going.wait(SOON) == 0
    after = one.status()["Self"]
    assert after["TailscaleIPs"] == before["TailscaleIPs"]
    assert after["PublicKey"] != before["PublicKey"]
    until("traffic", lambda: one.ping_os(two.ipv4, count=1).lost == 0, SOON)


def test_expired_while_away(lab: Lab) -> None:
    """The daemon was not running when its key ended: at its start it asks for a login."""
    one = lab.hosts["h1"]
    one.up(AUTH_KEY)
    addresses = one.status()["Self"]["TailscaleIPs"]
    one.stop()
    lab.admin("expire", name="h1")
    one.start()
    until("a URL in status", lambda: one.status()["AuthURL"], SOON)
    assert state(one) == "NeedsLogin"
    one.up(AUTH_KEY)
    assert one.status()["Self"]["TailscaleIPs"] == addresses


def test_deleted_by_the_server(lab: Lab) -> None:
    """A node that joined in a browser is deleted: it says that it needs a login, and gets one."""
    one = lab.hosts["h1"]
    going = begin_up(one)
    visit(lab, shown_url(going))
    assert going.wait(SOON) == 0
    lab.admin("delete", name="h1")
    until("NeedsLogin", lambda: state(one) == "NeedsLogin", SOON)
    assert one.status()["AuthURL"]
    going = begin(one, "up")
    visit(lab, shown_url(going))
    assert going.wait(SOON) == 0
    assert state(one) == "Running"


@pytest.mark.parametrize("late", [False, True], ids=["stream ends", "stream stays open"])
def test_deleted_with_an_auth_key(lab: Lab, late: bool) -> None:
    """A key that is good for many machines does not bring a deleted one back; a person does."""
    one = lab.hosts["h1"]
    one.up(AUTH_KEY)
    lab.admin("delete", name="h1", late=late)
    if late:
        one.tnet("set", "--hostname=renamed")  # any update will do
    until("NeedsLogin", lambda: state(one) == "NeedsLogin", SOON)
    one.stop()
    one.start()
    until("a URL in status", lambda: one.status()["AuthURL"], SOON)
    assert (state(one), lab.admin("nodes")) == ("NeedsLogin", [])
    one.up(AUTH_KEY)
    assert [node["name"] for node in lab.admin("nodes")] == ["h1"]


def test_one_shot_key(lab: Lab) -> None:
    """Good for one machine, also when that machine restarts; the next one is told the truth."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    one.up(ONCE_KEY)
    one.stop()
    one.start()
    one.wait_running(SOON)
    refused = two.tnet(*two.up_arguments(ONCE_KEY), check=False)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"authkey already used; check the key, or make a new one on {two.login_server}\n"
    )


def test_tagged_key(lab: Lab) -> None:
    """The tags of the key are the node's."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    one.up(TAGGED_KEY)
    two.up(AUTH_KEY)
    assert one.status()["Self"]["Tags"] == ["tag:lab"]
    two.wait_peers({"h1"})
    peer = two.peer("h1")
    assert peer is not None
    assert peer["Tags"] == ["tag:lab"]


def test_ephemeral_key(lab: Lab) -> None:
    """The node is gone with its logout."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    two.up(AUTH_KEY)
    one.up(EPHEMERAL_KEY)
    two.wait_peers({"h1"})
    one.tnet("logout")
    two.wait_peers(set())
    assert [n["name"] for n in lab.admin("nodes")] == ["h2"]


def test_two_hosts_of_one_name(lab: Lab) -> None:
    """The server gives the second another name, and each can be asked for by its own."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for host in (one, two):
        login = [f"--login-server={host.login_server}", f"--auth-key={AUTH_KEY}"]
        host.tnet("up", *login, "--hostname=twin")
    names = [host.status()["Self"]["DNSName"] for host in (one, two)]
    assert names == ["twin.lab.ts.net.", "twin-1.lab.ts.net."]
    until("h1 to see it", lambda: one.tnet("ip", "-4", "twin-1", check=False).returncode == 0, SOON)
    assert one.tnet("ip", "-4", "twin-1").stdout.strip() == str(two.ipv4)


def test_deleted_while_the_stream_stays_open(lab: Lab) -> None:
    """As at Headscale, which ends a deleted node's stream late: the next update tells."""
    one = lab.hosts["h1"]
    going = begin_up(one)
    visit(lab, shown_url(going))
    assert going.wait(SOON) == 0
    lab.admin("delete", name="h1", late=True)
    one.tnet("set", "--hostname=renamed")  # any update will do
    until("NeedsLogin", lambda: state(one) == "NeedsLogin", SOON)
    assert one.status()["AuthURL"]


@pytest.fixture(scope="module")
def key_api(lab: Lab) -> str:
    """URL of an API that makes auth keys, which h2 serves."""
    two = lab.hosts["h2"]
    command = [sys.executable, "-m", "integration.lab.key_api", two.underlay, KEY_API, TAGGED_KEY]
    api = two.spawn("keys", *map(str, command), env={"PYTHONPATH": str(ROOT)})
    until("the API", lambda: "listening" in api.log.read_text(), SOON)
    return f"http://{two.underlay}:{KEY_API}"


@pytest.mark.parametrize("kind", ["secret", "identity"])
def test_a_key_is_made_for_this_login(lab: Lab, key_api: str, tmp_path: Path, kind: str) -> None:
    """For an OAuth client's secret, and for an identity token in a file: the node has the tag."""
    one = lab.hosts["h1"]
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    credentials = {
        "secret": [f"--auth-key={SECRET}?baseURL={key_api}"],
        "identity": [f"--client-id=c1?baseURL={key_api}", f"--id-token=file:{token}"],
    }[kind]
    server = f"--login-server={one.login_server}"
    one.tnet("up", server, "--hostname=h1", "--advertise-tags=tag:lab", *credentials)
    (node,) = lab.admin("nodes")
    assert (node["name"], node["tags"], state(one)) == ("h1", ["tag:lab"], "Running")
    assert SECRET not in one.log.read_text()


def test_a_secret_that_the_api_refuses(lab: Lab, key_api: str) -> None:
    """Its words, and no login."""
    one = lab.hosts["h1"]
    server = f"--login-server={one.login_server}"
    wrong = f"--auth-key=tskey-client-other?baseURL={key_api}"
    refused = one.tnet("up", server, "--advertise-tags=tag:lab", wrong, check=False)
    assert refused.returncode == 1
    assert refused.stderr == f"{key_api} makes no auth key: unknown credentials (401)\n"
    assert lab.admin("nodes") == []
