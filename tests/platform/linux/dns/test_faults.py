"""Every file operation of the direct mode fails once, at the start, at a change and at the stop.

Whatever fails, the file is the old one or the new one, whole; the second try works; and after the
stop everything is as it was before the start.
"""

import asyncio
import errno
import stat
from pathlib import Path
from typing import cast

import pytest
from tests.support.dns import KINDS, look, make
from tests.support.faults import Fault, failing, fsync
from tests.support.platform_contract import ALL_NAMES

from tailnet.platform.interface import NO_DNS, DnsConfig, PlatformError
from tailnet.platform.linux.dns import replaced, watch
from tailnet.platform.linux.dns.configurator import LinuxDns
from tailnet.platform.linux.dns.replaced import ResolvConfFile
from tailnet.platform.linux.dns.restore import cleanup

OTHER = DnsConfig(nameservers=ALL_NAMES.nameservers, search=("other.example",))
ERRORS = [errno.EIO, errno.EPERM]  # what nobody expects, and what a file system without links says
MANY = 40  # more operations than any act has


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bus, no programs; a disk that may fail, but is quick."""
    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus")
    monkeypatch.setenv("PATH", "/nowhere")


def says(file: ResolvConfFile) -> bytes | None:
    """What a program reads."""
    return file.path.read_bytes() if file.path.exists() else None


def same(before: dict[str, object], after: dict[str, object], *, by_copy: bool) -> bool:
    """The very same files; ``by_copy``: where links are refused, others with all that they had.

    Of a symbolic link that is what it leads to: nobody asks when it was made.
    """
    if by_copy and before.keys() == after.keys() and before["resolv.conf"] is not None:
        (_, mode, *rest), (_, other_mode, *other_rest) = (
            cast("tuple[int, int, int, object]", entry["resolv.conf"]) for entry in (before, after)
        )
        kept = slice(1, None) if stat.S_ISLNK(mode) else slice(None)
        return (mode, rest[kept]) == (other_mode, other_rest[kept])
    return before == after


async def act(dns: LinuxDns, step: str) -> None:
    """One of the four things that are done to a host."""
    match step:
        case "start":
            await dns.up()
        case "apply":
            await dns.apply(ALL_NAMES)
        case "change":
            await dns.apply(OTHER)
        case "stop":
            await dns.down()


STEPS = ["start", "apply", "change", "stop"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("failed", STEPS)
async def test_one_refusal_is_survived(tmp_path: Path, kind: str, error: int, failed: str) -> None:
    """Said as an error, or made good at once; never half of it."""
    happened, faults = 0, [Fault("", 0)]
    for number in range(1, MANY):
        root = tmp_path / str(number)
        root.mkdir()
        make(root, kind)
        file, dns = ResolvConfFile(root), LinuxDns("tun0", root=root)
        before = look(root)
        for step in STEPS:
            if step != failed:
                await act(dns, step)
                continue
            old = says(file)
            refusal = ""
            with failing(root, number, error) as fault:
                faults.append(fault)
                try:
                    await act(dns, step)
                except PlatformError as error_said:
                    refusal = str(error_said)
            if refusal:
                assert str(root) in refusal  # it says which file
                assert says(file) == old, fault.what
            happened += fault.happened
            await act(dns, step)
            if step in {"apply", "change"}:
                assert file.is_ours()
                assert step == "apply" or b"other.example" in (says(file) or b"")
        assert same(before, look(root), by_copy=error == errno.EPERM)
        if not faults[-1].happened:
            break
    assert happened


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal_at_the_stop_is_left_to_the_next_who_comes(
    tmp_path: Path, kind: str
) -> None:
    """The caretaker, ``--cleanup`` or the next start: none of them knows what happened."""
    for number in range(1, MANY):
        root = tmp_path / str(number)
        root.mkdir()
        make(root, kind)
        before = look(root)
        dns = LinuxDns("tun0", root=root)
        await dns.up()
        await dns.apply(ALL_NAMES)
        with failing(root, number) as fault:
            try:
                await dns.down()
            except PlatformError:
                await cleanup(root)
        assert look(root) == before, fault.what
        if not fault.happened:
            break


def test_a_disk_that_is_full_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that is written in place: the text before is there again, and the copy is not."""
    make(tmp_path, "file")
    file, before = ResolvConfFile(tmp_path), look(tmp_path)

    def mounted(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", mounted)
    monkeypatch.setattr(Path, "hardlink_to", mounted)
    fill, calls = replaced._fill, 0

    def half(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            fill(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        fill(path, data)

    monkeypatch.setattr(replaced, "_fill", half)
    with pytest.raises(PlatformError, match="No space left"):
        file.write(ALL_NAMES)
    after = look(tmp_path)
    assert after.keys() == before.keys()
    assert file.path.read_bytes() == before["resolv.conf"][3]  # type: ignore[index]
    assert file.write(ALL_NAMES)
    assert file.write(NO_DNS) == ""
    assert file.path.read_bytes() == before["resolv.conf"][3]  # type: ignore[index]


async def test_changes_are_seen_where_inotify_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limits are reached, as on hosts with many watchers: looked at now and then."""

    def none(*_: object) -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(watch, "Inotify", none)
    monkeypatch.setattr(watch, "_LOOK", 0.0)
    changed = asyncio.Event()
    task = asyncio.create_task(watch.watch_file(tmp_path / "etc/resolv.conf", changed))
    for _ in range(3):
        await changed.wait()
        changed.clear()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
