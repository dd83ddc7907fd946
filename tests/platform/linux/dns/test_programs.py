"""Programs run to their end, or are ended."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from tailnet.platform import processes
from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.dns import programs
from tailnet.platform.linux.dns.choose import Flavour
from tailnet.platform.linux.dns.programs import flavour, run


def shell(script: str) -> tuple[str, ...]:
    """A program."""
    return ("/bin/sh", "-c", script)


def children() -> set[int]:
    """Processes of this one."""
    return {each.pid for each in psutil.Process().children()}


async def test_output_and_exit_code_of_one_that_was_fed() -> None:
    """Standard error is output, too."""
    code, output = await run(*shell("cat; echo wrong >&2; exit 3"), feed="said\n")
    assert (code, output) == (3, "said\nwrong\n")


async def test_much_output_is_cut() -> None:
    """And does not stop the program."""
    code, output = await run(*shell("yes | head -c 1000000; exit 4"))
    assert code == 4
    assert len(output) == processes.MAX_OUTPUT


async def test_one_that_is_not_there() -> None:
    """In the words of the system."""
    with pytest.raises(PlatformError, match="cannot run /nowhere: No such file"):
        await run("/nowhere")


async def test_one_that_takes_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ended with its children."""
    monkeypatch.setattr(programs, "TIMEOUT", 0.2)
    mark = tmp_path / "fifo"
    os.mkfifo(mark)
    with pytest.raises(PlatformError, match="did not end within"):
        await run(*shell(f"sleep 60 > {mark} & exec 3< {mark}; wait"))
    with pytest.raises(OSError, match="No such device"):  # nobody reads any more
        os.open(mark, os.O_WRONLY | os.O_NONBLOCK)


async def test_a_service_that_it_starts_is_not_waited_for(tmp_path: Path) -> None:
    """A hook of resolvconf may restart a resolver, which keeps what it was started with."""
    stop = tmp_path / "stop"
    os.mkfifo(stop)
    script = f"echo begun; setsid sh -c 'read -r _ < {stop}' <&0 & exit 0"
    async with asyncio.timeout(programs.TIMEOUT / 2):
        assert await run(*shell(script), feed="x" * 1_000_000) == (0, "begun\n")
    await asyncio.to_thread(stop.write_text, "\n")


@pytest.mark.parametrize("script", ["cat; exit 0", "exec sleep 60"])
async def test_it_may_be_given_up_at_any_moment(script: str) -> None:
    """While it begins, too: asyncio opens its pipes later, and whoever waits for them must not."""
    before = children()
    for turns in range(12):
        running = asyncio.create_task(run(*shell(script), feed="x" * 100_000))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()  # as a group does with what is being cancelled already
        done, _ = await asyncio.wait([running], timeout=10)
        assert done, f"given up after {turns} turns it never ended"
        assert children() == before


async def test_which_resolvconf_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails is neither: the wrong one would be told in the wrong way."""
    program = tmp_path / "resolvconf"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert await flavour() in Flavour
    for script, kind in {
        "echo 'resolvconf: Error: Command not recognized'; exit 99": Flavour.DEBIAN,
        "echo 'openresolv 3.12.0'": Flavour.OPEN,
        "echo 'Usage: resolvconf [options] command'; exit 1": Flavour.OPEN,
        "echo 'systemd 252'": Flavour.NONE,
    }.items():
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert await flavour() is kind
    program.write_text("#!/bin/sh\necho something is locked; exit 1\n")
    with pytest.raises(PlatformError, match="resolvconf --version failed: something is locked"):
        await flavour()
