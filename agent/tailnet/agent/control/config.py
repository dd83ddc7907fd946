"""What the control client is told once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tailnet.agent.keys import DiscoPublic, LockPublic, MachinePrivate, NodePrivate
from tailnet.agent.tailcfg.derpmap import DERPMap


@dataclass(frozen=True)
class ControlConfig:
    """One login: which server, and who we are to it."""

    server_url: str
    machine_key: MachinePrivate
    node_key: NodePrivate | None
    """``None``: generate one."""
    old_node_key: NodePrivate | None
    lock_key: LockPublic
    disco_key: DiscoPublic
    auth_key: str = ""
    ephemeral: bool = False
    ca_file: str | None = None
    """PEM file of extra roots for ``GET /key``."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Where proxies are named; empty: none."""
    derp_map: DERPMap | None = None
    """Relays known so far, which can resolve the server's name when DNS fails."""
