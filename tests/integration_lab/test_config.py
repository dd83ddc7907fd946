"""The file between the lab and its servers."""

from hypothesis import given
from hypothesis import strategies as st
from integration.lab.config import Relay, ServersConfig

PORTS = st.integers(0, 65535)
RELAYS = st.lists(st.builds(Relay, st.integers(900, 999), PORTS), max_size=4).map(tuple)


@given(st.builds(ServersConfig, st.text(), st.text(), RELAYS, PORTS, PORTS, st.text()))
def test_config_survives_its_file(config: ServersConfig) -> None:
    """Text and back."""
    assert ServersConfig.from_json(config.to_json()) == config


def test_relays_have_ports_of_their_own() -> None:
    """By default, by region."""
    assert [Relay(900).listens, Relay(901).listens, Relay(900, 443).listens] == [3340, 3341, 443]
