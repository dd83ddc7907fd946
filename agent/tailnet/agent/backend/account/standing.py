"""Where a login stands with its server: what the control session said so far."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

import msgspec

from tailnet.agent.backend import profiles
from tailnet.agent.backend.account.record import Record
from tailnet.agent.backend.events import (
    BrowseToURL,
    LoginFinished,
    LoginRefused,
    NetworkMapChanged,
    NodeEvent,
    ProfileChanged,
)
from tailnet.agent.backend.loginprofile import NetworkProfile
from tailnet.agent.control.events import (
    AuthURL,
    Connected,
    ControlEvent,
    Disconnected,
    LoginFailed,
    NetmapChanged,
    PopBrowser,
    Registered,
)
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.trouble import Cause
from tailnet.agent.errors import UserError
from tailnet.agent.tailcfg.node import Node, UserProfile

log = logging.getLogger("tailnet.account")


class Standing:
    """Follows what control says, and keeps in ``record`` what must outlive this process.

    Attributes:
        netmap: the last network map, in use or not.
        auth_url: what a person must open; empty if nothing.
        login_problem: why the last attempt to log in failed; empty when it did not.
        control_problem: why the map stream ended; empty while there is one.
        control_cause: what kind of problem that is.
    """

    def __init__(self, record: Record, wall: Callable[[], datetime]) -> None:
        self._record = record
        self._wall = wall
        self.netmap: NetworkMap | None = None
        self.auth_url = ""
        self.login_problem = ""
        self.control_problem = ""
        self.control_cause = Cause.OTHER
        self._said = ("", "")  # of a problem, in the log

    def hung_up(self) -> None:
        """The session ended because we wanted so; the network map stays."""
        self.login_problem = self.control_problem = self.auth_url = ""
        self.control_cause = Cause.OTHER
        self._said = ("", "")

    def handle(self, event: ControlEvent, *, accepted: bool, fresh: bool) -> Iterator[NodeEvent]:
        """What follows from ``event``, for whoever watches; use it up at once.

        Args:
            event: of the session in use, or of the login beside it.
            accepted: the session in use is logged in.
            fresh: a login with a new key is under way.
        """
        match event:
            case Registered():
                yield from self._accepted(event)
            case AuthURL(url):
                yield from self._must_visit(url, fresh=fresh)
            case LoginFailed(message, retry_in, pending=pending, final=final, cause=cause):
                self._say("login", message, retry_in)
                if not accepted:
                    self.login_problem, self.control_cause = message, cause
                if final or not pending:  # else the person is still to open the URL
                    yield LoginRefused(message)
            case PopBrowser(url):
                yield BrowseToURL(url)
            case Connected():
                self.control_problem, self.control_cause = "", Cause.OTHER
                self._said = ("", "")
            case Disconnected(reason, retry_in, cause):
                self._say("control", reason, retry_in)
                self.control_problem = f"not in contact with the control server: {reason}"
                self.control_cause = cause
            case NetmapChanged(netmap, full, changed, removed):
                self.netmap = netmap
                yield from self._note_account(netmap)
                yield NetworkMapChanged(netmap, None if full else changed | removed)

    def _say(self, what: str, why: str, retry_in: float | None) -> None:
        """Log a problem once, until it is another or is over: a server may be away for days."""
        level = logging.DEBUG if (what, why) == self._said else logging.INFO
        self._said = (what, why)
        log.log(level, "%s: %s (%s)", what, why, _next_try(retry_in))

    def _accepted(self, event: Registered) -> Iterator[NodeEvent]:
        record = self._record
        if not record.registered:
            log.info("logged in to %s as %s", record.prefs.server_url, event.login_name)
        record.node_key = event.node_key
        self.login_problem = self.auth_url = ""
        record.note(
            node_key=event.node_key,
            old_node_key=event.old_node_key,
            user_profile=UserProfile(
                id=event.user_id, login_name=event.login_name, display_name=event.display_name
            ),
        )
        yield LoginFinished()

    def _must_visit(self, url: str, *, fresh: bool) -> Iterator[NodeEvent]:
        if not fresh and self._record.registered:
            # The server does not take our key: the node was deleted there, and is no part of the
            # tailnet any more.
            log.info("the control server does not know this node any more: log in again")
            self.netmap = None
        self.auth_url = url
        yield BrowseToURL(url)

    def _note_account(self, netmap: NetworkMap) -> Iterator[NodeEvent]:
        """The server said who this is; an older profile of the same account is replaced."""
        me, stored = netmap.self_node, self._record.stored
        network = NetworkProfile(
            magic_dns_name=me.name.partition(".")[2].rstrip("."),
            domain_name=netmap.domain,
            display_name=_display_name(me),
        )
        if (stored.node_id, stored.network) == (me.stable_id, network):
            return
        known = replace(
            stored,
            node_id=me.stable_id,
            network=network,
            created=stored.created or self._wall(),
        )
        try:
            gone = self._record.write(profiles.absorbed(known))
        except UserError as error:
            log.warning("%s", error)
            self._record.stored = known
        else:
            if gone:
                yield ProfileChanged(known.profile_id, gone)


def _next_try(retry_in: float | None) -> str:
    if retry_in is None:
        return "that auth key is not tried again; log in with another: tnet up --auth-key=KEY"
    return f"trying again in {retry_in:.1f} s"


def _display_name(me: Node) -> str:
    """What people call the tailnet; empty if the server does not say.

    Source: tailscale tailcfg/tailcfg.go, NodeAttrTailnetDisplayName.
    """
    values = (me.cap_map or {}).get("tailnet-display-name") or ()
    try:
        return msgspec.json.decode(values[0], type=str) if values else ""
    except msgspec.DecodeError:
        return ""
