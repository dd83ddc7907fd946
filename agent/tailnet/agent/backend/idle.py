"""The plan while there is no network map that may be acted on."""

from dataclasses import replace

from tailnet.agent.backend.plan import Plan
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.routes import with_exit_node
from tailnet.agent.backend.state import Facts
from tailnet.agent.backend.tunnel.interface import EMPTY
from tailnet.agent.backend.wall import guard


def idle_plan(prefs: Prefs, facts: Facts) -> Plan:
    """Nothing leaks then either, unless people must reach a page to log in again."""
    waits = facts.want_running and facts.has_node_key and not facts.key_expired
    firewall = replace(EMPTY.firewall, guard=guard(prefs))
    if not (waits and prefs.wants_exit_node):
        return replace(EMPTY, firewall=firewall)
    blocked = with_exit_node(EMPTY.router, lan=prefs.exit_node_allow_lan_access)
    return replace(EMPTY, router=blocked, firewall=firewall)
