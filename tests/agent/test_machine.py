"""Which ports and which datapath a machine has."""

from types import SimpleNamespace

import pytest

from tailnet.agent import machine
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.keys import NodePrivate
from tailnet.agent.machine import DatapathChoice, DatapathWish, Machine
from tailnet.agent.noise.wireguard.reference import ReferenceHandshakes


def test_auto_takes_the_native_datapath_if_it_is_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And says which one, and why."""
    taken: list[int] = []
    made = SimpleNamespace(set_service=taken.append, about=("native", "1.2", "ring"))
    monkeypatch.setattr(machine, "NativeDatapath", lambda aead: made)
    monkeypatch.setattr(machine, "NativeHandshakes", lambda private: made)
    monkeypatch.setattr(ReferenceDatapath, "set_service", lambda _, fd: taken.append(fd))
    caplog.set_level("INFO", "tailnet.main")
    for flag, reason, native in (
        (DatapathChoice.AUTO, "", True),
        (DatapathChoice.AUTO, "not here", False),
        (DatapathChoice.NATIVE, "", True),
        (DatapathChoice.REFERENCE, "", False),
    ):
        monkeypatch.setattr(machine, "why_not", lambda reason=reason: reason)
        system = object.__new__(Machine)
        system._datapath, system._service_fd = DatapathWish(flag), 9
        assert (system.make_datapath() is made) is native
        handshakes = system.make_handshakes(NodePrivate(b"\x01" * 32))
        assert isinstance(handshakes, ReferenceHandshakes) is not native
    assert taken == [9] * 4
    assert "native datapath 1.2, ciphered by ring" in caplog.text
    assert "not here" in caplog.text
    assert "asked for" in caplog.text
