"""Accounts: which there are, and which one a person means."""

from collections.abc import Callable

from tailnet.agent.localapi.schema.identity import LoginProfile
from tailnet.cli.client import LocalClient
from tailnet.cli.errors import Failure
from tailnet.cli.text import clean


def list_profiles(client: LocalClient) -> tuple[LoginProfile, ...]:
    """All of them, newest first."""
    return client.get("profiles/", tuple[LoginProfile, ...])


def tailnet(profile: LoginProfile) -> str:
    """The name of its tailnet, for people."""
    names = profile.network_profile
    return clean(names.display_name or names.domain_name)


WAYS: tuple[Callable[[LoginProfile], str], ...] = (
    lambda profile: profile.id,
    lambda profile: profile.network_profile.domain_name,
    lambda profile: profile.name,
    lambda profile: profile.user_profile.login_name,
    lambda profile: profile.network_profile.display_name,
)
"""What names an account; the first that fits anything counts.

Source: tailscale cmd/tailscale/cli/switch.go, matchProfile; the login name of an account with a
nickname is ours.
"""


def choose(profiles: tuple[LoginProfile, ...], wanted: str) -> LoginProfile:
    """The account that ``wanted`` names.

    Raises:
        Failure: there is none, or more than one.
    """
    for way in WAYS:
        found = [profile for profile in profiles if way(profile) == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            ids = " or ".join(profile.id for profile in found)
            msg = f"{wanted!r} names more than one account; say {ids}"
            raise Failure(msg)
    msg = f"no account is called {wanted!r}; see: tnet switch --list"
    raise Failure(msg)
