"""What the control client is told once."""

from dataclasses import dataclass

from tailnet.agent.keys import DiscoPublic, LockPublic, MachinePrivate, NodePrivate


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
