"""Whole commands of ``tnet`` against a real LocalAPI with nothing behind it."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result
from tests.support.fake_backend import FakeBackend

from tailnet.agent.localapi.schema.bus import Notify
from tailnet.agent.localapi.schema.status import STATES, PeerStatus, Status
from tailnet.cli.main import cli

ME = PeerStatus(
    host_name="me", dns_name="me.x.ts.net.", public_key="nodekey:1", tailscale_ips=("127.0.0.1",)
)
BOX = PeerStatus(
    host_name="box",
    dns_name="box.x.ts.net.",
    public_key="nodekey:2",
    tailscale_ips=("100.64.0.2", "fd7a:115c:a1e0::2"),
    online=True,
)
RUNNING = Status(
    backend_state="Running",
    have_node_key=True,
    tailscale_ips=("127.0.0.1",),
    self_=ME,
    magic_dns_suffix="x.ts.net",
    peer={"nodekey:2": BOX},
)


@dataclass
class Daemon:
    """A fake one, and a shell to talk to it."""

    backend: FakeBackend
    path: Path
    uid: int = 0

    def run(self, *args: str, answer: str = "", **env: str) -> Result:
        """Run ``tnet``, with something to read."""
        return CliRunner(env={"TS_AUTHKEY": "", "USER": "", **env}).invoke(
            cli, ["--socket", str(self.path), *args], input=answer
        )

    def state(self, name: str, **changes: object) -> None:
        """Enter a state and tell the bus; only from ``on_start`` and such."""
        self.backend.about = msgspec.structs.replace(
            self.backend.about, backend_state=name, **changes
        )
        self.backend.bus.publish(Notify(state=STATES.index(name)))


def edits(daemon: Daemon) -> list[object]:
    """What was changed."""
    return [call[1:] for call in daemon.backend.calls if call[0] in ("edit", "start")]
