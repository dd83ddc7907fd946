"""Why there is no contact, as far as it makes a difference to people."""

from dataclasses import dataclass
from enum import Enum, auto

from tailnet.agent.errors import RemoteProtocolError, UserError


class ServerSilent(RemoteProtocolError):
    """Nothing came for longer than a server may be silent."""


class NoTls(UserError):
    """The server, or whoever stands before it, does not prove who it is."""


class Cause(Enum):
    """Of a failed login or a lost map stream."""

    OTHER = auto()
    SILENCE = auto()
    TLS = auto()


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a map stream ended; ``wait`` [s] is what the server asks for."""

    reason: str
    forgotten: bool = False
    wait: float = 0.0
    cause: Cause = Cause.OTHER


def cause_of(error: Exception) -> Cause:
    """What kind of trouble this is."""
    match error:
        case ServerSilent() | TimeoutError():
            return Cause.SILENCE
        case NoTls():
            return Cause.TLS
        case _:
            return Cause.OTHER
