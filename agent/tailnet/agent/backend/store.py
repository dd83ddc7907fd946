"""What the daemon remembers, and its form in the state file.

::

    {"_machinekey":        base64("privkey:…"),
     "_current-profile":   base64("profile-3f2a"),
     "_profiles":          base64({"3f2a": {"ID": "3f2a", "Key": "profile-3f2a", …}}),
     "profile-3f2a":       base64(Prefs JSON, with "Config": {"PrivateNodeKey": "privkey:…", …}),
     "_tailnetd":          base64({"Version": 1, "BackendLogID": "…"})}

All but the last key are as in upstream's file, so that one can be read by the other.  Entries of
other programs are carried along untouched, and so are other profiles until one is chosen
(``profiles.py``).

The first releases knew one account and listed it before it had logged in; they read what this one
writes, other profiles untouched, and the other way round.  So this is all one version.

Source: tailscale ipn/store.go; ipn/store/stores.go, FileStore; types/persist/persist.go.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import UNSET

from tailnet.agent.backend.loginprofile import (
    NOBODY,
    UNNAMED,
    LoginProfile,
    NetworkProfile,
    profile_key,
)
from tailnet.agent.backend.prefs import Prefs, from_json, to_json
from tailnet.agent.crypto.x25519 import lock_private
from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.keys import LockPrivate, MachinePrivate, NodePrivate
from tailnet.agent.tailcfg.node import StableNodeID, UserProfile

VERSION = 1  # of the "_tailnetd" entry; a higher one is refused
MAX_STATE = 16 << 20  # bytes of a state file

NO_NODE = StableNodeID("")

MACHINE_KEY = "_machinekey"
CURRENT_PROFILE = "_current-profile"
PROFILES = "_profiles"
OWN = "_tailnetd"

T = TypeVar("T")
RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Everything that survives a restart.  Keys never print; ``other`` may hold some too.

    Attributes:
        machine_key: identity of this installation.
        node_key: identity of this login; ``None`` before the first registration.
        old_node_key: what ``node_key`` replaced.
        lock_key: this node's tailnet-lock key.
        prefs: the user's wishes.
        user_profile: who is logged in.
        node_id: this node's stable id; empty before login.
        backend_log_id: 64 hex digits, random; sent in Hostinfo.
        network: the tailnet's names, as the server last told them.
        created: when this login was made; ``None`` if nobody knows.
        profile_id: 4 hex digits.
        other: entries of the file that are not ours, decoded.
    """

    machine_key: MachinePrivate
    node_key: NodePrivate | None = None
    old_node_key: NodePrivate | None = None
    lock_key: LockPrivate
    prefs: Prefs = field(default_factory=Prefs)
    user_profile: UserProfile | None = None
    node_id: StableNodeID = NO_NODE
    network: NetworkProfile = UNNAMED
    created: datetime | None = None
    backend_log_id: str
    profile_id: str
    other: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def known(self) -> bool:
        """This profile has a login: the server has named the node."""
        return bool(self.node_id)

    def profile(self) -> LoginProfile:
        """What others are told of the profile in use."""
        user = self.user_profile
        return LoginProfile(
            id=self.profile_id,
            name=self.prefs.profile_name or (user.login_name if user else "") or self.node_id,
            network_profile=self.network,
            key=profile_key(self.profile_id),
            user_profile=user or NOBODY,
            node_id=self.node_id,
            control_url=self.prefs.server_url,
            created=self.created or UNSET,
        )

    def logged_out(self) -> "Stored":
        """The same installation with the profile in use emptied; its prefs are defaults."""
        return replace(
            self,
            node_key=None,
            old_node_key=None,
            prefs=Prefs(),
            user_profile=None,
            node_id=NO_NODE,
            network=UNNAMED,
            created=None,
        )


