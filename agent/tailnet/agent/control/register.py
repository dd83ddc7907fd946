"""Registration: what to send, and what a reply means.

Source: tailscale control/controlclient/direct.go, doLogin; ipn/ipnlocal/local.go,
validPopBrowserURL.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from tailnet.agent._version import CAPABILITY_VERSION
from tailnet.agent.control.backoff import uniform
from tailnet.agent.control.config import ControlConfig
from tailnet.agent.control.events import Registered
from tailnet.agent.control.trouble import Cause
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate
from tailnet.agent.tailcfg.codec import ZERO_TIME, decode_untrusted
from tailnet.agent.tailcfg.node import ZERO_NODE, Hostinfo
from tailnet.agent.tailcfg.register import RegisterAuth, RegisterRequest, RegisterResponse

LOGOUT_EXPIRY = datetime.fromtimestamp(123, UTC)  # direct.go: any past time would do
MAX_RETRY_AFTER = 3600.0  # seconds
MAX_ERROR_TEXT = 200  # characters of a server's text that are shown
LOCK_KEY_LEN = 64  # bytes
NOT_ALLOWED = (401, 403)  # HTTP status


@dataclass(frozen=True, slots=True)
class Accepted:
    """The node key is good; go on to the map."""

    response: RegisterResponse


@dataclass(frozen=True, slots=True)
class Visit:
    """A person must open ``url``; register again at once, as follow-up to it."""

    url: str


@dataclass(frozen=True, slots=True)
class Again:
    """Register again at once: with a fresh key, or without the follow-up."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The person has not opened the URL yet; ask again after the usual backoff, and say nothing."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Show ``message`` and try again later: after ``wait`` seconds, or the usual backoff."""

    message: str
    wait: float | None = None
    final: bool = False
    """The server understood and says no; asking again will not help by itself."""
    cause: Cause = Cause.OTHER


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """Show ``message``; the auth key is no good, however often it is tried."""

    message: str


Step = Accepted | Visit | Again | Pending | Refused | KeyRefused


class Registration:
    """The machine of one login, from the first request to acceptance.

    Attributes:
        node_key: in use, or on trial; a fresh one where the configuration has none.
        old_node_key: what ``node_key`` once replaced; sent every time, as others do.
    """

    def __init__(self, config: ControlConfig, random_bytes: Callable[[int], bytes]) -> None:
        self._server_url = config.server_url
        self._random_bytes = random_bytes
        self._fresh = config.node_key is None
        self.node_key = config.node_key or NodePrivate.from_random(random_bytes(32))
        self.old_node_key = config.old_node_key
        self._lock_key = config.lock_key
        self._auth_key = strip_lock_suffix(config.auth_key)
        self._ephemeral = config.ephemeral
        self._followup = ""

    def request(self, hostinfo: Hostinfo, *, expiry: datetime = ZERO_TIME) -> RegisterRequest:
        """The next request; with ``expiry`` in the past it is a logout."""
        return RegisterRequest(
            version=CAPABILITY_VERSION,
            node_key=public_of(self.node_key),
            old_node_key=public_of(self.old_node_key) if self.old_node_key else ZERO_NODE,
            nl_key=self._lock_key,
            auth=RegisterAuth(auth_key=self._auth_key) if self._auth_key else None,
            expiry=expiry,
            followup=self._followup,
            hostinfo=hostinfo,
            ephemeral=self._ephemeral,
        )

    def judge_untrusted(
        self, status: int, headers: Mapping[str, str], body: bytes, wall: datetime
    ) -> Step:
        """What the reply means; the order of the questions is part of the protocol."""
        if status == 429:
            wait = retry_after(headers.get("retry-after", ""), wall)
            if wait is None:
                wait = uniform(self._random_bytes, 5, 10)
            return Refused("the control server is rate limiting logins", wait)
        if status == 410 and self._followup:
            self._followup = ""
            return Again()
        if status != 200:
            said = f"register answered {status}: {one_line_untrusted(body)}"
            return KeyRefused(said) if self._auth_key and status in NOT_ALLOWED else Refused(said)
        try:
            return self._judge_response(decode_untrusted(body, RegisterResponse))
        except BadPacket as error:
            return Refused(f"register answered something else than a reply: {error}")

    def _judge_response(self, response: RegisterResponse) -> Step:
        if response.error:
            text = one_line_untrusted(response.error.encode("utf-8", "replace"))
            return KeyRefused(text) if self._auth_key else Refused(text, final=True)
        if response.node_key_signature:
            return Refused("this tailnet is locked: the node key must be signed, which is missing")
        if response.node_key_expired:
            return self._rotate()
        if response.auth_url:
            return self._visit(response.auth_url)
        return Accepted(response)

    def renew(self) -> None:
        """Start over with the same node key: the server has forgotten us.

        An auth key is for the first login only.  Who deleted this node does not want it back, and
        a key that may be used again would undo that at once.
        """
        self._fresh = False
        self._followup = self._auth_key = ""

    @property
    def pending(self) -> bool:
        """A person was asked to open a URL."""
        return bool(self._followup)

    def registered(self, response: RegisterResponse) -> Registered:
        """The event for an accepted login."""
        return Registered(
            node_key=self.node_key,
            old_node_key=self.old_node_key,
            user_id=response.user.id,
            login_name=response.login.login_name,
            display_name=response.user.display_name or response.login.display_name,
            machine_authorized=response.machine_authorized,
        )

    def _rotate(self) -> Step:
        if self._fresh:
            return Refused("the control server says that a new node key has expired")
        self.old_node_key = self.node_key
        self.node_key = NodePrivate.from_random(self._random_bytes(32))
        self._fresh = True
        self._followup = ""
        return Again()

    def _visit(self, url: str) -> Step:
        if not is_valid_auth_url(url, self._server_url):
            return Refused(
                "the control server sent a login URL that is not safe to open", final=True
            )
        if url == self._followup:
            return Pending()
        self._followup = url
        return Visit(url)


def is_valid_auth_url(url: str, server_url: str) -> bool:
    """Absolute https; http only for a server that is itself http; at Tailscale only Tailscale's."""
    try:
        parts, server = urlsplit(url), urlsplit(server_url)
        host, server_host = parts.hostname or "", server.hostname or ""
    except ValueError:
        return False
    if not host or not url.isprintable() or " " in url:
        return False
    if parts.scheme != "https" and not (parts.scheme == server.scheme == "http"):
        return False
    if server_host in {"controlplane.tailscale.com", "login.tailscale.com"}:
        return host == "tailscale.com" or host.endswith(".tailscale.com")
    return True


