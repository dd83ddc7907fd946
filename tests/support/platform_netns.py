"""A network namespace without a name, for the length of a test.

It has no name to leak: the kernel removes it with the last thread and descriptor in it.
"""

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CLONE_NEWNET = 0x40000000


@contextmanager
def private_network() -> Iterator[None]:
    """Put the calling thread, and the programs it starts, into a namespace of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespaces: {errno.errorcode[ctypes.get_errno()]}")
        try:
            yield
        finally:
            assert libc.setns(back, CLONE_NEWNET) == 0
    finally:
        os.close(back)


def ip(*words: str) -> str:
    """Run ``ip`` and return what it says."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def two_uplinks(prefix: str) -> Iterator[None]:
    """A host with ``eth0`` PREFIX.1.2/24 and ``wlan0`` PREFIX.2.2/24, and no routes beyond."""
    with private_network():
        ip("link", "set", "lo", "up")
        for n, name in enumerate(("eth0", "wlan0"), 1):
            ip("link", "add", name, "type", "veth", "peer", "name", f"far{n}")
            for end in (name, f"far{n}"):
                ip("link", "set", end, "up", "addrgenmode", "none")
            ip("address", "add", f"{prefix}.{n}.2/24", "dev", name)
        yield


def snapshot() -> str:
    """Rules, routes of every table and addresses of the namespace, for comparison."""
    rules = ["-d", "rule", "show"]
    shown = [ip(f, *rules) + ip(f, "route", "show", "table", "all") for f in ("-4", "-6")]
    return "\n".join([*shown, ip("-br", "address", "show")])
