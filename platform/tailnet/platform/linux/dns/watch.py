"""Hints that somebody else changed how the host resolves names: inotify and the system bus."""

import asyncio
import contextlib
import logging
from pathlib import Path

from asyncinotify import Inotify, Mask

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.dns.bus import open_bus
from tailnet.platform.linux.dns.facts import MANAGER, RESOLVED

log = logging.getLogger("tailnet.platform")

_LONGEST = 30.0  # seconds between attempts to reach the bus
_LOOK = 10.0  # seconds between looks at the file where the kernel does not tell
_CHANGES = Mask.ATTRIB | Mask.CLOSE_WRITE | Mask.CREATE | Mask.DELETE | Mask.MODIFY | Mask.MOVE


async def watch_file(path: Path, changed: asyncio.Event) -> None:
    """Set ``changed`` whenever the file may be another.  For ever.

    Where inotify fails, as when its limits are reached, the file is looked at now and then.
    """
    told = False
    while True:
        try:
            with Inotify() as inotify:
                inotify.add_watch(path.parent, _CHANGES)
                _watch_mounted(inotify, path)
                changed.set()  # what happened before is not told
                async for event in inotify:
                    if event.name is None or event.name.name == path.name:
                        changed.set()
                        _watch_mounted(inotify, path)
        except OSError as error:
            if not told:
                log.warning("DNS: %s is looked at every %.0f s: %s", path, _LOOK, error)
            told = True
        await asyncio.sleep(_LOOK)
        changed.set()


def _watch_mounted(inotify: Inotify, path: Path) -> None:
    """The file itself: the directory says nothing of changes of a file mounted there."""
    with contextlib.suppress(OSError):
        inotify.add_watch(path, Mask.MODIFY | Mask.CLOSE_WRITE)


async def watch_bus(came: asyncio.Event, changed: asyncio.Event) -> None:
    """Set ``came`` when systemd-resolved starts anew, both when other programs come or go.

    What happened while there was no bus is not told, so a new bus counts as a new start.
    """
    pause, lost = 1.0, False
    while True:
        try:
            async with open_bus() as bus:
                if lost:
                    came.set()
                    changed.set()
                async for name, here in bus.owners((RESOLVED, MANAGER)):
                    pause = 1.0
                    if name == RESOLVED and here:
                        came.set()
                    changed.set()
        except PlatformError as error:
            log.debug("DNS: %s", error)
        lost = True
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST)
