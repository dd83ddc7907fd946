"""Change prefs or log in, then follow the bus until connected.

Source: tailscale cmd/tailscale/cli/up.go, runUp.
"""

import re
import time
from dataclasses import dataclass

import click
from msgspec import json

from tailnet.agent.localapi.schema.basics import Problem, decode
from tailnet.agent.localapi.schema.bus import INITIAL_STATE, NO_NETMAP, Notify
from tailnet.agent.localapi.schema.status import STATES, Status
from tailnet.cli import qr
from tailnet.cli.client import LocalClient
from tailnet.cli.errors import Failure, Silent, warn
from tailnet.cli.flags import DURATION, flag, gathered
from tailnet.cli.jsontext import harmless
from tailnet.cli.settings import DEFAULT_SERVER, Prefs, expand
from tailnet.cli.text import clean
from tailnet.cli.working import Working
from tailnet.client.errors import ClientError, TimedOut
from tailnet.client.sync import Watch

TIMEOUT_TEXT = (
    "timeout waiting for Tailscale service to enter a Running state; "
    'check health with "tnet status"'
)
GOES_ON = "\ntailnetd goes on without us; look with: tnet status, and stop it with: tnet down"
# Words of Tailscale, Headscale and of our own about the key that a login was tried with.
ABOUT_AUTH_KEYS = re.compile(r"\b(?:pre)?auth[ -]?key|\bapi key|\binvalid key", re.IGNORECASE)
NOT_SENT = frozenset(("Config", "InternalExitNodePrior"))  # of Prefs: the daemon's own


@dataclass(frozen=True, slots=True, kw_only=True)
class UpPlan:
    """What to send and what to wait for.

    Attributes:
        edit: prefs to change.
        start: log in with them, instead of only changing them.
        wait: until connected.
        auth_key: for the login.
        interactive: ask for a login URL.
        fresh_key: done only when the node key is another than before.
        server: base URL of the control server, for advice.
        qr: how to draw the login URL; empty: not at all.
    """

    edit: Prefs
    start: bool
    wait: bool = True
    auth_key: str = ""
    interactive: bool = False
    fresh_key: bool = False
    server: str = DEFAULT_SERVER
    qr: str = ""


