"""``resolvconf``, of which there are two: Debian's and openresolv.

Both merge what the programs that configure interfaces tell them.  We are one of these; what we
must see to is that only our resolver is asked.

Source: resolvconf(8) of either; tailscale net/dns/debian_resolvconf.go, openresolv.go.
"""

import asyncio
import contextlib
import shutil
from pathlib import Path

from tailnet.platform.interface import NO_DNS, DnsConfig, PlatformError
from tailnet.platform.linux.dns.choose import Flavour
from tailnet.platform.linux.dns.text import parse, render

TIMEOUT = 10.0  # seconds; Debian's waits as long for its lock
RECORD = "tun-tailnet.inet"  # sorted before those of real interfaces
NAME = "tailnet"
_UNKNOWN_OPTION = 99  # how Debian's says that
_HOOK_TEXT = f"""\
#!/bin/sh
# Made by tailnetd and removed when it stops: while it runs, its resolver alone is asked.
record=/run/resolvconf/interface/{RECORD}
target=/run/resolvconf/resolv.conf
[ -s "$record" ] || exit 0
cp "$record" "$target.tailnetd" && mv -f "$target.tailnetd" "$target"
"""


async def run(*command: str, feed: str = "") -> tuple[int, str]:
    """Run a program to its end; exit code and all it said.

    Raises:
        PlatformError: it cannot be started, or takes too long.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        line = f"cannot run {command[0]}: {error.strerror}"
        raise PlatformError(line) from error
    try:
        async with asyncio.timeout(TIMEOUT):
            output, _ = await process.communicate(feed.encode())
    except TimeoutError:
        line = f"{' '.join(command)} did not end within {TIMEOUT:.0f} seconds"
        raise PlatformError(line) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")


async def _must(*command: str, feed: str = "") -> str:
    code, output = await run(*command, feed=feed)
    if code:
        said = output.strip().splitlines()[-1:] or [f"exit code {code}"]
        line = f"{' '.join(command)} failed: {said[0]}"
        raise PlatformError(line)
    return output


def _text(config: DnsConfig, mode: str) -> str:
    if config.match:
        line = f"{mode} cannot send only some names to a resolver"
        raise PlatformError(line)
    return render(config)


class Openresolv:
    """A record that excludes all others."""

    split = False

    async def base(self) -> DnsConfig | None:
        """All records but ours."""
        names = [name for name in (await _must("resolvconf", "-i")).split() if name != NAME]
        if not names:
            return NO_DNS
        return parse(await _must("resolvconf", "-l", *names)).without_us()

    async def apply(self, config: DnsConfig) -> None:
        """See ``DnsConfigurator``."""
        text = _text(config, "openresolv")
        if config == NO_DNS:
            await self.down()
            return
        exclusive = ("-x",) if config.nameservers else ()
        if not exclusive:  # what was exclusive stays so until it is gone
            await _must("resolvconf", "-f", "-d", NAME)
        await _must("resolvconf", "-m", "0", *exclusive, "-a", NAME, feed=text)

    async def down(self) -> None:
        """See ``DnsConfigurator``."""
        await _must("resolvconf", "-f", "-d", NAME)


class DebianResolvconf:
    """A record, and a hook after the merge that leaves only it."""

    split = False

    def __init__(self, root: Path = Path("/")) -> None:
        self._records = root / "run/resolvconf/interface"
        self._hook = root / "etc/resolvconf/update-libc.d/tailnetd"

    async def base(self) -> DnsConfig | None:
        """All records but ours, first those that resolvconf puts first."""
        names = (await _must("resolvconf", "-i")).split()
        try:
            texts = [(self._records / name).read_text() for name in names if name != RECORD]
        except OSError as error:
            line = f"cannot read the records of resolvconf: {error}"
            raise PlatformError(line) from error
        found = [parse(text) for text in texts]
        search = dict.fromkeys(name for each in found for name in each.search)
        servers = dict.fromkeys(ip for each in found for ip in each.without_us().nameservers)
        return DnsConfig(nameservers=tuple(servers), search=tuple(search))

    def is_set(self) -> bool:
        """Record or hook is there."""
        return self._hook.exists() or (self._records / RECORD).exists()

    async def apply(self, config: DnsConfig) -> None:
        """See ``DnsConfigurator``."""
        text = _text(config, "debian-resolvconf")
        if config == NO_DNS:
            await self.down()
            return
        try:
            if config.nameservers:
                self._hook.parent.mkdir(exist_ok=True)
                self._hook.write_text(_HOOK_TEXT)
                self._hook.chmod(0o755)
            else:
                self._hook.unlink(missing_ok=True)
        except OSError as error:
            line = f"cannot write {self._hook}: {error.strerror}"
            raise PlatformError(line) from error
        await _must("resolvconf", "-a", RECORD, feed=text)

    async def down(self) -> None:
        """See ``DnsConfigurator``."""
        try:
            self._hook.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._hook.parent.rmdir()  # only if empty, as Debian ships none
        except OSError as error:
            line = f"cannot remove {self._hook}: {error.strerror}"
            raise PlatformError(line) from error
        await _must("resolvconf", "-d", RECORD)


async def flavour() -> Flavour:
    """Which one this host has."""
    if shutil.which("resolvconf") is None:
        return Flavour.NONE
    code, output = await run("resolvconf", "--version")
    debian = code == _UNKNOWN_OPTION or "Debian resolvconf" in output
    return Flavour.DEBIAN if debian else Flavour.OPEN


async def left_by_us(root: Path) -> Flavour:
    """Which one has something of ours; ``NONE`` if there is nothing."""
    kind = await flavour()
    if kind is Flavour.DEBIAN:
        return kind if DebianResolvconf(root).is_set() else Flavour.NONE
    if kind is Flavour.OPEN and NAME in (await _must("resolvconf", "-i")).split():
        return kind
    return Flavour.NONE
