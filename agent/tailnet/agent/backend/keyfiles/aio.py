"""Secrets from files, or from credentials that the service manager unlocked for this service.

Source: systemd.exec(5), LoadCredential=; the forms ``file:`` and ``optional:`` are upstream's.
"""

from pathlib import Path

from tailnet.agent.backend.seal import MAX_SECRET, MIN_SECRET, Seal
from tailnet.agent.backend.store import RandomBytes
from tailnet.agent.errors import UserError

CREDENTIAL = "credential:"
FILE = "file:"
OPTIONAL = "optional:"


def read_state_key(spec: str, directory: str, random_bytes: RandomBytes) -> Seal:
    """The key that ``--state-key`` names.

    Args:
        spec: path of a file, or ``credential:NAME`` for one in ``directory``.
        directory: where the service manager puts credentials; empty if there is none.
        random_bytes: for salts.

    Raises:
        UserError: it is not there, or is no good.
    """
    path = Path(spec)
    if spec.startswith(CREDENTIAL):
        path = _credential("--state-key", spec, directory)
    try:
        with path.open("rb") as file:
            secret = file.read(MAX_SECRET + 2).rstrip(b"\r\n")
    except OSError as error:
        msg = f"cannot read the state key {path}: {error.strerror or error}"
        raise UserError(msg) from None
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        msg = (
            f"the state key {path} has {len(secret)} bytes, not {MIN_SECRET} to {MAX_SECRET}; "
            f"make one with: openssl rand -hex 32"
        )
        raise UserError(msg)
    return Seal(secret, random_bytes)


def read_auth_key(spec: str, directory: str) -> str:
    """The key that ``--auth-key`` or ``TS_AUTHKEY`` means.

    Args:
        spec: the key itself, ``file:PATH`` or ``credential:NAME``; with ``optional:`` before it,
            what is not there is no key.
        directory: as for :func:`read_state_key`.

    Raises:
        UserError: it cannot be read.
    """
    optional = spec.startswith(OPTIONAL)
    spec = spec.removeprefix(OPTIONAL)
    try:
        if spec.startswith(CREDENTIAL):
            if optional and not directory:
                return ""
            spec = f"{FILE}{_credential('--auth-key', spec, directory)}"
        return key_or_file(spec)
    except FileNotFoundError as error:
        if optional:
            return ""
        msg = f"there is no file {error.filename} with an auth key"
        raise UserError(msg) from None
    except OSError as error:
        msg = f"cannot read the auth key {error.filename}: {error.strerror or error}"
        raise UserError(msg) from None


def key_or_file(text: str) -> str:
    """The auth key; ``file:PATH`` stands for the content of a file.

    Raises:
        OSError: it cannot be read.
    """
    if not text.startswith(FILE):
        return text
    return Path(text.removeprefix(FILE)).read_text(encoding="utf-8", errors="replace").strip()


def _credential(flag: str, spec: str, directory: str) -> Path:
    name = spec.removeprefix(CREDENTIAL)
    if not directory:
        msg = f"{flag}={spec}: the service manager gave no credentials"
        raise UserError(msg)
    if not name or "/" in name or name in (".", ".."):
        msg = f"{flag}={spec}: the name of a credential has no slash"
        raise UserError(msg)
    return Path(directory) / name
