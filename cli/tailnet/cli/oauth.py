"""An auth key from the server's API, for OAuth clients and workload identities.

Two requests: credentials for an access token, and with it a key that is good for one machine.

Source: tailscale feature/oauthkey/oauthkey.go, feature/identityfederation/identityfederation.go.
"""

import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from tailnet.cli.errors import Failure
from tailnet.cli.text import clean

DEFAULT_API = "https://api.tailscale.com"
TIMEOUT = 30.0  # seconds for one request
MAX_ANSWER = 64 << 10  # bytes
T = TypeVar("T")
TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class Token(msgspec.Struct):
    """Answer to credentials."""

    access_token: str


class Key(msgspec.Struct):
    """Answer to a wish for a key."""

    key: str


class ApiError(msgspec.Struct):
    """What the API says when it refuses."""

    message: str = ""
    error_description: str = ""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What follows the question mark of a secret or client id."""

    ephemeral: bool = True
    preauthorized: bool = False
    api: str = DEFAULT_API


def key_for_secret(secret: str, client_id: str, tags: list[str]) -> str:
    """A key for ``tskey-client-…[?ephemeral=…&preauthorized=…&baseURL=…]``.

    Raises:
        Failure: bad attributes, no tags, or the API refuses.
    """
    secret, attributes = split_attributes(secret)
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id or "tnet",  # the secret says whose it is
        "client_secret": secret,
    }
    return _make_key("/api/v2/oauth/token", form, attributes, tags)


def key_for_token(client_id: str, token: str, tags: list[str]) -> str:
    """A key for an identity token; the client id may have attributes like a secret.

    Raises:
        Failure: bad attributes, no tags, or the API refuses.
    """
    client_id, attributes = split_attributes(client_id)
    form = {"client_id": client_id, "jwt": token}
    return _make_key("/api/v2/oauth/token-exchange", form, attributes, tags)


def split_attributes(text: str) -> tuple[str, Attributes]:
    """The part before the question mark, and what the rest says.

    Raises:
        Failure: it says something unknown.
    """
    text, _, query = text.partition("?")
    values = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    for name in values:
        if name not in ("ephemeral", "preauthorized", "baseURL"):
            msg = (
                f"unknown attribute {name!r} of an OAuth client; there are ephemeral, "
                "preauthorized and baseURL"
            )
            raise Failure(clean(msg))
    api = (values.get("baseURL") or DEFAULT_API).rstrip("/")
    if urllib.parse.urlsplit(api).scheme not in {"http", "https"}:
        msg = f"baseURL={clean(api)} is not a URL"
        raise Failure(msg)
    return text, Attributes(
        ephemeral=_bool(values, "ephemeral", default=True),
        preauthorized=_bool(values, "preauthorized", default=False),
        api=api,
    )


def _bool(values: dict[str, str], name: str, *, default: bool) -> bool:
    value = values.get(name, "")
    if value and value not in TRUE | FALSE:
        msg = f"{name}={clean(value)} is neither true nor false"
        raise Failure(msg)
    return value in TRUE if value else default


def _make_key(path: str, form: dict[str, str], attributes: Attributes, tags: list[str]) -> str:
    if not tags:
        msg = "an OAuth client makes keys for tagged machines only; add --advertise-tags=tag:NAME"
        raise Failure(msg)
    token = _post(
        attributes.api + path,
        urllib.parse.urlencode(form).encode(),
        {"Content-Type": "application/x-www-form-urlencoded"},
        Token,
    )
    create = {
        "reusable": False,
        "ephemeral": attributes.ephemeral,
        "preauthorized": attributes.preauthorized,
        "tags": tags,
    }
    wish = {"capabilities": {"devices": {"create": create}}}
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {token.access_token}",
    }
    return _post(
        f"{attributes.api}/api/v2/tailnet/-/keys", msgspec.json.encode(wish), headers, Key
    ).key


def _post(url: str, body: bytes, headers: dict[str, str], kind: type[T]) -> T:
    """One request.

    Raises:
        Failure: with the API's words.
    """
    where = url.partition("/api/")[0]
    request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
        url, body, {"User-Agent": "tnet", "Accept": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            answer = response.read(MAX_ANSWER)
        return msgspec.json.decode(answer, type=kind)
    except urllib.error.HTTPError as error:
        with error:
            why = _words(error.read(MAX_ANSWER)) or str(error.reason)
        msg = f"{where} makes no auth key: {clean(why)} ({error.code})"
    except urllib.error.URLError as error:
        msg = f"cannot reach {where}: {error.reason}"
    except OSError as error:
        msg = f"cannot reach {where}: {error}"
    except (msgspec.MsgspecError, RecursionError):
        msg = f"{where} does not answer as Tailscale's API does"
    raise Failure(msg)


def _words(answer: bytes) -> str:
    try:
        error = msgspec.json.decode(answer, type=ApiError)
    except (msgspec.MsgspecError, RecursionError):
        return ""
    return error.message or error.error_description
