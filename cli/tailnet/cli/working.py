"""Something that moves while a person waits for longer than a moment."""

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from threading import Event

SOON = 0.5  # seconds before there is anything to see
EVERY = 0.1  # seconds between two frames
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN = "|/-\\"


class Working:
    """Shows ``text`` on a terminal's stderr until the end of the block, or :meth:`stop`.

    Where stderr is no terminal nothing is shown and nothing is started.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._stop: Callable[[], None] = _nothing

    def __enter__(self) -> Self:
        if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return self
        import threading  # noqa: PLC0415 - only for people

        ending = threading.Event()
        thread = threading.Thread(target=self._draw, args=(ending,), daemon=True)
        thread.start()

        def stop() -> None:
            ending.set()
            thread.join()

        self._stop = stop
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the line as empty as it was; what is printed next begins there."""
        self._stop()
        self._stop = _nothing

    def _draw(self, ending: "Event") -> None:
        frames = FRAMES if "utf" in (sys.stderr.encoding or "").lower() else PLAIN
        shown = 0
        pause = SOON
        while not ending.wait(pause):
            sys.stderr.write(f"\r{frames[shown % len(frames)]} {self._text} …")
            sys.stderr.flush()
            shown, pause = shown + 1, EVERY
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _nothing() -> None:
    """Nothing runs."""
