"""The three kinds of nothing, as Go writes them."""

import json

import pytest

from tailnet.agent.backend.state import State
from tailnet.agent.localapi.schema.basics import decode, encode
from tailnet.agent.localapi.schema.bus import Notify
from tailnet.agent.localapi.schema.status import STATES, PeerStatus, Status


def test_states_are_the_backends() -> None:
    """One list of names."""
    assert [state.label for state in State] == list(STATES)


def test_status_has_gos_shape() -> None:
    """Zero times, nulls, and fields that are left out."""
    tree = json.loads(encode(Status(self_=PeerStatus())))
    assert tree["Peer"] is None
    assert tree["Health"] == []
    assert "HaveNodeKey" not in tree
    me = tree["Self"]
    assert me["LastHandshake"] == "0001-01-01T00:00:00Z"
    assert me["Addrs"] is None
    assert not {"Tags", "KeyExpiry", "Expired", "AllowedIPs"} & me.keys()


def test_notify_has_gos_shape() -> None:
    """Some fields are always there, the others only when they changed."""
    assert json.loads(encode(Notify(version="1"))) == {
        "Version": "1",
        "ErrMessage": None,
        "LoginFinished": None,
        "State": None,
        "Prefs": None,
        "NetMap": None,
        "Engine": None,
        "BrowseToURL": None,
        "DriveShares": None,
    }


def test_what_is_encoded_is_decoded() -> None:
    """By the same types; unknown fields are ignored."""
    status = Status(peer={"nodekey:00": PeerStatus(id="n", expired=True)}, health=("a",))
    assert decode(encode(status), Status) == status
    assert decode(b'{"Newer": 1}', Status) == Status()
    with pytest.raises(ValueError, match="makes no sense"):
        decode(b'{"Peer": 5}', Status)
