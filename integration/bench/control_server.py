"""The other side of ``integration.bench.control``: a control server with many peers, and a relay.

Commands come as JSON lines on standard input, ``[kind, count, per_second]``; each is answered by
a line when its last delta was handed to the stream.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from integration.bench.control import AUTH_KEY
from integration.bench.crowd import REGION, Peers
from integration.lab import control_poll
from integration.lab.control import AuthKey, ControlServer, ControlSettings
from integration.lab.control_stream import Audience
from integration.lab.derp import DerpServer
from integration.lab.tls import make_server_tls
from msgspec.structs import replace

from tailnet.agent import clock
from tailnet.agent.keys import MachinePrivate, NodePrivate
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion
from tailnet.agent.tailcfg.mapping import MapResponse

Deltas = Callable[[int], MapResponse]


def main() -> None:
    """Serve until standard input ends."""
    asyncio.run(serve(int(sys.argv[1])))


async def serve(count: int) -> None:
    """A server whose every node has ``count`` peers."""
    peers = Peers(count)

    class Crowd(Audience):
        """Adds the crowd to the first message."""

        def full(self) -> MapResponse:
            """With everybody."""
            first = super().full()
            return replace(
                first,
                peers=tuple(peers.nodes.values()) or None,
                user_profiles=(*(first.user_profiles or ()), *peers.users),
            )

    vars(control_poll)["Audience"] = Crowd
    tls, pin, _ = make_server_tls(["127.0.0.1"])
    key = NodePrivate.from_random(os.urandom(32))
    relay = DerpServer(key, now=clock.now, random_bytes=os.urandom)
    await relay.start("127.0.0.1", 0, tls)
    node = DERPNode(
        name=f"{REGION}a",
        region_id=REGION,
        host_name="127.0.0.1",
        cert_name=f"sha256-raw:{pin}",
        ipv4="127.0.0.1",
        ipv6="none",
        derp_port=relay.port,
        stun_port=-1,
    )
    region = DERPRegion(region_id=REGION, region_code="lab", region_name="Lab", nodes=(node,))
    server = ControlServer(
        ControlSettings(
            server_key=MachinePrivate.from_random(os.urandom(32)),
            auth_keys={AUTH_KEY: AuthKey()},
            derp_map=DERPMap(regions={REGION: region}),
        ),
        now=clock.now,
        wall=clock.wall,
        random_bytes=os.urandom,
    )
    await server.start("127.0.0.1", 0)
    say(server.origin)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        kind, times, rate = json.loads(line)
        (me,) = [int(str(about["id"])) for about in server.nodes()]
        began = loop.time()
        for number in range(times):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            message = replace(peers.delta(kind), control_time=datetime.now(UTC))
            server._polls.push(me, message)
        say("done")
    await server.stop()
    await relay.stop()


def say(line: str) -> None:
    """To the client."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
