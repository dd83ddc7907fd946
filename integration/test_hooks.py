"""Commands of the configuration file are run when something happens to a real daemon."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

OCCASIONS = ("on-running", "on-stopped", "on-peer-up", "on-peer-down", "on-path-change")


def told(log: Path) -> list[dict[str, str]]:
    """What the hooks wrote, in order."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def heard(log: Path, event: str, **about: str) -> bool:
    """Something happened, with these details among others."""
    return any(one["event"] == event and about.items() <= one.items() for one in told(log))


def write_config(host: Host, log: Path, *, mode: int = 0o600) -> Path:
    """Hooks that write what they are told; they run as root, since the folder is ours alone."""
    command = ["/bin/sh", "-c", f"(cat; echo) >> {log}"]
    path = host.directory / "config.hujson"
    hooks = {name: [{"Command": command, "User": "root"}] for name in OCCASIONS}
    config = {"Version": "alpha0", "Locked": False, "ServerURL": host.login_server, "Hooks": hooks}
    key = host.directory / "key"
    key.write_text(AUTH_KEY)
    path.write_text(json.dumps({**config, "AuthKey": f"file:{key}"}))
    path.chmod(mode)
    return path


def test_what_happens_to_a_node_is_told(make_lab: MakeLab) -> None:
    """It runs, peers go and come, their path changes, it stops; peers of the start are no news."""
    lab = make_lab(flat("h1", "h2"))
    host, other = lab.hosts["h1"], lab.hosts["h2"]
    lab.join("h2")
    address = other.ipv4
    log = host.directory / "told"
    host.start(f"--config={write_config(host, log)}")
    host.wait_running(20)
    until("running", lambda: heard(log, "on-running", address=str(host.ipv4)), 20.0)
    assert not heard(log, "on-peer-up")

    until("a ping", lambda: host.ping_os(address, count=1, wait=1).lost == 0, 20.0)
    other.stop()
    until("h2 gone", lambda: heard(log, "on-peer-down", address=str(address)), 20.0)
    other.start()
    until("h2 back", lambda: heard(log, "on-peer-up", address=str(address)), 20.0)

    lab.network.allow_udp(allowed=False)
    until(
        "the relay",
        lambda: (
            host.ping_os(address, count=1, wait=1).lost == 0
            and heard(log, "on-path-change", path="relay")
        ),
        40.0,
    )
    host.tnet("down")
    until("stopped", lambda: heard(log, "on-stopped"), 10.0)
    host.tnet("up")
    until("running again", lambda: [o["event"] for o in told(log)][-1] == "on-running", 20.0)
    assert host.stop() == 0
    assert told(log)[-1]["event"] == "on-stopped"


def test_hooks_of_a_file_that_others_can_write_are_refused(make_lab: MakeLab) -> None:
    """At a reload as a warning; everything stays as it was."""
    lab = make_lab(flat("h1"))
    host = lab.hosts["h1"]
    log = host.directory / "told"
    path = write_config(host, log)
    host.start(f"--config={path}")
    host.wait_running(20)
    until("running", lambda: heard(log, "on-running"), 20.0)
    path.write_text(path.read_text().replace("on-stopped", "on-exit-lost"))
    path.chmod(0o666)
    os.kill(host.running.pid, signal.SIGHUP)
    until("a warning", lambda: "others can write it" in str(host.status()["Health"]), 10.0)
    host.tnet("down")
    until("the hook of before", lambda: heard(log, "on-stopped"), 10.0)


BELL = """
import http.server, sys
class Bell(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[1], "ab") as log:
            log.write(body + b"\\n")
        self.send_response(204)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9000), Bell).serve_forever()
"""


def test_webhooks_tell_of_a_lost_exit_node_and_a_key_that_ends(make_lab: MakeLab) -> None:
    """Each once, with what one needs to know."""
    lab = make_lab(flat("h1", "h2"))
    host, other = lab.hosts["h1"], lab.hosts["h2"]
    log = host.directory / "told"
    host.spawn("bell", sys.executable, "-c", BELL, log)
    hook = [{"URL": "http://127.0.0.1:9000/ring"}]
    hooks = {"on-exit-lost": hook, "on-key-expiring": hook}
    config = {"Version": "alpha0", "Locked": False, "ServerURL": host.login_server, "Hooks": hooks}
    path = host.directory / "config.hujson"
    path.write_text(json.dumps(config))
    host.start(f"--config={path}")
    host.up(AUTH_KEY)
    other.start()
    other.up(AUTH_KEY, "--advertise-exit-node")
    until("the offer", lambda: host.tnet("exit-node", "list", check=False).returncode == 0, 10.0)
    host.tnet("set", "--exit-node=h2")
    other.tnet("down")
    until("the loss", lambda: heard(log, "on-exit-lost"), 30.0)
    soon = int(time.time()) + 1800
    assert host.ask("POST", f"set-expiry-sooner?expiry={soon}")[0] == 200
    until("the end of the key", lambda: heard(log, "on-key-expiring"), 20.0)
    lost, ending = told(log)
    assert lost["exit_node"].startswith("h2")
    assert 1500 < float(ending["seconds"]) <= 1800
