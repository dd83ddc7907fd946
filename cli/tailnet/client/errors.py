"""What can go wrong between a program and the daemon; the text is for people."""


class ClientError(Exception):
    """There is no answer, or it makes no sense."""


class NotRunning(ClientError):
    """Nobody answers on the socket, or not any more."""


class TimedOut(ClientError):
    """The caller's own patience ended."""


class Refused(ClientError):
    """The daemon answered with an error: ``status`` is HTTP's, the text is the daemon's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
