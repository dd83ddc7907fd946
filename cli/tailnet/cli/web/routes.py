"""Which request gets what: the page, its two assets, its events, and actions.

The page is for a browser on this machine.  What it may do is what this user may do at the daemon.
"""

import hmac
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import NamedTuple

from msgspec import DecodeError, Struct, json

from tailnet.cli.client import LocalClient
from tailnet.cli.errors import Failure
from tailnet.cli.web.markup import tag
from tailnet.cli.web.page import View, render
from tailnet.client import questions
from tailnet.client.errors import ClientError

MAX_BODY = 4096  # bytes of an action
TYPES = {
    "style.css": "text/css; charset=utf-8",
    "script.js": "text/javascript; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Answer(NamedTuple):
    """One whole answer."""

    status: int
    content_type: str
    body: bytes


class Action(Struct, frozen=True):
    """What a button asks for."""

    action: str
    value: str = ""


def text(status: int, message: str) -> Answer:
    """A plain text answer."""
    return Answer(status, "text/plain; charset=utf-8", message.encode())


class Site:
    """Answers requests; knows no socket.

    Args:
        client: the daemon.
        look: a new look at it.
        token: what an action must bring; empty: there are no actions.
        hosts: values of ``Host`` that mean this site.
    """

    def __init__(
        self,
        client: LocalClient,
        look: Callable[[], View],
        *,
        token: str,
        hosts: frozenset[str],
    ) -> None:
        self._client = client
        self._look = look
        self._token = token
        self._hosts = hosts

    def is_ours(self, headers: Mapping[str, str]) -> bool:
        """Other names that lead here, and other sites' scripts, are kept out."""
        origin = headers.get("Origin")
        own = {f"http://{host}" for host in self._hosts}
        return headers.get("Host", "") in self._hosts and (origin is None or origin in own)

    def get(self, path: str) -> Answer:
        """The page, or one of its assets."""
        assets = files("tailnet.cli.web") / "assets"
        if path == "/":
            page = (assets / "index.html").read_text("utf-8")
            whole = page.replace("<!-- here -->", self.fragment())
            return Answer(200, "text/html; charset=utf-8", whole.encode())
        kind = TYPES.get(path.removeprefix("/"))
        if kind is None:
            return text(404, "not found\n")
        return Answer(200, kind, (assets / path.removeprefix("/")).read_bytes())

    def fragment(self) -> str:
        """The changing part, or why there is none."""
        try:
            return str(render(self._look()))
        except (ClientError, Failure) as error:
            return str(tag("p", error))

    def post(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """An action."""
        given = headers.get("X-Tnet-Token", "")
        if path != "/action":
            return text(404, "not found\n")
        if not self._token:
            return text(403, "this page only shows; start it with: tnet web --actions")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return text(403, "open the page by the address that tnet web printed")
        try:
            self._act(json.decode(body, type=Action))
        except (DecodeError, UnicodeDecodeError):
            return text(400, "no such action")
        except (ClientError, Failure) as error:
            return text(409, str(error))
        return text(200, "done")

    def _act(self, wanted: Action) -> None:
        match wanted.action:
            case "up" | "down":
                self._client.edit_prefs({"WantRunning": wanted.action == "up"})
            case "login":
                self._client.ask(questions.login_interactive())
            case "exit-node":
                self._client.edit_prefs({"ExitNodeID": wanted.value})
            case _:
                msg = "no such action"
                raise Failure(msg)
