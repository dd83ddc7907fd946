"""The TUN device as whole daemons use it: several queues, and what may be written joined."""

import json
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.host import DEVICE, Host
from integration.lab.lab import Lab
from integration.lab.process import Process
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

FLOWS, DATAGRAMS = 16, 3000
MTU = 1280

# Sends what comes back to where it came from.
ECHO = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
sock.bind((sys.argv[1], 7777))
print("ready", flush=True)
while True:
    data, src = sock.recvfrom(2000)
    sock.sendto(data, src)
"""

# Numbered datagrams on many flows at once, 16 of each under way; says which came back otherwise.
ASK = """
import json, select, socket, sys
to, flows, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
socks = []
for _ in range(flows):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)
    sock.connect((to, 7777))
    socks.append(sock)
sent, back, highest = [0] * flows, [0] * flows, [-1] * flows
overtaken = 0
while min(back) < count:
    for i, sock in enumerate(socks):
        while sent[i] < count and sent[i] - back[i] < 16:
            sock.send(sent[i].to_bytes(4) + bytes(60))
            sent[i] += 1
    ready = select.select(socks, [], [], 5)[0]
    if not ready:
        break
    for sock in ready:
        i = socks.index(sock)
        number = int.from_bytes(sock.recv(100)[:4])
        overtaken += number < highest[i]
        highest[i] = max(highest[i], number)
        back[i] += 1
print(json.dumps({"overtaken": overtaken, "back": sum(back)}))
"""

# The longest TCP and UDP packets that the kernel takes from the device.
LONGEST = """
import json, socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
sock.bind((sys.argv[1], 0x0800))
print("ready", flush=True)
longest = {6: 0, 17: 0}
while True:
    data, (_, _, kind, _, _) = sock.recvfrom(70000)
    if kind != 4 and data[9] in longest and len(data) > longest[data[9]]:
        longest[data[9]] = len(data)
        print(json.dumps({"tcp": longest[6], "udp": longest[17]}), flush=True)
"""

# A megabyte by TCP, and 20 super-packets of ten datagrams by UDP.
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 7778), timeout=10) as sock:
    sock.sendall(bytes(1 << 20))
    sock.shutdown(socket.SHUT_WR)
    sock.recv(1)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_UDP, 103, 1000)
for _ in range(20):
    sock.sendto(bytes(10_000), (sys.argv[1], 7779))
"""

SINK = """
import socket, sys
with socket.create_server((sys.argv[1], 7778)) as listener:
    print("ready", flush=True)
    while True:
        sock, _ = listener.accept()
        while sock.recv(1 << 20):
            pass
        sock.close()
"""


def spawn(host: Host, name: str, code: str, *words: object) -> Process:
    """A program that says it is ready."""
    process = host.spawn(name, sys.executable, "-c", textwrap.dedent(code), *map(str, words))
    until(f"{name} to be ready", lambda: "ready" in process.tail(), 10)
    return process


@pytest.fixture(scope="module", params=[2, 4])
def threads(make_lab: MakeLab, request: pytest.FixtureRequest) -> tuple[Lab, int]:
    """Two hosts with so many queues each."""
    if find_spec("tailnet_native") is None:
        cannot("the native datapath is not built here")
    lab = make_lab(flat("h1", "h2"))
    lab.flags = ("--datapath=native", f"--datapath-threads={request.param}")
    lab.join()
    lab.wait_complete()
    return lab, request.param


def test_the_device_has_a_queue_for_each_thread(threads: tuple[Lab, int]) -> None:
    """The kernel's word, the daemon's, and the threads themselves."""
    lab, count = threads
    host = lab.hosts["h1"]
    assert host.status()["TailnetdDatapath"]["Threads"] == count
    queues = host.exec("sh", "-c", f"ls -d /sys/class/net/{DEVICE}/queues/tx-*").stdout.split()
    assert len(queues) == count
    tasks = Path(f"/proc/{host.running.pid}/task").glob("*/comm")
    names = sorted(task.read_text().strip() for task in tasks)
    sealing = [name for name in names if name.startswith("tun-to-udp")]
    assert sealing == [f"tun-to-udp/{i}" for i in range(count)]


def test_no_datagram_overtakes_another_of_its_flow(threads: tuple[Lab, int]) -> None:
    """Many flows at once, both ways, through the kernel's own choice of queues."""
    lab, _ = threads
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    assert one.ping_os(two.ipv4, count=2).lost < 2
    until("a direct path", lambda: one.path_to("h2"), 20)
    until("the way back", lambda: two.path_to("h1"), 20)
    spawn(two, "echo", ECHO, two.ipv4)
    asked = one.exec(sys.executable, "-c", ASK, str(two.ipv4), str(FLOWS), str(DATAGRAMS))
    assert json.loads(asked.stdout) == {"overtaken": 0, "back": FLOWS * DATAGRAMS}


@pytest.fixture(scope="module", params=["reference", "native"])
def choosy(make_lab: MakeLab, request: pytest.FixtureRequest) -> Lab:
    """h2 takes no joined TCP, h3 no joined UDP."""
    if request.param == "native" and find_spec("tailnet_native") is None:
        cannot("the native datapath is not built here")
    lab = make_lab(flat("h1", "h2", "h3"))
    lab.hosts["h2"].variables = {"TS_TUN_DISABLE_TCP_GRO": "1"}
    lab.hosts["h3"].variables = {"TS_TUN_DISABLE_UDP_GRO": "1"}
    lab.flags = (f"--datapath={request.param}",)
    lab.join()
    lab.wait_complete()
    return lab


@pytest.mark.parametrize(("name", "joined", "single"), [("h2", "udp", "tcp"), ("h3", "tcp", "udp")])
def test_what_the_environment_forbids_is_written_singly(
    choosy: Lab, name: str, joined: str, single: str
) -> None:
    """The kernel sees super-packets of the other protocol only."""
    one, other = choosy.hosts["h1"], choosy.hosts[name]
    assert one.ping_os(other.ipv4, count=2).lost < 2
    until("a direct path", lambda: one.path_to(name), 20)
    watcher = spawn(other, "longest", LONGEST, DEVICE)
    spawn(other, "sink", SINK, other.ipv4)

    def longest() -> dict[str, int]:
        said: dict[str, int] = json.loads(watcher.tail().splitlines()[-1])
        return said

    def seen() -> bool:
        one.exec(sys.executable, "-c", SEND, str(other.ipv4))
        return "{" in watcher.tail() and longest()[joined] > MTU and longest()[single] > MTU // 2

    until("joined packets", seen, 20)
    assert longest()[single] <= MTU
