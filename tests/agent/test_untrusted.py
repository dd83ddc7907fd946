"""Every function whose name ends in ``_untrusted`` lets out nothing but ``BadPacket``."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.untrusted import SOURCES, functions, takes_bytes

from tailnet.agent.errors import BadPacket

TESTS = Path(__file__).parents[1]

METHODS = sorted(
    {
        name.lstrip("_")
        for path in SOURCES
        for name, is_module_level in functions(path)
        if not is_module_level and not name.startswith("_")
    }
)


@pytest.mark.parametrize("function", [pytest.param(f, id=name) for name, f in takes_bytes()])
@given(data=st.one_of(st.binary(max_size=64), st.binary(max_size=2000)))
def test_only_bad_packet_escapes(function: Callable[[bytes], object], data: bytes) -> None:
    """Whatever the bytes are."""
    try:
        function(data)
    except BadPacket:
        pass


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_fuzzed_in_their_rooms(name: str) -> None:
    """A method's name appears in some test."""
    here = Path(__file__)
    assert any(name in path.read_text() for path in TESTS.rglob("test_*.py") if path != here)
