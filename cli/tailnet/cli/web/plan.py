"""Routes and names on the page: what the daemon made of the tailnet's offers."""

from collections.abc import Sequence
from typing import NamedTuple

from tailnet.agent.localapi.schema.network import RouteEntry
from tailnet.cli.client import LocalClient
from tailnet.cli.commands.dns import gather
from tailnet.cli.commands.routes import cells
from tailnet.cli.names import status_lines
from tailnet.cli.web.markup import Markup, tag

MAX_ROUTES = 200


class Plan(NamedTuple):
    """What does not change every second.

    Attributes:
        routes: what becomes of each.
        names: lines of ``tnet dns status``; a blank one begins a section.
    """

    routes: Sequence[RouteEntry] = ()
    names: Sequence[str] = ()


def look(client: LocalClient) -> Plan:
    """Ask for both."""
    tree, host = gather(client)
    routes = client.get("routes", tuple[RouteEntry, ...])
    return Plan(routes, list(status_lines(tree, host, everything=False)))


def routes_section(plan: Plan) -> Markup | None:
    """A table, or nothing where there are no routes."""
    if not plan.routes:
        return None
    rows = [
        tag("tr", *(tag("td", cell) for cell in cells(entry)), class_=None if entry.used else "off")
        for entry in plan.routes[:MAX_ROUTES]
    ]
    head = tag("tr", *(tag("th", name) for name in ("Route", "Via", "State")))
    hidden = len(plan.routes) - MAX_ROUTES
    return tag(
        "section",
        tag("h2", f"Routes ({len(plan.routes)})"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="wide"),
        tag("p", f"… and {hidden} more: tnet routes") if hidden > 0 else None,
    )


def names_section(plan: Plan) -> Markup | None:
    """How names are resolved, line by line."""
    if not plan.names:
        return None
    lines = [tag("li", line) for line in plan.names if line]
    return tag("section", tag("h2", "Names"), tag("ul", *lines, class_="names"))