class Patience:
    """How long to wait [s] from now on; 0 is for ever."""

    def __init__(self, seconds: float) -> None:
        self._end = _now() + seconds if seconds else None

    def left(self) -> float | None:
        """Seconds that are left; ``None`` is for ever.

        Raises:
            TimedOut: none.
        """
        if self._end is None:
            return None
        left = self._end - _now()
        if left <= 0:
            raise TimedOut(TIMEOUT_TEXT)
        return left


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a person waits for a login.

    Attributes:
        timeout: seconds; 0 is for ever.
        qr: draw the login URL.
        qr_format: how.
    """

    timeout: float
    qr: bool
    qr_format: str

    @property
    def drawn(self) -> str:
        """As :attr:`UpPlan.qr`."""
        return self.qr_format if self.qr else ""


waiting_options = gathered(
    "waiting",
    Waiting,
    click.option(
        "--timeout",
        type=DURATION,
        default=0.0,
        metavar="DURATION",
        help="How long to wait for a connection, such as 30s; 0s is for ever.",
    ),
    flag("qr", help="Show a QR code of the login URL too."),
    click.option(
        "--qr-format",
        type=click.Choice(qr.FORMATS),
        default="auto",
        help="How to draw it: for any terminal (ascii), or with Unicode blocks.",
    ),
)
"""The flags of that."""


def _now() -> float:
    return time.monotonic()  # noqa: TID251 - a program for people, with the daemon's clock elsewhere


def connect(
    client: LocalClient, before: Status, plan: UpPlan, patience: Patience, *, json: bool
) -> None:
    """Do it and wait; ``json``: one object a step instead of text.

    Raises:
        Failure: refused, failed or timed out.
    """
    progress = Progress(client, before, plan, patience, json=json)
    try:
        progress.run()
    except (Failure, ClientError) as failure:
        if not json:
            raise
        say(BackendState=progress.state, Error=str(failure))
        raise Silent from None


def say(**fields: str | int) -> None:
    """One JSON object, indented by a tab as Go does it; empty fields are left out."""
    lines = [
        f'\t"{name}": {harmless(json.encode(value).decode())}'
        for name, value in fields.items()
        if value
    ]
    click.echo("{\n" + ",\n".join(lines) + "\n}")


def check_prefs(client: LocalClient, current: Prefs, edit: Prefs) -> dict[str, object]:
    """The whole prefs after an edit.

    Raises:
        Failure: the daemon would refuse them.
    """
    prefs = {**{k: v for k, v in current.items() if k not in NOT_SENT}, **expand(edit, current)}
    refused = decode(client.request("POST", "check-prefs", prefs), Problem).error
    if refused:
        raise Failure(clean(refused))
    return prefs


class Progress:
    """One ``up`` on its way."""

    def __init__(
        self, client: LocalClient, before: Status, plan: UpPlan, patience: Patience, *, json: bool
    ) -> None:
        self.state = before.backend_state
        self._client = client
        self._plan = plan
        self._patience = patience
        self._json = json
        self._old_key = before.self_.public_key if before.self_ else ""
        self._url = ""
        self._asked_for_url = plan.interactive
        self._working = Working("connecting")
        self._printed = self._sent = False
        # A start says the prefs that it begins with: what comes before is of an earlier login.
        self._begun = not plan.start

    def run(self) -> None:
        """Send, then follow the bus until connected."""
        plan = self._plan
        if not plan.wait:
            self._client.edit_prefs(plan.edit)
        else:
            # The watch comes first, so that nothing is missed.
            watch = self._client.watch(INITIAL_STATE | NO_NETMAP)
            try:
                with self._working:
                    first = self._next(watch)
                    self._send()
                    done = self._connected() if plan.start else self._handle(first)
                    while not done:
                        done = self._handle(self._next(watch))
            except KeyboardInterrupt:
                if self._sent and not self._json:
                    warn(GOES_ON)
                raise
            finally:
                watch.close()
        if self._json:
            say(BackendState="Running")
        elif self._printed:
            warn("Success.")

    def _send(self) -> None:
        plan = self._plan
        if not plan.start:
            self._sent = True
            self._client.edit_prefs(plan.edit)
            return
        prefs = check_prefs(self._client, self._client.prefs(), plan.edit)
        self._sent = True
        self._client.request("POST", "start", {"UpdatePrefs": prefs, "AuthKey": plan.auth_key})
        if plan.interactive:
            self._client.request("POST", "login-interactive", {})

    def _next(self, watch: Watch) -> Notify:
        try:
            return decode(watch.next_line(self._patience.left()), Notify)
        except TimedOut:
            raise TimedOut(TIMEOUT_TEXT) from None
        except ValueError as error:
            raise Failure(str(error)) from None

    def _connected(self) -> bool:
        status = self._client.status(peers=False)
        self.state = status.backend_state
        key = status.self_.public_key if status.self_ else ""
        return self.state == "Running" and not (self._plan.fresh_key and key == self._old_key)

    def _handle(self, notify: Notify) -> bool:
        """Act on one notification; true when connected."""
        self._begun |= notify.prefs is not None
        if not self._begun:
            return False  # about a login that our own has ended
        if notify.err_message:
            raise Failure(self._advised(clean(notify.err_message)))
        if notify.browse_to_url:
            self._show_url(clean(notify.browse_to_url))
        if notify.login_finished is not None and self._connected():
            return True  # a new key while connected changes no state
        if notify.state is None or not 0 <= notify.state < len(STATES):
            return False
        self.state = STATES[notify.state]
        if self.state == "NeedsLogin" and not self._plan.auth_key and not self._asked_for_url:
            self._asked_for_url = True
            self._client.request("POST", "login-interactive", {})
        if self.state == "NeedsMachineAuth":
            self._show_approval()
        return self.state == "Running" and self._connected()

    def _advised(self, text: str) -> str:
        """The server's words, and what to do about them where we know."""
        if self._plan.auth_key and ABOUT_AUTH_KEYS.search(text):
            return f"{text}; check the key, or make a new one on {self._plan.server}"
        return text

    def _show_url(self, url: str) -> None:
        if url == self._url:
            return
        self._url = url
        self._printed = True
        self._working.stop()  # now it is a person who is waited for
        if self._json:
            say(AuthURL=url, QR=qr.image(url) if self._plan.qr else "", BackendState=self.state)
            return
        warn(f"\nTo authenticate, visit:\n\n\t{url}\n")
        if self._plan.qr:
            warn(qr.terminal(url, self._plan.qr) + "\n")

    def _show_approval(self) -> None:
        self._printed = True
        self._working.stop()
        if self._json:
            say(BackendState=self.state)
            return
        server = self._plan.server
        base = "https://login.tailscale.com" if server == DEFAULT_SERVER else server
        warn(f"\nTo approve your machine, visit (as admin):\n\n\t{base}/admin\n")
