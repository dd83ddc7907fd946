"""What the command line and the environment of the daemon say about one node."""

from dataclasses import dataclass, field

from tailnet.agent.backend.files.aio import ConfigFile
from tailnet.agent.backend.tunnel.interface import TunnelSettings


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Flags and environment of the daemon that concern one node.

    ``auth_key`` (from ``TS_AUTHKEY``) logs in a node that has no login yet.  ``keep_map``: the last
    network map stays on disk, and is used until the control server answers.  ``config``: the file
    that rules the prefs, if there is one.  ``report_services``: a server that wants to know who
    listens on this machine is told.
    """

    tunnel: TunnelSettings = field(default_factory=TunnelSettings)
    auth_key: str = ""
    ca_file: str | None = None
    keep_map: bool = True
    config: ConfigFile | None = None
    report_services: bool = True
