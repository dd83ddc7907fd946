"""Who: people, accounts and whose node has an address.

Source: tailscale tailcfg, UserProfile; ipn, LoginProfile; apitype, WhoIsResponse.
"""

from typing import Any

from msgspec import Struct, field


class UserProfile(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The person behind a node."""

    id: int = field(default=0, name="ID")
    login_name: str = ""
    display_name: str = ""
    profile_pic_url: str = field(default="", name="ProfilePicURL")


class NetworkProfile(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Names of an account's tailnet."""

    magic_dns_name: str = field(default="", name="MagicDNSName")
    domain_name: str = ""
    display_name: str = ""


class LoginProfile(Struct, frozen=True, kw_only=True, rename="pascal"):
    """An account; ``name`` is its nickname, or else the login name."""

    id: str = field(default="", name="ID")
    name: str = ""
    network_profile: NetworkProfile = NetworkProfile()
    user_profile: UserProfile = UserProfile()
    control_url: str = field(default="", name="ControlURL")


class WhoNode(Struct, frozen=True, kw_only=True, rename="pascal"):
    """What ``GET whois`` says of a node, as far as people care; ``name`` ends with a dot."""

    stable_id: str = field(default="", name="StableID")
    name: str = ""
    addresses: tuple[str, ...] | None = None
    allowed_ips: tuple[str, ...] | None = field(default=None, name="AllowedIPs")
    tags: tuple[str, ...] | None = None


class WhoIs(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET whois``; ``cap_map`` is what rules grant that node at this one, beyond packets."""

    node: WhoNode = WhoNode()
    user_profile: UserProfile = UserProfile()
    cap_map: dict[str, tuple[Any, ...] | None] | None = None
