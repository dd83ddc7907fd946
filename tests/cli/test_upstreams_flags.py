"""Every flag of upstream's commands that are here is taken, or answered with what to do instead."""

import click
import pytest
from click.testing import CliRunner

from tailnet.cli.main import cli

JOINING = """
    auth-key client-id client-secret id-token audience login-server accept-routes accept-dns
    host-routes exit-node exit-node-allow-lan-access shields-up ssh advertise-tags hostname
    advertise-routes advertise-connector advertise-exit-node report-posture posture-checking
    operator snat-subnet-routes stateful-filtering netfilter-mode unattended timeout qr qr-format
    authkey
"""
SETTING = """
    accept-routes accept-dns exit-node exit-node-allow-lan-access shields-up ssh hostname
    advertise-routes advertise-connector advertise-exit-node report-posture operator
    snat-subnet-routes stateful-filtering netfilter-mode unattended nickname update-check
    auto-update webclient remote-config sync relay-server-port relay-server-static-endpoints
    accept-risk
"""
UPSTREAMS = {
    "up": f"{JOINING} json reset force-reauth accept-risk",
    "login": f"{JOINING} nickname",
    "set": SETTING,
    "get": "json set-flags",
    "down": "reason accept-risk",
    "logout": "reason",
    "switch": "list json",
    "wait": "timeout",
    "status": "json web listen browser active self peers header",
    "ip": "1 4 6 assert",
    "whois": "json proto",
    "whoami": "json",
    "version": "daemon json upstream track",
    "licenses": "",
    "bugreport": "diagnose record",
    "metrics": "",
    "netcheck": "format every verbose bind-address bind-port",
    "exit-node list": "filter",
    "exit-node suggest": "force-probe",
    "dns status": "all json",
    "dns query": "json",
    "ping": "verbose until-direct tsmp icmp peerapi c timeout size",
    "web": "listen cgi prefix readonly origin",
    "completion": "flags descs",
    "debug prefs": "pretty",
    "debug watch-ipn": """
        initial count engine-updates initial-drive-shares initial-outgoing-files initial-health
        health-actions initial-suggested-exit-node initial-client-version peer-changes
        initial-status peer-patches peer-wireguard-state netmap rate-limit show-private-key
    """,
    "debug netmap": "show-private-key",
    "configure kubeconfig": "http",
    "configure systray": "enable-startup",
    "debug daemon-logs": "verbose time",
    "debug component-logs": "for",
    "debug metrics": "watch",
    "debug portmap": "duration type gateway-addr self-addr log-http",
    "debug capture": "o",
    "debug dial-types": "network",
    "debug resolve": "net",
    "debug ts2021": "host version verbose ace dial-plan connect-ip force-port",
    "debug test-risk": "accept-risk",
    "debug set-expire": "in",
    "debug localapi": "v",
}
ASKED = [(path, name) for path, names in UPSTREAMS.items() for name in names.split()]


def flags_of(path: str) -> set[str]:
    """Those that a command takes."""
    command: click.Command = cli
    for word in path.split():
        if not isinstance(command, click.Group):  # an argument
            break
        command = command.get_command(click.Context(cli), word) or cli
    assert command is not cli
    return {opt.lstrip("-") for param in command.params for opt in param.opts}


@pytest.mark.parametrize(("path", "name"), ASKED)
def test_each_of_upstreams_flags_is_known(path: str, name: str) -> None:
    """Nothing is just unknown."""
    if name in flags_of(path):
        return
    said = CliRunner().invoke(cli, ["--socket=/nowhere/s", *path.split(), f"--{name}=x"])
    assert "unknown flag" not in said.stderr, said.stderr
    assert "No such option" not in said.stderr, said.stderr
    assert said.exit_code in (1, 2)
