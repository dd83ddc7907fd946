"""A ``Node`` for those who look inside: parts that upstream's ``debug`` shows."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping

import msgspec

from tailnet.agent import clock
from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.network.describe import describe as describe_network
from tailnet.agent.backend.planview import describe
from tailnet.agent.localapi.bugmark import bugmark
from tailnet.agent.tailcfg.codec import encode

log = logging.getLogger("tailnet.notes")


def control_knobs(node: Node) -> dict[str, object]:
    """What control granted this node or set for it: names, with values where there are some."""
    me = node.netmap.self_node if node.netmap is not None else None
    return dict(sorted((me.cap_map or {}).items())) if me is not None else {}


def disco_keys(node: Node) -> dict[str, str]:
    """The peers' disco keys, by node key."""
    peers = node.netmap.in_order() if node.netmap is not None else ()
    return {str(peer.key): str(peer.disco_key) for peer in peers if any(peer.disco_key.raw)}


def state_directory(node: Node) -> str:
    """Where the state is; empty if it is in memory."""
    return str(node.state_path.parent) if node.state_path is not None else ""


def relay_servers(node: Node) -> list[str]:
    """The first addresses of the peer relays that we may ask."""
    plan, sock = node.plan, node.tunnel.magicsock
    known = (plan.peers.get(p) for p in sock.relay_servers) if plan is not None else ()
    return sorted(str(peer.node.ips()[0]) for peer in known if peer and peer.node.ips())


def host_info(node: Node) -> object:
    """What control is told of this host."""
    return msgspec.json.decode(encode(node.account.line.hostinfo))


TREES: Mapping[str, Callable[[Node], object]] = {
    "control-knobs": control_knobs,
    "peer-disco-keys": disco_keys,
    "statedir": state_directory,
    "peer-relay-servers": relay_servers,
    "hostinfo": host_info,
    "plan": lambda node: describe(node.plan),
    "netmon": lambda node: describe_network(node.network.state, node.network.recent),
}


class Inspection:
    """Answers what is asked when something is wrong.

    Args:
        drops: by layer and reason; only what happened.
    """

    def __init__(
        self, node: Node, *, version: str, drops: Callable[[], Mapping[str, Mapping[str, int]]]
    ) -> None:
        self._node = node
        self._version = version
        self._drops = drops

    async def debug(self, action: str) -> object:
        """``POST debug``: one of ``DEBUG_ACTIONS``."""
        if (show := TREES.get(action)) is not None:
            return show(self._node)
        if action == "drops":
            return self._drops()
        if action == "portmap":
            return await self._portmap()
        if action == "ts2021":
            return await self._node.account.line.rehearse()
        self._do(action)
        return None

    def _do(self, action: str) -> None:
        """What has no answer."""
        tunnel, account = self._node.tunnel, self._node.account
        match action:
            case "rebind":
                tunnel.rebind()
            case "restun":
                tunnel.restun()
            case "force-netmap-update":
                account.poke()
            case "break-derp-conns":
                tunnel.check_relays(())
            case "break-tcp-conns":
                account.poke()
                tunnel.check_relays(())
            case _:
                self._node.forget_kept_map()

    async def _portmap(self) -> dict[str, object]:
        """Ask the gateway now."""
        mapper = self._node.tunnel.portmapper
        support = await mapper.probe()
        return {
            "UPnP": support.upnp,
            "PMP": support.pmp,
            "PCP": support.pcp,
            "External": str(mapper.portmap.external or ""),
            "Ignored": {reason: n for reason, n in mapper.drops().items() if n},
        }

    def bugreport(self, note: str, *, diagnose: bool) -> str:
        """``POST bugreport``: the marker."""
        marker = bugmark(self._node.account.log_id, clock.wall(), os.urandom(8))
        log.info("user bugreport: %s %s", marker, note)
        for line in self._diagnosis() if diagnose else ():
            log.info("user bugreport: %s", line)
        return marker

    def _diagnosis(self) -> Iterator[str]:
        """How things stand, in lines without names, addresses or keys of anybody."""
        node, tunnel = self._node, self._node.tunnel
        yield f"version {self._version}, datapath {tunnel.about.name} {tunnel.about.version}"
        yield f"state {node.state.label}, peers {len(node.netmap.peers) if node.netmap else 0}"
        yield f"relays {sorted(tunnel.live_relays)}, home {tunnel.magicsock.home}"
        yield f"warnings {sorted(warning.what.code for warning in node.warnings)}"
        yield f"routes {tunnel.router_problem or 'as wanted'}"
        yield f"firewall {tunnel.firewall_problem or 'as wanted'}"
        for layer, reasons in self._drops().items():
            if reasons:
                yield f"dropped by {layer}: {dict(reasons)}"