class _Persist(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    private_node_key: str = ""
    old_private_node_key: str = ""
    user_profile: UserProfile | None = None
    network_lock_key: str = ""
    node_id: str = msgspec.field(default="", name="NodeID")


class _Own(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    version: int = VERSION
    backend_log_id: str = msgspec.field(default="", name="BackendLogID")


def fresh(random_bytes: RandomBytes) -> Stored:
    """The state of a new installation: new keys, default prefs, logged out."""
    return Stored(
        machine_key=MachinePrivate.from_random(random_bytes(32)),
        lock_key=lock_private(random_bytes(32)),
        backend_log_id=random_bytes(32).hex(),
        profile_id=random_bytes(2).hex(),
    )


def listing(stored: Stored) -> dict[str, LoginProfile]:
    """Profiles with a login by id: those at rest, and the one in use if it has one."""
    known = {
        name: profile
        for name, profile in _profiles(stored.other).items()
        if profile.node_id and profile.id == name != stored.profile_id
    }
    return {**known, stored.profile_id: stored.profile()} if stored.known else known


def _profiles(entries: Mapping[str, bytes]) -> dict[str, LoginProfile]:
    """The list in the file.

    Raises:
        BadPacket: it makes no sense.
    """
    try:
        return msgspec.json.decode(entries.get(PROFILES, b"{}"), type=dict[str, LoginProfile])
    except (msgspec.DecodeError, RecursionError, ValueError):
        msg = f"bad {PROFILES}"
        raise BadPacket(msg) from None


def encode_profile(stored: Stored) -> bytes:
    """Prefs and keys of the profile in use.  Full of secrets."""
    persist = _Persist(
        private_node_key=stored.node_key.text() if stored.node_key else "",
        old_private_node_key=stored.old_node_key.text() if stored.old_node_key else "",
        user_profile=stored.user_profile,
        network_lock_key=stored.lock_key.text(),
        node_id=stored.node_id,
    )
    return msgspec.json.encode({**to_json(stored.prefs), "Config": persist})


def encode(stored: Stored) -> bytes:
    """The state file's content.  Full of secrets."""
    key = profile_key(stored.profile_id)
    own = _Own(backend_log_id=stored.backend_log_id)
    entries = dict(stored.other)
    entries[MACHINE_KEY] = stored.machine_key.text().encode()
    entries[CURRENT_PROFILE] = key.encode()
    entries[PROFILES] = msgspec.json.encode(listing(stored))
    entries[key] = encode_profile(stored)
    entries[OWN] = msgspec.json.encode(own)
    tree = {name: b64encode(value).decode() for name, value in entries.items()}
    return msgspec.json.format(msgspec.json.encode(tree), indent=2) + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a profile's entry holds."""

    node_key: NodePrivate | None
    old_node_key: NodePrivate | None
    lock_key: LockPrivate
    prefs: Prefs
    user_profile: UserProfile | None
    node_id: StableNodeID

    def into(self, stored: Stored) -> Stored:
        """Put in use, under the state's ``profile_id``."""
        listed = _profiles(stored.other).get(stored.profile_id, LoginProfile())
        return replace(
            stored,
            node_key=self.node_key,
            old_node_key=self.old_node_key,
            lock_key=self.lock_key,
            prefs=self.prefs,
            user_profile=self.user_profile,
            node_id=self.node_id,
            network=listed.network_profile,
            created=listed.created if isinstance(listed.created, datetime) else None,
        )


def decode_profile_untrusted(data: bytes, profile_id: str, random_bytes: RandomBytes) -> Login:
    """Parse a profile's entry.  A missing lock key is made new.

    Raises:
        BadPacket: damaged; never with its content.
    """
    key = profile_key(profile_id)
    tree = _object(data, key)
    persist = _convert(_mapping(tree.pop("Config", None), key), _Persist, key)
    try:
        prefs = from_json(tree) if tree else Prefs()
    except UserError as error:
        msg = f"bad {key}: {error}"
        raise BadPacket(msg) from None
    lock_text = persist.network_lock_key
    return Login(
        node_key=_node_key(persist.private_node_key),
        old_node_key=_node_key(persist.old_private_node_key),
        lock_key=LockPrivate.parse(lock_text) if lock_text else lock_private(random_bytes(32)),
        prefs=prefs,
        user_profile=persist.user_profile,
        node_id=StableNodeID(persist.node_id),
    )


def decode_untrusted(data: bytes, random_bytes: RandomBytes) -> Stored:
    """Parse a state file.  What an upstream file lacks (lock key, log id) is made new.

    Raises:
        BadPacket: damaged, or written by a newer version; says which entry, never its content.
    """
    if len(data) > MAX_STATE:
        msg = f"it is larger than {MAX_STATE >> 20} MiB"
        raise BadPacket(msg)
    try:
        entries = msgspec.json.decode(data, type=dict[str, bytes])
    except (msgspec.DecodeError, RecursionError, ValueError):
        msg = "it is not a JSON object of base64 values"
        raise BadPacket(msg) from None
    if MACHINE_KEY not in entries:
        msg = f"there is no {MACHINE_KEY}"
        raise BadPacket(msg)
    start = fresh(random_bytes)
    own = _convert(_object(entries.pop(OWN, b"{}"), OWN), _Own, OWN)
    if own.version > VERSION:
        msg = f"it was written by a newer version ({own.version}; this one reads {VERSION})"
        raise BadPacket(msg)
    machine_key = MachinePrivate.parse(_text(entries.pop(MACHINE_KEY), MACHINE_KEY))
    key = _text(entries.pop(CURRENT_PROFILE, b""), CURRENT_PROFILE)
    if key and not re.fullmatch(r"profile-[0-9a-f]{4}", key):
        msg = f"bad {CURRENT_PROFILE}"
        raise BadPacket(msg)
    if key and key not in entries:
        msg = f"there is no {key}"
        raise BadPacket(msg)
    profile_id = key.removeprefix("profile-") or start.profile_id
    login = decode_profile_untrusted(entries.pop(key, b"{}"), profile_id, random_bytes)
    _profiles(entries)
    log_id = own.backend_log_id
    if not re.fullmatch(r"[0-9a-f]{64}", log_id):
        log_id = start.backend_log_id
    return login.into(
        Stored(
            machine_key=machine_key,
            lock_key=login.lock_key,
            backend_log_id=log_id,
            profile_id=profile_id,
            other=entries,
        )
    )


def _node_key(text: str) -> NodePrivate | None:
    key = NodePrivate.parse(text) if text else None
    return key if key is not None and any(key.raw) else None


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        msg = f"bad {what}"
        raise BadPacket(msg) from None


def _object(data: bytes, what: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError, ValueError):
        msg = f"bad {what}"
        raise BadPacket(msg) from None


def _mapping(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict | None):
        msg = f"bad {what}"
        raise BadPacket(msg)
    return {name: item for name, item in (value or {}).items() if item is not None}


def _convert(tree: dict[str, object], kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(tree, type=kind)
    except msgspec.ValidationError:
        msg = f"bad {what}"
        raise BadPacket(msg) from None
