"""What the other side of the system's D-Bus may say."""

from tailnet.platform.interface import PlatformError


class BusError(PlatformError):
    """An error that was answered.

    Attributes:
        name: as ``org.freedesktop.DBus.Error.UnknownMethod``.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name
