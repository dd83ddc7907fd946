"""Why a path is as it is, for people."""

from enum import Enum


class Why(Enum):
    """What last changed a path, in words."""

    NOTHING = "nothing was sent yet"
    ANSWERED = "it answered a ping while no path was trusted"
    BETTER = "it answered a ping and is better"
    LAPSED = "no pong for 6.5 s"
    TIMED_OUT = "a ping was not answered within 5 s"
    RELAYED = "no direct path answers, and a peer relay does"
    REFUSED = "the kernel refused to send"
    WITHDRAWN = "nobody claims the address any longer"
    MOVED = "the peer sends from elsewhere, and no longer answers where it was"
    FOLLOWED = "the peer sends from there, and it answers as well"
    NETWORK = "this machine is on another network"
