"""This node among its peers."""

from tailnet.agent.localapi.contract.operation import PCAPNG, Operation, Query, Routes, Tree
from tailnet.agent.localapi.schema.basics import Advice
from tailnet.agent.localapi.schema.network import NetcheckReport, RouteEntry
from tailnet.agent.localapi.schema.paths import PathDetails, PeerRelaySessions, PingResult
from tailnet.agent.localapi.schema.status import Status
from tailnet.agent.localapi.schema.tracing import TraceAnswer

ADDRESS = Query("ip", "string", "a node's address", needed=True)

NETWORK: Routes = {
    "status": {
        "GET": Operation(
            "State, this node and its peers.",
            Status,
            query=(Query("peers", "boolean", "false leaves peers out: much quicker"),),
        )
    },
    "suggest-exit-node": {
        "GET": Operation("The exit node that serves best: {ID, Name, Location}.", Tree)
    },
    "ping": {
        "POST": Operation(
            "One ping; anything that goes wrong is in Err.",
            PingResult,
            query=(
                ADDRESS,
                Query("type", ("disco", "TSMP", "ICMP", "peerapi"), "its kind", needed=True),
                Query("size", "integer", "bytes, of disco pings alone", most=65_535),
            ),
            refuses=(400,),
        )
    },
    "path": {
        "GET": Operation(
            "How a peer is reached and why; without ip a list of all peers, in short.",
            PathDetails | list[PathDetails],
            query=(ADDRESS._replace(needed=False),),
            refuses=(400, 404),
        )
    },
    "trace": {
        "GET": Operation(
            "A packet's way through what is in force, and what stops it.",
            TraceAnswer,
            query=(
                Query("src", "string", "a node by name or address; this machine if absent"),
                Query("dst", "string", "the same, or any address"),
                Query("proto", ("tcp", "udp", "icmp"), "tcp if absent"),
                Query("port", "integer", "any if absent", most=65_535),
            ),
            refuses=(400, 404),
        )
    },
    "routes": {
        "GET": Operation(
            "Every route that somebody offers, and whether it is used; with accept as it would be.",
            list[RouteEntry],
            query=(Query("accept", "string", "true, false, or prefixes, peer:NAME, tag:NAME"),),
            refuses=(400,),
        )
    },
    "check-ip-forwarding": {
        "GET": Operation("Why the routes we offer, or an exit's, do not work.", Advice)
    },
    "check-udp-gro-forwarding": {
        "GET": Operation("What makes UDP that this machine forwards slow.", Advice)
    },
    "set-udp-gro-forwarding": {
        "GET": Operation("The same as POST, as upstream's client asks.", Advice),
        "POST": Operation(
            "Make UDP that this machine forwards quick; the warning says why it cannot be.", Advice
        ),
    },
    "derpmap": {"GET": Operation("The relays of the network map.", Tree)},
    "netcheck": {
        "POST": Operation(
            "Measure the network; takes some seconds.",
            NetcheckReport,
            query=(
                Query("address", "string", "send from there"),
                Query("port", "integer", "and from this UDP port", most=65_535),
            ),
            refuses=(400,),
        )
    },
    "dial": {
        "POST": Operation(
            "Upgrade to ts-dial: a TCP connection to Dial-Host and Dial-Port.",
            status=101,
            refuses=(400,),
        )
    },
    "debug-capture": {
        "POST": Operation(
            "The tailnet's packets in the clear, until the client goes.",
            bytes,
            refuses=(400,),
            media=PCAPNG,
        )
    },
    "debug-peer-relay-sessions": {
        "GET": Operation("The peers for which this machine relays.", PeerRelaySessions)
    },
}
