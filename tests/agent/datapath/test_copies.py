"""Handshake messages that came already."""

from tailnet.agent.datapath.copies import REMEMBERED, Copies


def test_a_copy_is_told_after_the_messages_of_two_hundred_other_peers() -> None:
    """A relay is slower than the direct way, and all peers may begin anew at once."""
    copies = Copies()
    copies.note(b"first")
    for n in range(200):
        copies.note(n.to_bytes(148, "big"))
    assert b"first" in copies
    assert b"never came" not in copies


def test_only_so_many_are_remembered_and_the_latest_of_them() -> None:
    """Peers may send as many as they like."""
    copies = Copies()
    for n in range(3 * REMEMBERED):
        copies.note(n.to_bytes(148, "big"))
    kept = [n for n in range(3 * REMEMBERED) if n.to_bytes(148, "big") in copies]
    assert kept == [*range(2 * REMEMBERED, 3 * REMEMBERED)]
