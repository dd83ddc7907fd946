"""Going on with a map session after its stream broke.

A server may name a session in its first message and number the messages that change state; a client
that names both again may get what it missed instead of the whole map.

Source: tailscale tailcfg/tailcfg.go, MapRequest.MapSessionHandle and MapResponse.Seq.
"""

from dataclasses import dataclass

from tailnet.agent.control.fold import Folder


@dataclass(frozen=True, slots=True)
class Resume:
    """A session that can go on.

    Attributes:
        handle: the server's name for it.
        seq: number of the last message that was folded.
        folder: what the messages so far have made.
    """

    handle: str
    seq: int
    folder: Folder
