"""What the Debian package has besides the virtual environment."""

import subprocess

import pytest
from integration.package import deb

FILES = dict(deb.files())


def test_it_has_what_tnet_install_would_write() -> None:
    """At the places of a package."""
    units = {path.rpartition("/")[2] for path in FILES if path.startswith("usr/lib/systemd/")}
    assert {"tailnetd.service", "tailnetd-guard.service", "tailnet-online.target"} <= units
    assert b"ExecStart=/usr/bin/tailnetd" in FILES["usr/lib/systemd/system/tailnetd.service"]
    assert FILES["usr/lib/modules-load.d/tailnetd.conf"] == b"tun\n"
    assert "etc/default/tailnetd" in FILES


def test_it_has_manual_and_completion() -> None:
    """Of every shell."""
    assert {"usr/share/man/man8/tailnetd.8.gz", "usr/share/man/man1/tnet-up.1.gz"} <= FILES.keys()
    assert set(deb.COMPLETIONS.values()) <= FILES.keys()


@pytest.mark.parametrize("script", [deb.POSTINST, deb.PRERM, deb.POSTRM])
def test_scripts_are_shell(script: str) -> None:
    """As far as its parser can say."""
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
