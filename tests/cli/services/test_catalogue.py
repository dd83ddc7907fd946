"""The files of a service."""

import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tailnet.cli.services.catalogue import Kind, Manager, service, shown

OPT = Path("/opt/tailnet/bin")
HOME = Path("/home/alice")


@pytest.mark.parametrize("kind", Kind)
def test_units_start_the_program_where_it_is(kind: Kind) -> None:
    """None of them says where it would usually be."""
    what = service(kind, OPT, HOME)
    text = "\n".join(file.text for file in what.files)
    assert "/usr/bin" not in text
    assert "ExecStart=/opt/tailnet/bin/tailnetd" in text
    assert what.unit in {file.path.name for file in what.files}


def test_every_unit_that_exists_is_in_some_service() -> None:
    """Nothing is shipped that nobody installs."""
    folder = Path(__file__).parents[3] / "cli/tailnet/cli/services/systemd"
    shipped = {
        path.read_text().replace("/usr/bin/", "/opt/tailnet/bin/") for path in folder.iterdir()
    }
    installed = {file.text for kind in Kind for file in service(kind, OPT, HOME).files}
    assert shipped == installed


@pytest.mark.parametrize("manager", Manager)
def test_every_manager_has_files_to_show(manager: Manager) -> None:
    """With the program where it is."""
    assert "/opt/tailnet/bin/tailnetd" in shown(manager, Kind.SYSTEM, OPT, HOME)


def test_the_property_list_is_one() -> None:
    """As far as a parser can say."""
    root = ET.fromstring(shown(Manager.LAUNCHD, Kind.SYSTEM, OPT, HOME))
    assert [each.text for each in root.iter("string")][1] == "/opt/tailnet/bin/tailnetd"


def test_the_script_of_openrc_cleans_up_before_and_after(tmp_path: Path) -> None:
    """Run by a plain shell, with the words that OpenRC gives it."""
    program, log = tmp_path / "tailnetd", tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    program.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(shown(Manager.OPENRC, Kind.SYSTEM, tmp_path, HOME))
    words = "modprobe() { false; }; checkpath() { :; }; need() { :; }; after() { :; }; use() { :; }"
    run = f'set -e; {words}; . "$0"; depend; start_pre; eval "$command $command_args"; stop_post'
    done = subprocess.run(
        ["sh", "-c", run, script], capture_output=True, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert log.read_text().splitlines() == [
        "--cleanup",
        "--statedir=/var/lib/tailnetd --socket=/run/tailnetd/tailnetd.sock",
        "--cleanup",
    ]
