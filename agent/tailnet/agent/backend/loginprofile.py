"""What is shown of an account: in the state file's list, and on the LocalAPI.  No secrets.

Source: tailscale ipn/prefs.go, LoginProfile and NetworkProfile.
"""

from datetime import datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tailnet.agent.tailcfg.node import UserID, UserProfile

NOBODY = UserProfile(id=UserID(0))


class NetworkProfile(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Names of a tailnet; ``domain_name`` is its id, ``display_name`` for people."""

    magic_dns_name: str = msgspec.field(default="", name="MagicDNSName")
    domain_name: str = ""
    display_name: str = ""


UNNAMED = NetworkProfile()


class LoginProfile(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One account; ``created`` is left out where nobody knows."""

    id: str = msgspec.field(default="", name="ID")
    name: str = ""
    network_profile: NetworkProfile = UNNAMED
    key: str = ""
    user_profile: UserProfile | None = NOBODY
    node_id: str = msgspec.field(default="", name="NodeID")
    local_user_id: str = msgspec.field(default="", name="LocalUserID")
    control_url: str = msgspec.field(default="", name="ControlURL")
    created: datetime | UnsetType = UNSET

    @property
    def user(self) -> UserID:
        """The owner's number; 0 if unknown."""
        return self.user_profile.id if self.user_profile is not None else UserID(0)


def profile_key(profile_id: str) -> str:
    """The entry with a profile's prefs and keys."""
    return f"profile-{profile_id}"
