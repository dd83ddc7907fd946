"""A daemon that is ruled by a file: no command is needed, and none is obeyed."""

import json
import os
import signal

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]


def test_a_file_brings_a_host_up_and_rules_it(make_lab: MakeLab) -> None:
    """Started, changed with SIGHUP and by command, wrong for a while; without ``tnet up``."""
    lab = make_lab(flat("h1", "h2"))
    lab.join("h2")
    host, other = lab.hosts["h1"], lab.hosts["h2"]
    path = host.directory / "config.hujson"
    key = host.directory / "key"
    key.write_text(AUTH_KEY)

    def write(**fields: object) -> None:
        whole = {"Version": "alpha0", "ServerURL": host.login_server, **fields}
        path.write_text(f"// ours\n{json.dumps(whole)[:-1]},}}\n")

    def reload() -> None:
        os.kill(host.running.pid, signal.SIGHUP)

    write(Hostname="from-file", AuthKey=f"file:{key}")
    host.start(f"--config={path}")
    host.wait_running(20)
    until("a ping", lambda: host.ping_os(other.ipv4, count=1, wait=1).lost == 0, 20)
    until("the name at the server", lambda: "from-file" in lab.online(), 10)

    refused = host.tnet("set", "--hostname=mine", check=False)
    assert refused.returncode == 1
    assert "configuration file rules" in refused.stderr

    write(Hostname="from-file", Nonsense=True)
    reload()
    until("a warning", lambda: "Nonsense" in str(host.status()["Health"]), 10)
    assert host.ping_os(other.ipv4, count=1).lost == 0

    write(Hostname="other-name")
    reload()
    until("the new name at the server", lambda: "other-name" in lab.online(), 10)
    assert "Nonsense" not in str(host.status()["Health"])

    write(Hostname="third-name", Nonsense=True)
    refused = host.tnet("debug", "reload-config", check=False)
    assert refused.returncode == 1
    assert "Nonsense" in refused.stderr
    write(Hostname="third-name")
    host.tnet("debug", "reload-config")
    until("that name at the server", lambda: "third-name" in lab.online(), 10)


def test_a_host_without_state_leaves_the_tailnet_when_it_ends(make_lab: MakeLab) -> None:
    """Nothing on disk, and the server forgets it at once."""
    lab = make_lab(flat("h1"))
    host = lab.hosts["h1"]
    host.start("--state=mem:")
    host.up(AUTH_KEY)
    assert lab.online() == {"h1"}
    assert host.stop() == 0
    assert lab.admin("nodes") == []
    assert not host.statedir.exists() or list(host.statedir.iterdir()) == []
