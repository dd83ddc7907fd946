"""What each route takes and answers, as data: the published description is made of this.

Every route of :mod:`tailnet.agent.localapi.routes` has an entry; a test holds the two together.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tailnet.agent.localapi.schema.basics import Advice, Problem
from tailnet.agent.localapi.schema.bus import Notify
from tailnet.agent.localapi.schema.identity import LoginProfile, UserProfile, WhoIs
from tailnet.agent.localapi.schema.names import DNSLocalRecord, DNSOSConfig, DNSQueryAnswer
from tailnet.agent.localapi.schema.network import NetcheckReport, RouteEntry
from tailnet.agent.localapi.schema.paths import PathDetails, PeerRelaySessions, PingResult
from tailnet.agent.localapi.schema.status import Status
from tailnet.agent.localapi.schema.tracing import TraceAnswer

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
LINES = "application/json-lines"
PCAPNG = "application/x-pcapng"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
Tree = dict[str, Any]


class Query(NamedTuple):
    """A parameter of a URL; ``kind`` is ``string``, ``integer``, ``boolean``, or the choices."""

    name: str
    kind: str | tuple[str, ...]
    about: str
    needed: bool = False
    most: int | None = None


class Operation(NamedTuple):
    """A method of a route.

    Attributes:
        about: one line.
        answer: the type of a good answer; ``None``: it has no body.
        status: of a good answer.
        query: parameters.
        body: the type of what is sent; ``None``: nothing is.
        refuses: other statuses that are normal here.
        media: the good answer's.
        or_text: it may be a text, too.
    """

    about: str
    answer: Any = None
    status: int = 200
    query: tuple[Query, ...] = ()
    body: Any = None
    refuses: tuple[int, ...] = ()
    media: str = JSON
    or_text: bool = False


NO_CONTENT = 204
ADDRESS = Query("ip", "string", "a node's address", needed=True)
NUMBER = Query("id", "integer", "its number", needed=True)

CONTRACT: Mapping[str, Mapping[str, Operation]] = {
    "status": {
        "GET": Operation(
            "State, this node and its peers.",
            Status,
            query=(Query("peers", "boolean", "false leaves peers out: much quicker"),),
        )
    },
    "prefs": {
        "GET": Operation("The user's wishes, upstream's Prefs.", Tree),
        "PATCH": Operation(
            "Change those prefs whose mask is set (MaskedPrefs); answers with all.",
            Tree,
            body=Tree,
            refuses=(400,),
        ),
    },
    "check-prefs": {
        "POST": Operation(
            "Whether these prefs would be accepted.", Problem, body=Tree, refuses=(400,)
        )
    },
    "start": {
        "POST": Operation(
            "Store prefs (UpdatePrefs) and log in (AuthKey).",
            status=NO_CONTENT,
            body=Tree,
            refuses=(400,),
        )
    },
    "login-interactive": {
        "POST": Operation(
            "Ask for a login URL; it comes on the bus.", status=NO_CONTENT, refuses=(400,)
        )
    },
    "logout": {
        "POST": Operation(
            "Expire the node key and forget the login.", status=NO_CONTENT, refuses=(400,)
        )
    },
    "profiles/": {
        "GET": Operation("The accounts of this machine.", list[LoginProfile]),
        "PUT": Operation("Use a new, empty account.", status=201, refuses=(400,)),
    },
    "profiles/current": {"GET": Operation("The account in use.", LoginProfile)},
    "profiles/{id}": {
        "GET": Operation("One account.", LoginProfile, refuses=(404,)),
        "POST": Operation("Use another account.", status=NO_CONTENT, refuses=(400,)),
        "DELETE": Operation("Forget an account and its keys.", status=NO_CONTENT, refuses=(400,)),
    },
    "reload-config": {
        "POST": Operation("Read the configuration file again: {Reloaded, Err}.", Tree)
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
    "set-dns": {
        "POST": Operation(
            "Let control publish a TXT record of this node's name.",
            Tree,
            query=(
                Query("name", "string", "_acme-challenge.…", needed=True),
                Query("value", "string", "the record's text", needed=True),
            ),
            refuses=(500,),
        )
    },
    "id-token": {
        "GET": Operation(
            "A token of control that says who this node is: {id_token}.",
            Tree,
            query=(Query("aud", "string", "for whom", needed=True),),
            refuses=(400, 502),
        )
    },
    "query-feature": {
        "POST": Operation(
            "Whether this node may use a feature: {Complete, Text, URL, ShouldWait}.",
            Tree,
            query=(Query("feature", "string", "its name", needed=True),),
            refuses=(400, 502),
        )
    },
    "alpha-set-device-attrs": {
        "PATCH": Operation(
            "Set attributes of this node at control; null removes one.",
            Tree,
            body=Tree,
            refuses=(400, 502),
        )
    },
    "set-expiry-sooner": {
        "POST": Operation(
            "Let the node key end earlier.",
            bytes,
            query=(Query("expiry", "integer", "Unix time", needed=True, most=9_999_999_999),),
            refuses=(400, 502),
            media=TEXT,
        )
    },
    "disconnect-control": {
        "POST": Operation(
            "Leave the control server alone until the next login or start.", status=NO_CONTENT
        )
    },
    "reset-auth": {
        "POST": Operation(
            "Forget every account and the machine's key.", status=NO_CONTENT, refuses=(400,)
        )
    },
    "check-ip-forwarding": {
        "GET": Operation("Why the routes we offer, or an exit's, do not work.", Advice)
    },
    "bugreport": {
        "POST": Operation(
            "A marker for the log, BUG-…; nothing is sent anywhere.",
            bytes,
            query=(
                Query("note", "string", "goes into the log with it"),
                Query("diagnose", "boolean", "log how things stand, too"),
                Query("record", "boolean", "taken for upstream's sake"),
            ),
            media=TEXT,
        )
    },
    "debug": {
        "POST": Operation(
            "Look inside; answers with the word done where there is nothing to say.",
            Tree,
            query=(Query("action", "string", "plan, drops, clear-netmap-cache, …", needed=True),),
            refuses=(400, 501),
            or_text=True,
        )
    },
    "debug-peer-relay-sessions": {
        "GET": Operation("The peers for which this machine relays.", PeerRelaySessions)
    },
    "watch-ipn-bus": {
        "GET": Operation(
            "What happens, one Notify a line, until the client goes.",
            Notify,
            query=(Query("mask", "integer", "the sum of its bits", most=(1 << 31) - 1),),
            refuses=(400,),
            media=LINES,
        )
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
    "check-udp-gro-forwarding": {
        "GET": Operation("What makes UDP that this machine forwards slow.", Advice)
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
    "serve-config": {"GET": Operation("What is served: nothing yet.", Tree)},
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
    "suggest-exit-node": {
        "GET": Operation("The exit node that serves best: {ID, Name, Location}.", Tree)
    },
    "set-use-exit-node-enabled": {
        "POST": Operation(
            "Use no exit node, or the last one again; answers with all prefs.",
            Tree,
            query=(Query("enabled", "boolean", "whether one is used", needed=True),),
            refuses=(400,),
        )
    },
    "cert-domains": {
        "GET": Operation(
            "Names of this node that certificates can be had for, says control.", list[str]
        )
    },
    "services": {"GET": Operation("Services that this node publishes: none yet.", Tree)},
    "debug-packet-filter-rules": {
        "GET": Operation("The packet filter as control sent it.", Any, refuses=(503,))
    },
    "debug-packet-filter-matches": {"GET": Operation("The packet filter as packets meet it.", Any)},
    "debug-optional-features": {"GET": Operation("What this daemon has: {Features}.", Tree)},
    "usermetrics": {
        "GET": Operation("What is counted of the node, for Prometheus.", bytes, media=METRICS)
    },
    "metrics": {
        "GET": Operation("The same, with what is counted of the process.", bytes, media=METRICS)
    },
    "goroutines": {"GET": Operation("Stacks of all tasks and threads.", bytes, media=TEXT)},
    "shutdown": {"POST": Operation("End the daemon, as a signal would.")},
    "debug-log": {
        "POST": Operation(
            "Lines of another program into the daemon's log: {Lines, Prefix}.",
            status=NO_CONTENT,
            body=Tree,
            refuses=(400,),
        )
    },
    "component-debug-logging": {
        "POST": Operation(
            "Log one component in detail for a while; 0 seconds ends that.",
            Problem,
            query=(
                Query("component", "string", "its name, as in the log", needed=True),
                Query("secs", "integer", "for how long", most=86_400),
            ),
            refuses=(400,),
        )
    },
    "logtap": {
        "GET": Operation(
            "The log from now on: {client_time, v, text} a line, until the client goes.",
            Tree,
            media=LINES,
        )
    },
    "openapi.json": {"GET": Operation("This description.", Tree)},
}
