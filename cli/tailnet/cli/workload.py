"""The identity token of the workload that we are part of, for one audience.

Source: tailscale wif/wif.go; GitHub's "OpenID Connect in cloud providers"; Google's "Verify the
identity of instances".
"""

import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tailnet.cli.errors import Failure
from tailnet.cli.text import clean

TIMEOUT = 10.0  # seconds
MAX_ANSWER = 64 << 10  # bytes
GITHUB_URL, GITHUB_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
GOOGLE_HOST = "GCE_METADATA_HOST"
GOOGLE_PATH = "/computeMetadata/v1/instance/service-accounts/default/identity"
PRODUCT = "sys/class/dmi/id/product_name"
VENDOR = "sys/class/dmi/id/sys_vendor"


class GithubAnswer(msgspec.Struct):
    """What GitHub answers."""

    value: str


def identity_token(
    audience: str, environ: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> str:
    """Ask whoever runs us who we are.

    Raises:
        Failure: nobody is known to run us, or it does not say.
    """
    if environ.get(GITHUB_URL) and environ.get(GITHUB_TOKEN):
        return _from_github(audience, environ[GITHUB_URL], environ[GITHUB_TOKEN])
    if environ.get(GOOGLE_HOST) or "Google Compute Engine" in _read(root / PRODUCT):
        return _from_google(audience, environ.get(GOOGLE_HOST) or "metadata.google.internal")
    if "Amazon EC2" in _read(root / VENDOR):
        msg = "identity tokens of AWS are not supported; get one yourself and give --id-token"
        raise Failure(msg)
    msg = (
        "--audience works in GitHub Actions and on Google Cloud only (in Actions the job needs "
        "'permissions: id-token: write'); elsewhere give the token with --id-token"
    )
    raise Failure(msg)


def _from_github(audience: str, url: str, token: str) -> str:
    mark = "&" if "?" in url else "?"
    url = f"{url}{mark}audience={urllib.parse.quote(audience, safe='')}"
    answer = _get(url, {"Authorization": f"Bearer {token}"}, "GitHub Actions")
    try:
        return msgspec.json.decode(answer, type=GithubAnswer).value
    except (msgspec.MsgspecError, RecursionError):
        msg = "GitHub Actions gave no identity token"
        raise Failure(msg) from None


def _from_google(audience: str, host: str) -> str:
    query = urllib.parse.urlencode({"audience": audience, "format": "full"})
    answer = _get(f"http://{host}{GOOGLE_PATH}?{query}", {"Metadata-Flavor": "Google"}, "Google")
    return answer.decode("ascii", "replace").strip()


def _get(url: str, headers: Mapping[str, str], whose: str) -> bytes:
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        msg = f"{whose} gave no usable URL for identity tokens"
        raise Failure(msg)
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - looked at above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            return bytes(response.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            why = clean(error.read(200).decode("utf-8", "replace").strip() or str(error.reason))
        msg = f"{whose} gave no identity token: {why} ({error.code})"
    except OSError as error:
        msg = f"{whose} gave no identity token: {getattr(error, 'reason', error)}"
    raise Failure(msg)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
