"""What is known by heart is bounded, and gone when told so."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.dns.local import Outcome
from tailnet.agent.dns.memo import MAX_MEMO, MAX_QUERY, Memo

QUERIES = st.binary(min_size=2, max_size=MAX_QUERY)
IDS = st.binary(min_size=2, max_size=2)


@given(QUERIES, st.binary(min_size=2), IDS)
def test_only_the_id_may_differ(query: bytes, answer: bytes, ident: bytes) -> None:
    """It goes back as it came."""
    memo = Memo()
    memo.learn(query, answer, Outcome.NAME_A)
    assert memo.answer(ident + query[2:]) == (ident + answer[2:], Outcome.NAME_A)
    assert memo.answer(ident + query[2:] + b"x") is None
    memo.forget()
    assert memo.answer(query) is None


def test_it_never_grows_without_bound() -> None:
    """Neither in number nor in size."""
    memo = Memo()
    for n in range(2 * MAX_MEMO + 1):
        memo.learn(n.to_bytes(8), b"id answer", Outcome.NAME_A)
    assert sum(memo.answer(n.to_bytes(8)) is not None for n in range(2 * MAX_MEMO + 1)) == 1
    memo.learn(bytes(MAX_QUERY + 1), b"id answer", Outcome.NAME_A)
    assert memo.answer(bytes(MAX_QUERY + 1)) is None
