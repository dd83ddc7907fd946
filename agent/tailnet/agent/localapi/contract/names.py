"""Who is who, and what names mean."""

from tailnet.agent.localapi.contract.operation import Operation, Query, Routes, Tree
from tailnet.agent.localapi.schema.identity import UserProfile, WhoIs
from tailnet.agent.localapi.schema.names import DNSLocalRecord, DNSOSConfig, DNSQueryAnswer

NUMBER = Query("id", "integer", "its number", needed=True)

NAMES: Routes = {
    "dns-config": {
        "GET": Operation("What control wants of names, its DNSConfig.", Tree, refuses=(503,))
    },
    "dns-osconfig": {
        "GET": Operation("How the host resolved names before us.", DNSOSConfig, refuses=(500,))
    },
    "dns-query": {
        "GET": Operation(
            "What a name is, who said so, and why.",
            DNSQueryAnswer,
            query=(
                Query("name", "string", "the name", needed=True),
                Query("type", "string", "A if not given; AAAA, TXT, TYPE123 …"),
            ),
            refuses=(400,),
        )
    },
    "dns-records": {
        "GET": Operation("Names of this host alone.", list[DNSLocalRecord]),
        "POST": Operation(
            "Give a name these addresses too; answers with all.",
            list[DNSLocalRecord],
            body=DNSLocalRecord,
            refuses=(400,),
        ),
        "DELETE": Operation(
            "Take these addresses from a name, or all of them; answers with the rest.",
            list[DNSLocalRecord],
            query=(
                Query("name", "string", "the name, as it was given", needed=True),
                Query("addresses", "string", "with commas between them; all if absent"),
            ),
            refuses=(400,),
        ),
    },
    "whois": {
        "GET": Operation(
            "Node, user and grants behind an address or a key.",
            WhoIs,
            query=(
                Query("addr", "string", "IP, IP:port or nodekey:…", needed=True),
                Query("proto", ("tcp", "udp"), "taken for upstream's sake"),
            ),
            refuses=(400, 404),
        )
    },
    "user-profile": {
        "GET": Operation(
            "A user of the network map.", UserProfile, query=(NUMBER,), refuses=(400, 404)
        )
    },
    "peer-by-id": {
        "GET": Operation(
            "A peer as the control server described it.",
            Tree,
            query=(NUMBER,),
            refuses=(400, 404),
        )
    },
    "cert-domains": {
        "GET": Operation(
            "Names of this node that certificates can be had for, says control.", list[str]
        )
    },
    "services": {"GET": Operation("Services that this node publishes: none yet.", Tree)},
    "serve-config": {"GET": Operation("What is served: nothing yet.", Tree)},
}
