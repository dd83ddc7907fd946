"""What is tried out on request."""

from typing import Any

from tailnet.agent.localapi.contract.operation import NO_CONTENT, TEXT, Operation, Query, Routes
from tailnet.agent.localapi.schema.experiments import EndpointChange, MarkInUse, RegionReport

EXPERIMENTS: Routes = {
    "check-so-mark-in-use": {
        "GET": Operation("Whether a mark keeps our own packets out of the tunnel.", MarkInUse)
    },
    "debug-peer-endpoint-changes": {
        "GET": Operation(
            "How the way to a peer changed, oldest first.",
            list[EndpointChange],
            query=(Query("ip", "string", "a node's address", needed=True),),
            refuses=(400, 404),
        )
    },
    "debug-dial-types": {
        "POST": Operation(
            "Connect in each way there is; a line for each.",
            bytes,
            query=(
                Query("ip", "string", "an address", needed=True),
                Query("port", "integer", "of TCP", needed=True, most=65_535),
                Query("network", ("tcp", "tcp4", "tcp6"), "tcp if absent"),
            ),
            refuses=(400,),
            media=TEXT,
        )
    },
    "debug-derp-region": {
        "POST": Operation(
            "Try the relays of a region as a node that nobody knows.",
            RegionReport,
            query=(Query("region", "string", "its number or code", needed=True),),
        )
    },
    "debug-portmap": {
        "GET": Operation(
            "Ask the router for a port, and tell what is said, until it gave one.",
            bytes,
            query=(
                Query("duration", "string", "like 5s, which it is if absent; at most 60s"),
                Query("type", ("pmp", "pcp", "upnp"), "all if absent"),
                Query("gateway_and_self", "string", "IPv4 addresses: 192.0.2.1/192.0.2.7"),
                Query("log_http", "boolean", "taken for upstream's sake"),
            ),
            refuses=(400,),
            media=TEXT,
        )
    },
    "debug-rotate-disco-key": {
        "POST": Operation("Find paths by another key from now on.", status=NO_CONTENT)
    },
    "pprof": {
        "GET": Operation(
            "A profile for go tool pprof; one at a time.",
            Any,
            query=(
                Query("name", ("profile", "heap"), "of time or memory", needed=True),
                Query("seconds", "integer", "for how long, at most 50", most=9999),
            ),
            refuses=(400, 404),
            media="application/octet-stream",
        )
    },
}
