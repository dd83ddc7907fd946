"""``/etc/resolv.conf`` of a directory, replaced and put back."""

import os
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.support.dns import KINDS, look, make

from tailnet.platform.interface import NO_DNS, DnsConfig, PlatformError
from tailnet.platform.linux.dns import replaced
from tailnet.platform.linux.dns.replaced import ResolvConfFile
from tailnet.platform.linux.dns.text import OTHER_MARK, parse

OURS = DnsConfig(nameservers=(ip_address("100.100.100.100"),), search=("tail.ts.net",))


@pytest.fixture(params=KINDS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> ResolvConfFile:
    """Of every kind."""
    make(tmp_path, request.param)
    return ResolvConfFile(tmp_path)


def root(file: ResolvConfFile) -> Path:
    """Of the host."""
    return file.path.parents[1]


def test_written_and_put_back(file: ResolvConfFile) -> None:
    """The very same: content, link, mode, times; or no file."""
    before = look(root(file))
    text = file.write(OURS)
    assert file.is_ours()
    assert file.is_as_written(text)
    assert file.path.stat().st_mode & 0o777 == 0o644
    said = parse(text)
    assert said.nameservers == OURS.nameservers
    assert said.search == OURS.search
    assert file.restore()
    assert look(root(file)) == before
    assert not file.restore()


def test_what_must_be_readable_is(file: ResolvConfFile) -> None:
    """Whatever the umask is."""
    old = os.umask(0o077)
    try:
        file.write(OURS)
    finally:
        os.umask(old)
    assert file.path.stat().st_mode & 0o777 == 0o644


def test_options_are_kept(tmp_path: Path) -> None:
    """``ndots`` decides what short names mean."""
    make(tmp_path, "file")
    text = ResolvConfFile(tmp_path).write(OURS)
    assert parse(text).options == ("ndots:5",)


def test_a_new_daemon_finds_its_way(file: ResolvConfFile) -> None:
    """One that knows nothing restores what another one left."""
    before = look(root(file))
    base = file.base()
    file.write(OURS)
    heir = ResolvConfFile(root(file))
    assert heir.base() == base
    heir.write(DnsConfig(search=("other.example",)))
    assert heir.base() == base
    assert heir.restore()
    assert look(root(file)) == before


def test_what_another_program_writes_stays(file: ResolvConfFile) -> None:
    """It becomes what was before us, and is not overwritten by what is older."""
    file.write(OURS)
    file.path.unlink()
    file.path.write_text("nameserver 10.9.9.9\n")
    assert file.base().nameservers == (ip_address("10.9.9.9"),)
    file.write(OURS)
    assert file.base().nameservers == (ip_address("10.9.9.9"),)
    file.restore()
    assert file.path.read_text() == "nameserver 10.9.9.9\n"
    assert not os.path.lexists(file.backup)


def test_written_by_another_and_then_stopped(file: ResolvConfFile) -> None:
    """Nothing of ours remains."""
    file.write(OURS)
    file.path.unlink()
    file.path.write_text("nameserver 10.9.9.9\n")
    file.write(NO_DNS)
    assert file.path.read_text() == "nameserver 10.9.9.9\n"
    assert [p.name for p in file.path.parent.iterdir() if "tailnetd" in p.name] == []


STEPS = ["unlink", "hardlink_to", "replace"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("act", ["write", "restore"])
def test_a_crash_at_any_step_is_repaired(
    file: ResolvConfFile, step: str, number: int, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at no step is there no file where there was one."""
    before = look(root(file))
    if act == "restore":
        file.write(OURS)
    calls = 0
    original: Callable[..., object] = getattr(Path, step)

    def crash(self: Path, *args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, crash)
        try:
            file.write(OURS if act == "write" else NO_DNS)
        except KeyboardInterrupt:
            assert os.path.lexists(file.path) or before["resolv.conf"] is None
    ResolvConfFile(root(file)).restore()
    assert look(root(file)) == before


@pytest.mark.parametrize("step", ["_write", "replace"])
def test_a_refusal_changes_nothing(
    file: ResolvConfFile, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a read-only one; the error says which file."""
    before = look(root(file))

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(replaced if step == "_write" else Path, step, refuse)
        with pytest.raises(PlatformError, match=r"resolv\.conf: Read-only file system; in a unit"):
            file.write(OURS)
    assert look(root(file)) == before


def test_the_original_agents_file_is_put_back(tmp_path: Path) -> None:
    """As it would have done itself."""
    make(tmp_path, "file")
    before = look(tmp_path)
    file = ResolvConfFile(tmp_path)
    backup = tmp_path / "etc/resolv.pre-tailscale-backup.conf"
    file.path.rename(backup)
    file.path.write_text(f"# resolv.conf(5) file {OTHER_MARK}\nnameserver 100.100.100.100\n")
    assert file.restore_other()
    assert look(tmp_path) == before
    assert not file.restore_other()


def test_no_backup_any_more(file: ResolvConfFile) -> None:
    """Then there is no file: better than one that names nobody who answers."""
    file.write(OURS)
    file.backup.unlink(missing_ok=True)
    assert file.restore()
    assert not os.path.lexists(file.path)
