"""The tree of errors that cross room boundaries.

Three kinds of wrong (h11's distinction, plus one for datagrams):

* :class:`LocalProtocolError` — our own caller misused a core;
* :class:`RemoteProtocolError` — the other end of a stream misbehaved: the connection is over;
* :class:`BadPacket` — hostile or damaged bytes, not worth more than a counter. Functions whose
  name ends in ``_untrusted`` let out nothing else.

:class:`UserError` carries text that is shown to a person as it is.
"""


class TailnetError(Exception):
    """Base of everything this program raises on purpose."""


class LocalProtocolError(TailnetError):
    """A core was driven in a way its contract forbids; a bug on our side."""


class RemoteProtocolError(TailnetError):
    """The peer of a stream broke its protocol; close the connection."""


class BadPacket(TailnetError):
    """Bytes from the network that do not parse or do not authenticate."""


class UserError(TailnetError):
    """One clear line for the user: what is wrong and what to do."""


class NeedsLogin(TailnetError):
    """The control server does not accept this node key; a new login is needed."""
