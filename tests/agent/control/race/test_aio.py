"""What went wrong, in words."""

import errno
import socket
import ssl

import pytest

from tailnet.agent.control.race.aio import reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('::1', 1)"), "Connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not"),
        (ssl.SSLError(1, "[SSL: BAD] wrong version number"), "wrong version number"),
        (OSError("all of them failed"), "all of them failed"),
    ],
)
def test_numbers_are_read_by_whom_they_belong_to(error: OSError, words: str) -> None:
    """1 is OpenSSL's "see below", not "Operation not permitted"."""
    assert words in reason(error)
