"""How long the event loop was held by one callback."""

import asyncio
import gc
import time


class Blocks:
    """Times every callback of the event loop; keeps the longest of each phase."""

    def __init__(self) -> None:
        self._longest = (0.0, "nothing")
        self._collected = False
        gc.callbacks.append(self._note_collection)
        inner = asyncio.events.Handle._run

        def run(handle: asyncio.Handle) -> None:
            self._collected = False
            began, busy = time.perf_counter(), time.thread_time()
            callback = handle._callback  # type: ignore[attr-defined]
            inner(handle)
            took, busy = time.perf_counter() - began, time.thread_time() - busy
            if took > self._longest[0]:
                what = f"{busy * 1e3:.0f} of CPU; {_name(callback)}"
                self._longest = (took, what + " + gc" * self._collected)

        asyncio.events.Handle._run = run  # type: ignore[assignment]

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        self._collected |= phase == "stop" and info["generation"] == 2

    def take(self) -> tuple[float, str]:
        """The longest since the last call [s], and what ran."""
        longest, self._longest = self._longest, (0.0, "nothing")
        return longest


def _name(callback: object) -> str:
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return f"task {owner.get_name()}"
    return getattr(callback, "__qualname__", type(callback).__name__)
