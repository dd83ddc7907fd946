"""Small commands that ask once: ``ip``, ``version``, ``get``."""

import json

import msgspec
from click.testing import CliRunner
from tests.support.tnet import Daemon

from tailnet.agent._version import CAPABILITY_VERSION
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.localapi.schema.basics import VERSION
from tailnet.agent.localapi.schema.status import DatapathStatus, Status
from tailnet.cli.main import cli


def test_ip(daemon: Daemon) -> None:
    """Of self and peers, by any of their names."""
    assert daemon.run("ip").stdout == "127.0.0.1\n"
    for name in ("box", "BOX.x.ts.net", "box.x.ts.net.", "100.64.0.2", "fd7a:115c:a1e0:0::2"):
        assert daemon.run("ip", name).stdout == "100.64.0.2\nfd7a:115c:a1e0::2\n", name
    assert daemon.run("ip", "-6", "box").stdout == "fd7a:115c:a1e0::2\n"
    assert daemon.run("ip", "-1", "box").stdout == "100.64.0.2\n"
    assert daemon.run("ip", "-6").stderr == "no Tailscale IPv6 address\n"
    assert daemon.run("ip", "-4", "-6").exit_code == 2
    assert daemon.run("ip", "--assert=127.0.0.1").exit_code == 0
    assert daemon.run("ip", "--assert=127.0.0.9").exit_code == 1
    assert daemon.run("ip", "nobody").stderr == "no peer found: nobody; see: tnet status\n"
    daemon.backend.about = Status(backend_state="NeedsLogin")
    assert daemon.run("ip").stderr == "no current Tailscale IPs; state: NeedsLogin\n"


def test_version(daemon: Daemon) -> None:
    """Without asking the daemon, unless wanted."""
    assert daemon.run("version").stdout == f"{VERSION}\n"
    assert daemon.run("version", "--daemon").stdout == f"Client: {VERSION}\nDaemon: {VERSION}\n"
    tree = json.loads(daemon.run("version", "--json").stdout)
    assert tree == {
        "majorMinorPatch": VERSION.partition("+")[0],
        "short": VERSION,
        "long": VERSION,
        "cap": CAPABILITY_VERSION,
    }
    assert json.loads(daemon.run("version", "--daemon", "--json").stdout)["daemonLong"] == VERSION
    about = DatapathStatus(name="native", version="1.2", aead="ring")
    daemon.backend.about = msgspec.structs.replace(daemon.backend.about, datapath=about)
    told = daemon.run("version", "--daemon").stdout
    assert told == f"Client: {VERSION}\nDaemon: {VERSION} (native datapath 1.2, ring)\n"
    assert json.loads(daemon.run("version", "--daemon", "--json").stdout)["daemonDatapath"]
    assert CliRunner().invoke(cli, ["--version"]).stdout == f"{VERSION}\n"


def test_get(daemon: Daemon) -> None:
    """A value, a table, JSON, or flags for ``set``."""
    daemon.backend.current = Prefs(hostname="box", advertise_routes=("192.0.2.0/24", "::1/128"))
    assert daemon.run("get", "hostname").stdout == "box\n"
    assert "accept-dns                     true\n" in daemon.run("get").stdout
    assert json.loads(daemon.run("get", "--json").stdout)["accept-routes"] is False
    flags = daemon.run("get", "--set-flags").stdout
    assert "--hostname=box --advertise-routes=192.0.2.0/24,::1/128" in flags
    assert "login-server" not in flags
    assert "did you mean hostname?" in daemon.run("get", "hostnam").stderr
