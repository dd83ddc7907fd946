"""A network that lets nothing out but through an HTTP proxy with a password.

::

    h1 ──┐ only TCP to the proxy          ┌── h2: no restriction
         └── bridge: proxy ── control, DERP ──┘
"""

import sys
from collections.abc import Iterator

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.lab import Lab
from integration.lab.process import Process, run
from integration.lab.topology import INTERNET, flat
from integration.lab.translator import UPLINK
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]

PORT = 3128
LOGIN = "user:pa%20ss"
RULES = f"""
table inet only {{
    chain out {{
        type filter hook output priority 0
        ip daddr {INTERNET.ipv4.ip} tcp dport {PORT} accept
        oif {UPLINK} drop
    }}
}}
"""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two hosts; the first may talk to the proxy only."""
    lab = make_lab(flat("h1", "h2"))
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    run(["nft", "-f", "-"], namespace=one.namespace, feed=RULES)
    two.start()
    two.up(AUTH_KEY)
    return lab


@pytest.fixture(scope="module")
def proxy(lab: Lab) -> Iterator[Process]:
    """Runs where the servers are."""
    log = lab.directory / "proxy.log"
    address = str(INTERNET.ipv4.ip)
    command = [
        sys.executable,
        "-m",
        "integration.lab.webproxy",
        address,
        str(PORT),
        LOGIN.replace("%20", " "),
    ]
    process = Process("the proxy", command, log, namespace=lab.network.internet)
    until("the proxy", lambda: "listening" in log.read_text(), 10)
    yield process
    process.kill()


def test_without_the_password_the_proxy_is_named(lab: Lab, proxy: Process) -> None:
    """407: ``tnet up`` says what is missing, and ``status`` as well."""
    one = lab.hosts["h1"]
    url = f"http://{INTERNET.ipv4.ip}:{PORT}"
    one.variables = {"HTTP_PROXY": url, "HTTPS_PROXY": url}
    one.start()
    refused = one.tnet(*one.up_arguments(AUTH_KEY), "--timeout=4s", check=False)
    assert refused.returncode == 1
    assert f"the proxy {url} wants a user name and a password" in refused.stderr
    one.stop()
    assert "407 GET" in proxy.log.read_text()


def test_control_and_relays_are_reached_through_the_proxy(lab: Lab, proxy: Process) -> None:
    """With the password: logged in, and a ping crosses the relay; nothing goes another way."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    url = f"http://{LOGIN}@{INTERNET.ipv4.ip}:{PORT}"
    one.variables = {"HTTP_PROXY": url, "HTTPS_PROXY": url}
    one.start()
    one.up(AUTH_KEY)
    one.wait_peers({"h2"})
    assert one.ping_os(two.ipv4).lost == 0
    assert two.ping_os(one.ipv4).lost == 0
    peer = one.peer("h2")
    assert peer is not None
    assert peer["Relay"] == "lab900"
    assert not one.path_to("h2")
    said = proxy.log.read_text()
    assert "200 GET http://" in said
    assert said.count("200 CONNECT") >= 2  # the Noise connection and the relay
    assert "pa ss" not in one.log.read_text()
    assert "pa%20ss" not in one.log.read_text()
