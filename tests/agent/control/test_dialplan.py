"""Where a control server is looked for, and how long we wait in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.control.backoff import Backoff, uniform
from tailnet.agent.control.dialplan import key_attempt, noise_attempts, parse_server_url
from tailnet.agent.errors import UserError

Place = tuple[str, int, bool]


@pytest.mark.parametrize(
    ("url", "key", "noise", "forced"),
    [
        ("https://h", ("h", 443, True), [("h", 80, False), ("h", 443, True)], [("h", 443, True)]),
        (
            "http://h",
            ("h", 80, False),
            [("h", 80, False), ("h", 443, True)],
            [("h", 443, True), ("h", 80, False)],
        ),
        (
            "https://h:8443/",
            ("h", 8443, True),
            [("h", 80, False), ("h", 8443, True)],
            [("h", 8443, True)],
        ),
        (
            "http://h:81",
            ("h", 81, False),
            [("h", 81, False), ("h", 443, True)],
            [("h", 443, True), ("h", 81, False)],
        ),
        (
            "http://10.9.0.1:81",
            ("10.9.0.1", 81, False),
            [("10.9.0.1", 81, False)],
            [("10.9.0.1", 81, False)],
        ),
        (
            "http://localhost",
            ("localhost", 80, False),
            [("localhost", 80, False)],
            [("localhost", 80, False)],
        ),
        ("http://[::1]:81", ("::1", 81, False), [("::1", 81, False)], [("::1", 81, False)]),
    ],
)
def test_places(url: str, key: Place, noise: list[Place], forced: list[Place]) -> None:
    """``/key`` at the URL alone; Noise first on 80 in the clear, unless the server is private."""
    parsed = parse_server_url(url)
    attempt = key_attempt(parsed)
    assert (attempt.host, attempt.port, attempt.tls) == key
    for force, places in ((False, noise), (True, forced)):
        attempts = noise_attempts(parsed, force_tls=force)
        assert [(a.host, a.port, a.tls) for a in attempts] == places
        assert [a.delay for a in attempts] == [0.0, 0.5][: len(attempts)]


def test_authority_has_brackets_and_port() -> None:
    """As a Host header wants it."""
    assert parse_server_url("http://[::1]:81").authority == "[::1]:81"
    assert parse_server_url("https://h/").authority == "h"


@pytest.mark.parametrize("text", ["", "h", "ftp://h", "https://", "https://h/x", "http://h:x"])
def test_what_is_no_url_is_told_to_the_user(text: str) -> None:
    """In one line."""
    with pytest.raises(UserError, match="is not the URL of a control server"):
        parse_server_url(text)


@given(st.binary(min_size=6, max_size=6))
def test_uniform_stays_in_range(raw: bytes) -> None:
    """Low inclusive, high exclusive."""
    assert 0.5 <= uniform(lambda n: raw[:n], 0.5, 1.5) < 1.5


def test_backoff_is_quadratic_and_capped() -> None:
    """10 ms, 40 ms, … 30 s; it starts over after a success."""
    backoff = Backoff(lambda n: b"\x80" + bytes(n - 1))  # the middle: a factor of 1
    assert [backoff.fail() for _ in range(3)] == pytest.approx([0.01, 0.04, 0.09])
    assert [backoff.fail() for _ in range(100)][-1] == 30
    backoff.reset()
    assert backoff.fail() == pytest.approx(0.01)
