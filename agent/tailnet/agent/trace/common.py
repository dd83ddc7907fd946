"""Steps that both directions have: is this machine there, is the peer, and how is it reached."""

from tailnet.agent.backend.plan import Plan
from tailnet.agent.keys import PeerId
from tailnet.agent.tailcfg.node import Node
from tailnet.agent.trace.facts import Facts
from tailnet.agent.trace.steps import Stage, Step, note, passes, stop

SESSION_LIFE = 180.0  # seconds; WireGuard's Reject-After-Time
NEXT = {
    "NeedsLogin": "log in with: tnet up",
    "Stopped": "connect with: tnet up",
    "NeedsMachineAuth": "an administrator of the tailnet must approve this machine",
    "NoState": "the daemon is starting",
    "Starting": "the daemon waits for the control server",
}


def state(facts: Facts) -> Step:
    """This machine takes part."""
    if facts.plan is None or facts.netmap is None or facts.state != "Running":
        do = NEXT.get(facts.state, "see: tnet status")
        return stop(Stage.STATE, f"this machine is not connected ({facts.state}); {do}")
    if facts.warnings:
        return note(Stage.STATE, "this machine is connected, with warnings", *facts.warnings)
    return passes(Stage.STATE, "this machine is connected")


def keys(facts: Facts, node: Node, handle: PeerId | None) -> Step:
    """The peer may and can be talked to."""
    name = node.base_name
    if node.expired or (node.key_expiry and node.key_expiry.year > 1 and _past(facts, node)):
        return stop(Stage.KEY, f"{name}'s key has expired; its owner must log in again")
    if handle is None:
        if node.key.is_zero:
            return stop(Stage.KEY, f"{name} has no key yet")
        if node.disco_key.is_zero and not node.home_region:
            return stop(Stage.KEY, f"{name} has neither a disco key nor a relay: it was never on")
        return stop(Stage.KEY, f"{name} is in the network map, but this machine cannot use it")
    if node.is_jailed:
        return note(Stage.KEY, f"{name} may be reached from here, but may not begin anything")
    return passes(Stage.KEY, f"{name}'s key is valid")


def _past(facts: Facts, node: Node) -> bool:
    return node.key_expiry is not None and node.key_expiry < facts.wall


def path(facts: Facts, plan: Plan, node: Node, handle: PeerId) -> Step:
    """How its packets travel."""
    about = facts.about(handle).path
    name = node.base_name
    online = () if node.online is not False else ("the control server says that it is offline",)
    if about is None or (not about.region and not about.candidates):
        return stop(Stage.PATH, f"no way leads to {name}: no address and no relay", *online)
    tried = tuple(f"{c.addr}: {c.verdict}" for c in about.candidates)
    region = plan.derp_map.region(about.region)
    relay = region.region_code if region else str(about.region)
    if about.path.udp is not None and not about.path.relay:
        say = note if online else passes
        return say(Stage.PATH, f"{name} is reached directly, at {about.path.udp}", *online)
    if not about.region:
        return stop(Stage.PATH, f"{name} has no relay, and no direct path yet", *online, *tried)
    if online:
        return note(Stage.PATH, f"{name} seems to be off", *online, *tried)
    why = ", as the path policy says" if about.policy.value == "relay-only" else ""
    return passes(Stage.PATH, f"{name} is reached through the relay {relay}{why}", *tried)


def session(facts: Facts, node: Node, handle: PeerId) -> Step:
    """Whether the two have spoken."""
    about, name = facts.about(handle), node.base_name
    age = about.handshake_age
    if age is None:
        return note(Stage.SESSION, f"no handshake with {name} yet; the first packet begins one")
    said = f"last handshake with {name} {age:.0f} s ago"
    if age > SESSION_LIFE:
        return passes(Stage.SESSION, f"{said}; the next packet begins another")
    return passes(Stage.SESSION, said)
