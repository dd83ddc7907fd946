"""What happens in the daemon, and looking inside."""

from typing import Any

from tailnet.agent.localapi.contract.operation import (
    LINES,
    METRICS,
    NO_CONTENT,
    TEXT,
    Operation,
    Query,
    Routes,
    Tree,
)
from tailnet.agent.localapi.schema.basics import Problem
from tailnet.agent.localapi.schema.bus import Notify

PROCESS: Routes = {
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
            refuses=(400,),
            or_text=True,
        )
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
    "debug-packet-filter-rules": {
        "GET": Operation("The packet filter as control sent it.", Any, refuses=(503,)),
        "POST": Operation("The same, as upstream's client asks.", Any, refuses=(503,)),
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
