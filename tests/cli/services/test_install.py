"""``tnet install`` and ``uninstall`` without a running systemd: files below a directory."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tailnet.cli.main import cli
from tailnet.cli.services import host


def tnet(*arguments: str) -> Result:
    """Run it."""
    return CliRunner().invoke(cli, list(arguments))


def files(root: Path) -> dict[str, str]:
    """All of them with their text."""
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", [(), ("--userspace",), ("--unprivileged",), ("--user",)])
def test_a_second_time_changes_nothing(tmp_path: Path, kind: tuple[str, ...]) -> None:
    """And says nothing."""
    first = tnet("install", f"--root={tmp_path}", *kind)
    assert first.exit_code == 0
    assert first.output.count("wrote ") == len(files(tmp_path)) > 0
    before = files(tmp_path)
    assert tnet("install", f"--root={tmp_path}", *kind).output == ""
    assert files(tmp_path) == before


def test_what_people_changed_stays_and_the_rest_is_mended_and_removed(tmp_path: Path) -> None:
    """Options are theirs, units are not; keys stay until they are purged."""
    root = f"--root={tmp_path}"
    tnet("install", "--unprivileged", root)
    unit = tmp_path / "etc/systemd/system/tailnetd.service"
    options = tmp_path / "etc/default/tailnetd"
    state = tmp_path / "var/lib/tailnetd/tailnetd.state"
    state.parent.mkdir(parents=True)
    state.write_text("keys")
    unit.write_text("broken")
    options.write_text("FLAGS=--port=1")
    assert tnet("install", "--unprivileged", root).output == f"wrote {unit}\n"
    gone = tnet("uninstall", root)
    assert gone.exit_code == 0
    assert f"left {options}, which was changed" in gone.output
    assert "keys and settings stay in /var/lib/tailnetd" in gone.output
    assert set(files(tmp_path)) == {"etc/default/tailnetd", "var/lib/tailnetd/tailnetd.state"}
    assert tnet("uninstall", root, "--purge").exit_code == 0
    assert set(files(tmp_path)) == {"etc/default/tailnetd"}


def test_somebody_else_than_root_is_told_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is touched."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for command in ("install", "uninstall"):
        result = tnet(command)
        assert result.exit_code == 1
        assert result.output == (
            f"only root can do that: sudo tnet {command}; "
            f"or for yourself alone: tnet {command} --user\n"
        )


def test_without_systemd_it_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _: None)
    result = tnet("install")
    assert result.exit_code == 1
    assert result.output == (
        "this host is not run by systemd; for another service manager: "
        "tnet install --print openrc\n"
    )


def test_kinds_exclude_each_other() -> None:
    """A usage error."""
    assert tnet("install", "--user", "--userspace").exit_code == 2


def test_a_program_that_the_sandbox_hides_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a service that cannot start."""
    monkeypatch.setattr("os.access", lambda *_: True)
    with pytest.raises(Exception, match="install it elsewhere, such as below /opt"):
        host.check_programs(Path("/home/alice/venv/bin"))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The first that cannot."""
    (tmp_path / "etc").write_text("a file")
    result = tnet("install", f"--root={tmp_path}")
    assert result.exit_code == 1
    assert result.output.startswith(f"cannot write {tmp_path}/etc/")
