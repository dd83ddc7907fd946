"""Names that a lab leaves, and who owns them."""

import os
import tempfile
from pathlib import Path

import pytest
from integration.lab import residue
from integration.lab.residue import Claim, sweep


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All roots are empty directories of the test's own."""
    for name in ("tmp", "netns", "wireguard"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(residue, "NETNS", tmp_path / "netns")
    monkeypatch.setattr(residue, "WIREGUARD", tmp_path / "wireguard")
    return tmp_path


def test_claims_of_one_process_have_different_tags() -> None:
    """Named after the process, numbered."""
    one, two = Claim(), Claim()
    assert [one.tag, two.tag] == [f"tnl{os.getpid()}-0", f"tnl{os.getpid()}-1"]
    assert one.directory.stat().st_mode & 0o777 == 0o700
    one.release()
    two.release()


def test_claims_made_at_once_have_different_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find a name free, and one is first: an empty directory would give way to the other's."""
    with monkeypatch.context() as hasty:
        hasty.setattr(Path, "exists", lambda _: False)
        one, two = Claim(), Claim()
    assert one.tag != two.tag
    assert one.directory.exists()
    assert two.directory.exists()
    one.release()
    two.release()


def test_release_removes_the_directory_and_may_be_repeated(nowhere: Path) -> None:
    """Also what was put inside, but nobody else's."""
    claim, other = Claim(), Claim()
    (claim.directory / "state").mkdir()
    (nowhere / "wireguard" / f"{claim.tag}a.sock").touch()
    claim.release()
    claim.release()
    assert not claim.directory.exists()
    assert other.directory.exists()
    assert list((nowhere / "wireguard").iterdir()) == []
    other.release()


def test_sweep_takes_only_what_is_not_locked(nowhere: Path) -> None:
    """A dead lab's directory has no lock; names that are not a lab's are not looked at."""
    alive = Claim()
    (nowhere / "tmp" / "tnl1-0").mkdir()
    (nowhere / "tmp" / "tnlabc").mkdir()
    assert sweep() == ["tnl1-0"]
    assert alive.directory.exists()
    assert (nowhere / "tmp" / "tnlabc").exists()
    alive.release()


def test_sweep_believes_the_process_id_when_the_directory_is_gone(nowhere: Path) -> None:
    """As after a reboot that cleaned one place but not the other."""
    alive = f"tnl{os.getpid()}-7"
    dead = "tnl99999999-0"  # above the largest process id there can be
    for tag in (alive, dead):
        (nowhere / "netns" / f"{tag}-h1").touch()
    assert sweep() == [dead]
