"""Registration: ``POST /machine/register``.

Source: tailscale tailcfg/tailcfg.go, RegisterRequest and RegisterResponse.
"""

from datetime import datetime

from msgspec import field

from tailnet.agent.keys import LockPublic, MachinePublic, NodePublic
from tailnet.agent.tailcfg.codec import ZERO_TIME, Struct
from tailnet.agent.tailcfg.node import ZERO_MACHINE, ZERO_NODE, Hostinfo, UserID


class ServerKeys(Struct, frozen=True, rename="camel"):
    """Answer of ``GET /key``."""

    legacy_public_key: MachinePublic = ZERO_MACHINE
    public_key: MachinePublic = ZERO_MACHINE


class RegisterAuth(Struct, frozen=True):
    """Credentials."""

    auth_key: str = ""


ZERO_LOCK = LockPublic(bytes(32))


class RegisterRequest(Struct, frozen=True, omit_defaults=False, kw_only=True):
    """Every field without a default of ``None`` is always on the wire, as from Go."""

    version: int
    node_key: NodePublic
    old_node_key: NodePublic = ZERO_NODE
    nl_key: LockPublic = field(default=ZERO_LOCK, name="NLKey")
    auth: RegisterAuth | None = None
    expiry: datetime = ZERO_TIME
    followup: str = ""
    hostinfo: Hostinfo
    ephemeral: bool = False
    node_key_signature: str | None = None
    tailnet: str = ""


class User(Struct, frozen=True):
    """Owner of a node."""

    id: UserID = field(default=UserID(0), name="ID")
    display_name: str = ""


class Login(Struct, frozen=True):
    """The login that was used."""

    id: int = field(default=0, name="ID")
    provider: str = ""
    login_name: str = ""
    display_name: str = ""


class RegisterResponse(Struct, frozen=True):
    """Read in the order: ``error``, signature, ``node_key_expired``, ``auth_url``."""

    user: User = User()
    login: Login = Login()
    node_key_expired: bool = False
    machine_authorized: bool = False
    auth_url: str = field(default="", name="AuthURL")
    node_key_signature: str | None = None
    error: str = ""
