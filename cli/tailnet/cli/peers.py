"""Which node a name or address means."""

from tailnet.agent.localapi.schema.status import PeerStatus, Status
from tailnet.cli.errors import Failure
from tailnet.cli.text import clean


def find_node(status: Status, name: str) -> PeerStatus:
    """Self or a peer by address, DNS name (whole or its first labels) or hostname.

    Raises:
        Failure: there is none.
    """
    nodes = [*([status.self_] if status.self_ else []), *(status.peer or {}).values()]
    wanted = name.rstrip(".").lower()
    suffix = status.current_tailnet.magic_dns_suffix if status.current_tailnet else ""
    full = f"{wanted}.{suffix or status.magic_dns_suffix}"
    for matches in (
        lambda node: _address(wanted) in (node.tailscale_ips or ()),
        lambda node: node.dns_name.rstrip(".").lower() in (wanted, full),
        lambda node: node.host_name.lower() == wanted,
    ):
        for node in nodes:
            if wanted and matches(node):
                return node
    msg = f"no peer found: {clean(name) or 'an empty name'}; see: tnet status"
    raise Failure(msg)


def _address(text: str) -> str:
    """An address in its one canonical form, anything else as it is."""
    if ":" not in text:
        return text
    import socket  # noqa: PLC0415 - loaded already by the client; cheaper than ipaddress

    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    except OSError:
        return text


NEXT = {
    "NeedsLogin": "log in with: tnet up",
    "NeedsMachineAuth": "an administrator of the tailnet has to approve this machine",
    "Stopped": "connect with: tnet up",
}


def not_connected(status: Status) -> str:
    """The state, and what to do about it."""
    state = clean(status.backend_state)
    return f"not connected; state: {state}; {NEXT.get(state, 'wait for it with: tnet wait')}"
