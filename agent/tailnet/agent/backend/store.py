"""What the daemon remembers, and its form in the state file.

::

    {"_machinekey":        base64("privkey:…"),
     "_current-profile":   base64("profile-3f2a"),
     "_profiles":          base64({"3f2a": {"ID": "3f2a", "Key": "profile-3f2a", …}}),
     "profile-3f2a":       base64(Prefs JSON, with "Config": {"PrivateNodeKey": "privkey:…", …}),
     "_tailnetd":          base64({"Version": 1, "BackendLogID": "…"})}

All but the last key are as in upstream's file, so that one can be read by the other.  Entries of
other programs and other profiles are carried along untouched.

Source: tailscale ipn/store.go; ipn/store/stores.go, FileStore; types/persist/persist.go.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

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
    backend_log_id: str
    profile_id: str
    other: Mapping[str, bytes] = field(default_factory=dict, repr=False)


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


def encode(stored: Stored) -> bytes:
    """The state file's content.  Full of secrets."""
    key = f"profile-{stored.profile_id}"
    user = stored.user_profile
    persist = _Persist(
        private_node_key=stored.node_key.text() if stored.node_key else "",
        old_private_node_key=stored.old_node_key.text() if stored.old_node_key else "",
        user_profile=user,
        network_lock_key=stored.lock_key.text(),
        node_id=stored.node_id,
    )
    profile = {
        "ID": stored.profile_id,
        "Name": user.login_name if user else "",
        "Key": key,
        "UserProfile": user,
        "NodeID": stored.node_id,
        "ControlURL": stored.prefs.server_url,
    }
    profiles = _object(stored.other.get(PROFILES, b"{}"), "profiles")
    own = _Own(backend_log_id=stored.backend_log_id)
    entries = dict(stored.other)
    entries[MACHINE_KEY] = stored.machine_key.text().encode()
    entries[CURRENT_PROFILE] = key.encode()
    entries[PROFILES] = msgspec.json.encode({**profiles, stored.profile_id: profile})
    entries[key] = msgspec.json.encode({**to_json(stored.prefs), "Config": persist})
    entries[OWN] = msgspec.json.encode(own)
    tree = {name: b64encode(value).decode() for name, value in entries.items()}
    return msgspec.json.format(msgspec.json.encode(tree), indent=2) + b"\n"


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
    profile = _object(entries.pop(key, b"{}"), key)
    persist = _convert(_mapping(profile.pop("Config", None), key), _Persist, key)
    _object(entries.get(PROFILES, b"{}"), PROFILES)
    log_id = own.backend_log_id
    try:
        prefs = from_json(profile) if key else Prefs()
    except UserError as error:
        msg = f"bad {key}: {error}"
        raise BadPacket(msg) from None
    return Stored(
        machine_key=machine_key,
        node_key=_node_key(persist.private_node_key),
        old_node_key=_node_key(persist.old_private_node_key),
        lock_key=LockPrivate.parse(persist.network_lock_key)
        if persist.network_lock_key
        else start.lock_key,
        prefs=prefs,
        user_profile=persist.user_profile,
        node_id=StableNodeID(persist.node_id),
        backend_log_id=log_id if re.fullmatch(r"[0-9a-f]{64}", log_id) else start.backend_log_id,
        profile_id=key.removeprefix("profile-") or start.profile_id,
        other=entries,
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
