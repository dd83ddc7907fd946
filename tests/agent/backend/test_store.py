"""The form of the state file."""

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.store import Stored, decode_untrusted, encode, fresh
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate
from tailnet.agent.tailcfg.node import StableNodeID, UserID, UserProfile

_seed = count(1)


def random_bytes(size: int) -> bytes:
    """Different bytes every time."""
    return next(_seed).to_bytes(4, "big") * (size // 4) or b"\x01" * size


def full() -> Stored:
    """A logged-in node."""
    return replace(
        fresh(random_bytes),
        node_key=NodePrivate.from_random(bytes(range(32))),
        old_node_key=NodePrivate.from_random(bytes(range(1, 33))),
        prefs=Prefs(want_running=True, logged_out=False, advertise_routes=("192.0.2.0/24",)),
        user_profile=UserProfile(id=UserID(7), login_name="alice@example.com"),
        node_id=StableNodeID("nABC"),
        other={"_serve/3f2a": b"{}", "profile-ffff": b'{"Hostname":"other"}'},
    )


def test_decode_inverts_encode() -> None:
    """Everything survives, foreign entries included."""
    stored = full()
    again = decode_untrusted(encode(stored), random_bytes)
    assert {k: v for k, v in again.other.items() if k != "_profiles"} == stored.other
    assert replace(again, other={}) == replace(stored, other={})
    assert decode_untrusted(encode(again), random_bytes) == again


def test_a_fresh_state_survives_too() -> None:
    """Before any login there is no node key."""
    stored = fresh(random_bytes)
    again = decode_untrusted(encode(stored), random_bytes)
    assert replace(again, other={}) == stored
    assert again.node_key is None


def test_names_are_upstreams() -> None:
    """The file is a JSON object of base64 values under upstream's keys."""
    stored = full()
    tree = {k: b64decode(v) for k, v in json.loads(encode(stored)).items()}
    key = tree["_current-profile"].decode()
    assert key == f"profile-{stored.profile_id}"
    assert tree["_machinekey"].startswith(b"privkey:")
    prefs = json.loads(tree[key])
    assert prefs["WantRunning"] is True
    assert prefs["Config"]["NodeID"] == "nABC"
    assert prefs["Config"]["NetworkLockKey"].startswith("nlpriv:")
    profile = json.loads(tree["_profiles"])[stored.profile_id]
    assert profile["UserProfile"]["LoginName"] == profile["Name"] == "alice@example.com"


def test_an_upstream_file_without_login_is_read() -> None:
    """Only the machine key is required; the rest is made new."""
    machine = full().machine_key
    data = json.dumps({"_machinekey": b64encode(machine.text().encode()).decode()}).encode()
    stored = decode_untrusted(data, random_bytes)
    assert stored.machine_key == machine
    assert stored.prefs == Prefs()
    assert len(stored.backend_log_id) == 64


def test_secrets_do_not_print() -> None:
    """Neither our keys nor the content of other profiles."""
    stored = full()
    assert stored.node_key is not None
    assert stored.node_key.raw.hex() not in repr(stored)
    assert "other" not in repr(stored)


def damaged(**entries: bytes) -> bytes:
    """A good file with some entries replaced."""
    tree = json.loads(encode(replace(full(), profile_id="3f2a")))
    tree |= {name.replace("__", "-"): b64encode(value).decode() for name, value in entries.items()}
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b'{"_machinekey": "?"}',
        encode(full())[:-40],
        damaged(_machinekey=b"privkey:00"),
        damaged(_tailnetd=b'{"Version": 2}'),
        damaged(_current__profile=b"profile-0000"),
        damaged(_current__profile=b"../../etc"),
        damaged(profile__3f2a=b"{"),
        damaged(profile__3f2a=b'{"Hostname": 5}'),
        damaged(profile__3f2a=b'{"Config": []}'),
        damaged(profile__3f2a=b'{"Config": {"PrivateNodeKey": "x"}}'),
        damaged(_profiles=b"[]"),
    ],
)
def test_damage_is_noticed(data: bytes) -> None:
    """No guess is made about a file that does not parse."""
    with pytest.raises(BadPacket):
        decode_untrusted(data, random_bytes)


@given(st.binary(), st.integers(0, 2000), st.integers(0, 2000))
def test_only_bad_packet_escapes(noise: bytes, start: int, size: int) -> None:
    """Noise in place of any part of a file."""
    good = encode(full())
    for data in (noise, good[:start] + noise + good[start + size :]):
        try:
            decode_untrusted(data, random_bytes)
        except BadPacket:
            continue
