"""Several accounts in one state: which there are, and what choosing another one changes.

One profile is in use; its keys and prefs are the fields of :class:`Stored`.  The others rest in the
state file's entries, as bytes, and are looked into only when one is chosen: damage to one of them
harms no other.  All functions return a new state, to be written as a whole.

A profile without a login is a blank one.  There is at most one, the one in use; it is in no list,
and choosing another profile drops it.

Source: tailscale ipn/ipnlocal/profiles.go.
"""

from dataclasses import replace
from datetime import datetime

import msgspec

from tailnet.agent.backend.loginprofile import LoginProfile, profile_key
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.store import (
    PROFILES,
    RandomBytes,
    Stored,
    decode_profile_untrusted,
    encode_profile,
    listing,
)
from tailnet.agent.crypto.x25519 import lock_private
from tailnet.agent.errors import BadPacket, UserError

MAX_PROFILES = 64
IDS = 1 << 16


def current(stored: Stored) -> LoginProfile:
    """The profile in use; a blank one has neither id nor name."""
    return stored.profile() if stored.known else LoginProfile()


def listed(stored: Stored) -> tuple[LoginProfile, ...]:
    """Every profile with a login, newest first; those of unknown age last."""
    known = listing(stored)
    return tuple(sorted(known.values(), key=_age))


def _age(profile: LoginProfile) -> tuple[bool, float, str]:
    made = profile.created
    dated = isinstance(made, datetime) and made.tzinfo is not None and made.year > 1
    return not dated, -made.timestamp() if dated and isinstance(made, datetime) else 0.0, profile.id


def find(stored: Stored, profile_id: str) -> LoginProfile:
    """The profile of that id.

    Raises:
        UserError: there is none.
    """
    profile = listing(stored).get(profile_id)
    if profile is None:
        msg = f"there is no profile {profile_id[:64]!r}"
        raise UserError(msg)
    return profile


def blank(stored: Stored, random_bytes: RandomBytes) -> Stored:
    """A new profile in use, without a login; its prefs are defaults but for the operator.

    Who may log in on this machine is not a matter of the account: an operator stays one.

    Raises:
        UserError: there are too many.
    """
    rest = _put_away(stored)
    if len(listing(rest)) >= MAX_PROFILES:
        msg = f"too many profiles (max {MAX_PROFILES}); remove one with: tnet switch remove ID"
        raise UserError(msg)
    return replace(
        rest,
        profile_id=_new_id(rest, random_bytes),
        lock_key=lock_private(random_bytes(32)),
        prefs=Prefs(operator_user=stored.prefs.operator_user),
    )


def switched(stored: Stored, profile_id: str, random_bytes: RandomBytes) -> Stored:
    """Another profile in use.

    Raises:
        UserError: there is none of that id, or it is damaged.
    """
    find(stored, profile_id)
    if profile_id == stored.profile_id:
        return stored
    rest = _put_away(stored)
    key = profile_key(profile_id)
    entries = dict(rest.other)
    try:
        data = entries.pop(key, b"")
        chosen = decode_profile_untrusted(data, profile_id, random_bytes)
    except BadPacket as error:
        msg = (
            f"profile {profile_id} is damaged ({error}); nothing changed. "
            f"Remove it with: tnet switch remove {profile_id}"
        )
        raise UserError(msg) from None
    return chosen.into(replace(rest, profile_id=profile_id, other=entries))


def removed(stored: Stored, profile_id: str, random_bytes: RandomBytes) -> Stored:
    """Without that profile and its keys; if it was in use, a blank one is.

    Raises:
        UserError: there is none of that id.
    """
    find(stored, profile_id)
    if profile_id == stored.profile_id:
        return dropped(stored, random_bytes)
    return _without(stored, profile_id)


def dropped(stored: Stored, random_bytes: RandomBytes) -> Stored:
    """Without the profile in use, whether it has a login or not; a blank one takes its place."""
    rest = _without(stored.logged_out(), stored.profile_id)
    return blank(replace(rest, prefs=stored.prefs), random_bytes)


def absorbed(stored: Stored) -> Stored:
    """Without other profiles of the same account: same server, and same user or same node."""
    mine = stored.profile()
    if not stored.known:
        return stored
    for other in listing(stored).values():
        same = mine.user == other.user or mine.node_id == other.node_id
        if other.id != mine.id and other.control_url == mine.control_url and same:
            stored = _without(stored, other.id)
    return stored


def check_nickname(stored: Stored, name: str) -> None:
    """Nicknames are for telling profiles apart.

    Raises:
        UserError: another profile has it.
    """
    for profile in listing(stored).values():
        if name and profile.name == name and profile.id != stored.profile_id:
            msg = f"profile name {name!r} is already in use, by profile {profile.id}"
            raise UserError(msg)


def _put_away(stored: Stored) -> Stored:
    """The profile in use among the others, or gone if it is blank; none is in use."""
    entries = dict(stored.other)
    if stored.known:
        entries[profile_key(stored.profile_id)] = encode_profile(stored)
        entries[PROFILES] = msgspec.json.encode(listing(stored))
    return replace(stored.logged_out(), profile_id="", other=entries)


def _without(stored: Stored, profile_id: str) -> Stored:
    entries = dict(stored.other)
    entries.pop(profile_key(profile_id), None)
    known = {name: p for name, p in listing(stored).items() if name != profile_id}
    entries[PROFILES] = msgspec.json.encode(known)
    return replace(stored, other=entries)


def _new_id(stored: Stored, random_bytes: RandomBytes) -> str:
    """Four hex digits that no entry of the file has."""
    first = int.from_bytes(random_bytes(2), "big")
    taken = {*stored.other, *map(profile_key, listing(stored))}
    numbers = ((first + step) % IDS for step in range(IDS))
    return next(name for n in numbers if profile_key(name := f"{n:04x}") not in taken)
