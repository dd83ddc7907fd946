"""Who takes connections from other machines; the sockets are real."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from tailnet.platform.linux.listeners import listeners, program_of

PROGRAM = """
import socket, sys
sockets = []
for host in ("0.0.0.0", "127.0.0.1", "127.9.9.9"):
    sockets.append(socket.create_server((host, 0)))
if socket.has_dualstack_ipv6():
    port = sockets[0].getsockname()[1]
    sockets.append(socket.create_server(("::", port), family=socket.AF_INET6))
    sockets.append(socket.create_server(("::1", 0), family=socket.AF_INET6))
    mapped = socket.socket(socket.AF_INET6)
    mapped.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    mapped.bind(("::ffff:127.0.0.1", 0))
    mapped.listen()
    sockets.append(mapped)
udp = socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 0))
print(*(s.getsockname()[1] for s in (*sockets, udp)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """Of another process: one on all addresses, the rest on loopback or UDP."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield [int(word) for word in process.stdout.readline().split()]
        process.kill()


def test_only_what_others_can_reach(ports: list[int]) -> None:
    """By TCP, once for both families, with the name of the program."""
    said = {one.port: one.program for one in listeners()}
    everywhere, *others = ports
    assert said[everywhere].startswith("python")
    assert said.keys().isdisjoint(set(others) - {everywhere})


def test_our_own_ports_are_not_among_them() -> None:
    """The daemon tells of those itself."""
    with closing(socket.create_server(("", 0))) as ours:
        assert ours.getsockname()[1] not in {one.port for one in listeners()}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["/usr/sbin/sshd", "-D"], "sshd"),
        (["nginx: master process /usr/sbin/nginx"], "nginx"),
        (["mono", "/opt/Server.exe"], "Server"),
        (["mono"], "mono"),
        (["sshd: /usr/sbin/sshd -D [listener]"], "sshd"),
        ([], ""),
        ([""], ""),
    ],
)
def test_a_command_line_has_a_name(words: list[str], name: str) -> None:
    """What people call the program."""
    assert program_of(words) == name
