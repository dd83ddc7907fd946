"""Where an auth key comes from: a flag, a file, or a server that makes one.

Source: tailscale cmd/tailscale/cli/up.go, resolveAuthKey; feature/oauthkey, identityfederation.
"""

from dataclasses import dataclass
from typing import Any

import click

from tailnet.cli.errors import Failure
from tailnet.cli.flags import gathered
from tailnet.cli.settings import Prefs

MAX_KEY_FILE = 16 << 10  # bytes; identity tokens are a few kilobytes
OAUTH_PREFIX = "tskey-client-"
PARAMETER_STORE = "arn:aws:ssm:"


@dataclass(frozen=True, slots=True)
class KeyInputs:
    """The flags, as given."""

    auth_key: str = ""
    client_id: str = ""
    client_secret: str = ""
    id_token: str = ""
    audience: str = ""


key_options = gathered(
    "keys",
    KeyInputs,
    click.option(
        "--auth-key",
        default="",
        metavar="KEY",
        envvar="TS_AUTHKEY",
        help="Auth key or OAuth client secret to log in with; file:PATH reads a file.",
    ),
    click.option(
        "--client-id",
        default="",
        metavar="ID",
        help="OAuth client to make an auth key with.",
    ),
    click.option(
        "--client-secret",
        default="",
        metavar="SECRET",
        help="OAuth client secret; file:PATH reads a file.",
    ),
    click.option(
        "--id-token",
        default="",
        metavar="JWT",
        help="Identity token of this workload, for --client-id; file:PATH reads a file.",
    ),
    click.option(
        "--audience",
        default="",
        metavar="AUDIENCE",
        help="Get the identity token from GitHub Actions or Google Cloud.",
    ),
)
"""The flags that say where the key comes from."""


def read_value(text: str, what: str) -> str:
    """The value itself, where ``file:PATH`` stands for the content of a file.

    Raises:
        Failure: the file cannot be read.
    """
    if not text.startswith("file:"):
        return text.strip()
    path = text.removeprefix("file:")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_KEY_FILE)
    except OSError as error:
        msg = f"cannot read the {what} file {path}: {error.strerror}"
        raise Failure(msg) from None
    except UnicodeDecodeError:
        msg = f"cannot read the {what} file {path}: it is not text"
        raise Failure(msg) from None
    if not text.strip():
        msg = f"cannot read the {what} file {path}: it is empty"
        raise Failure(msg)
    return text.strip()


def resolve(inputs: KeyInputs, tags: Prefs) -> str:
    """The auth key to log in with; empty for none.

    Args:
        inputs: what the user gave.
        tags: prefs that hold ``AdvertiseTags``, which a key that is made must have.

    Raises:
        Failure: nothing usable was given, or no key could be made.
    """
    if inputs.auth_key.startswith(PARAMETER_STORE):
        msg = "auth keys in AWS's parameter store are not read; give the key, or file:PATH"
        raise Failure(msg)
    key = read_value(inputs.auth_key, "auth key")
    secret = read_value(inputs.client_secret, "client secret")
    token = read_value(inputs.id_token, "identity token")
    if complaint := _complaint(key, secret, token, inputs.client_id, inputs.audience):
        raise Failure(complaint)
    if inputs.audience:
        from tailnet.cli.workload import identity_token  # noqa: PLC0415 - seldom needed

        token = identity_token(inputs.audience)
    wanted: Any = tags.get("AdvertiseTags")
    tag_list = [str(tag) for tag in wanted or ()]
    if token:
        from tailnet.cli import oauth  # noqa: PLC0415 - seldom needed

        return oauth.key_for_token(inputs.client_id, token, tag_list)
    if secret or key.startswith(OAUTH_PREFIX):
        from tailnet.cli import oauth  # noqa: PLC0415 - seldom needed

        return oauth.key_for_secret(secret or key, inputs.client_id, tag_list)
    return key


def _complaint(key: str, secret: str, token: str, client: str, audience: str) -> str:
    """What of all that was given does not go together; empty if all does."""
    rules = (
        (
            bool(key) + bool(secret or client) > 1,
            "give only one of --auth-key, --client-secret and --client-id",
        ),
        (
            audience and (token or not client),
            "--audience needs --client-id, and takes the place of --id-token",
        ),
        (
            client and not (token or secret or audience),
            "--client-id needs --id-token, --audience or --client-secret",
        ),
        (token and not client, "--id-token needs --client-id"),
    )
    return next((text for wrong, text in rules if wrong), "")