def strip_lock_suffix(auth_key: str) -> str:
    """An auth key without the tailnet-lock part that the server must not see.

    ``KEY--TL<signature>-<64 byte Ed25519 key>``, both base64 without padding; what does not decode
    is no such part.  Source: tailscale tka/sig.go, DecodeWrappedAuthkey.
    """
    key, mark, rest = auth_key.partition("--TL")
    signature, dash, private = rest.partition("-")
    if not (mark and dash and _unpadded_untrusted(signature)):
        return auth_key
    return key if len(_unpadded_untrusted(private)) == LOCK_KEY_LEN else auth_key


def _unpadded_untrusted(text: str) -> bytes:
    """Standard base64 without padding; empty if it is not that."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return b""


def retry_after(value: str, wall: datetime) -> float | None:
    """Seconds that a ``Retry-After`` header asks for; ``None`` if absent or unreasonable."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError):
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - wall).total_seconds()
    return seconds if 0 < seconds <= MAX_RETRY_AFTER else None


def says_unknown_node(status: int, text: str) -> bool:
    """True for a map error that a new registration may cure."""
    low = text.lower()
    about_node = "node" in low and any(word in low for word in ("not found", "unknown", "no such"))
    return status in {401, 404, 410} or (400 <= status < 500 and status != 429 and about_node)


def one_line_untrusted(body: bytes) -> str:
    """A server's text, safe and short enough to show."""
    text = " ".join(body[: 4 * MAX_ERROR_TEXT].decode("utf-8", "replace").split())
    return "".join(c if c.isprintable() else "?" for c in text)[:MAX_ERROR_TEXT]
