"""The network map for a server that debugs a node."""

import json

import pytest
from tests.agent.backend.test_keptmap import NOW
from tests.agent.backend.test_plan import netmap, node

from tailnet.agent.backend.netmapview import answer_untrusted, netmap_json
from tailnet.agent.errors import BadPacket


def test_the_map_is_json_with_the_names_of_upstream() -> None:
    """In order; what is not wanted is left out."""
    shown = json.loads(netmap_json(netmap(node(40), node(3))))
    assert [peer["ID"] for peer in shown["Peers"]] == [3, 40]
    assert shown["NodeKey"] == shown["SelfNode"]["Key"]
    less = json.loads(netmap_json(netmap(node(3)), ("Peers", "DERPMap", "Nothing")))
    assert less.keys() == shown.keys() - {"Peers", "DERPMap"}


def test_a_candidate_is_folded_beside_the_map_in_use() -> None:
    """Which it does not change."""
    current = netmap(node(3))
    candidate = b'{"Node":{"ID":1},"Peers":[{"ID":9}],"Domain":"lab"}'
    said = json.loads(answer_untrusted(current, (), candidate, NOW))
    assert [peer["ID"] for peer in said["Candidate"]["Peers"]] == [9]
    assert [peer["ID"] for peer in said["Current"]["Peers"]] == [3]
    assert list(json.loads(answer_untrusted(None, (), None, NOW))) == []


@pytest.mark.parametrize("candidate", [b"", b"[]", b"{}", b'{"Peers":[{"ID":9}]}'])
def test_what_is_no_first_message_is_refused(candidate: bytes) -> None:
    """With the one error."""
    with pytest.raises(BadPacket):
        answer_untrusted(None, (), candidate, NOW)
