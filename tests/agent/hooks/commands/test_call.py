"""Lines between the daemon and the unit that runs its hooks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import BadPacket
from tailnet.agent.hooks.commands.call import Call, Done, decode_untrusted, encode

TEXTS = st.text(max_size=20)
CALLS = st.builds(
    Call, st.lists(TEXTS, min_size=1).map(tuple), st.dictionaries(TEXTS, TEXTS), TEXTS
)


@given(CALLS)
def test_a_call_arrives_as_it_was(call: Call) -> None:
    """In one line, whatever is in it."""
    line = encode(call)
    assert line.count(b"\n") == 1
    assert decode_untrusted(line, Call) == call


@given(TEXTS, st.integers(-64, 255), TEXTS)
def test_an_answer_arrives_as_it_was(output: str, status: int, refused: str) -> None:
    """The same."""
    done = Done(output, status, refused)
    assert decode_untrusted(encode(done), Done) == done


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"command": [], "environment": {}, "details": ""}',
        b"[" * 9999,
        b"x" * (1 << 21),
    ],
)
def test_what_is_no_call_is_refused(line: bytes) -> None:
    """Nothing is run then."""
    with pytest.raises(BadPacket):
        decode_untrusted(line, Call)
