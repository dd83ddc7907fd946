"""The implementations of WireGuard's handshake."""

import shutil
from typing import Protocol

import pytest

from tailnet.agent.datapath.native import why_not
from tailnet.agent.keys import NodePrivate
from tailnet.agent.noise.wireguard.interface import NO_PSK, Handshakes
from tailnet.agent.noise.wireguard.native import NativeHandshakes
from tailnet.agent.noise.wireguard.reference import ReferenceHandshakes


class Make(Protocol):
    """Makes one, for a pre-shared key too."""

    def __call__(self, private: NodePrivate, psk: bytes = NO_PSK) -> Handshakes:
        """Of a static key."""


MAKERS: dict[str, Make] = {"reference": ReferenceHandshakes, "native": NativeHandshakes}


def maker(name: str) -> Make:
    """By its name; skips the test where it is not built (with cargo it must be)."""
    if name == "native" and (reason := why_not()):
        if shutil.which("cargo"):
            pytest.fail(f"cargo is here, but {reason}: run 'make native'")
        pytest.skip(reason)
    return MAKERS[name]
