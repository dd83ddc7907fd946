"""A Debian package of everything: ``python -m integration.package.deb``; it is in ``dist/`` then.

::

    /opt/tailnet/               a virtual environment of the distribution's Python, self-contained
    /usr/bin/{tailnetd,tnet}    links into it
    /usr/lib/systemd/system/    the units, as they are
    /etc/default/tailnetd       the options; a conffile
    /usr/share/                 manual, completion

Installing enables and starts the service; removing stops it and lifts the kill switch; purging
forgets keys and settings.
"""

import argparse
import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from integration.package.man import pages

from tailnet.agent._version import __version__
from tailnet.cli.completing import script
from tailnet.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
PREFIX = Path("opt/tailnet")
NOT_NEEDED = ("pip", "setuptools", "wheel", "_distutils_hack", "pkg_resources")
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/tnet",
    "zsh": "usr/share/zsh/vendor-completions/_tnet",
    "fish": "usr/share/fish/vendor_completions.d/tnet.fish",
}
CONTROL = """\
Package: tailnet
Version: {version}
Architecture: {architecture}
Maintainer: The tailnet developers <tailnet@example.invalid>
Installed-Size: {size}
Depends: {depends}
Recommends: {recommends}
Section: net
Priority: optional
Description: Tailscale-compatible node agent
 tailnetd joins a tailnet and makes it part of this machine: addresses, routes,
 names and firewall. tnet talks to it. Everything it needs beyond Python is in
 /opt/tailnet.
"""
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	! command -v modprobe >/dev/null || modprobe -q tun || true
	[ -n "$2" ] || systemctl enable tailnetd.service
	systemctl try-restart tailnetd-userspace.service
	! systemctl is-enabled --quiet tailnetd.service || systemctl restart tailnetd.service
fi
"""
PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ]; then
	if [ -d /run/systemd/system ]; then
		systemctl disable --now tailnet-online.target tailnetd-wait-online.service \\
			tailnetd-userspace.service tailnetd-guard.service tailnetd.service \\
			tailnetd-hook.socket || true
	fi
	# or the kill switch would stand, and nobody to lift it
	/usr/bin/tailnetd --cleanup --remove-guard || true
fi
find /opt/tailnet -name __pycache__ -type d -prune -exec rm -rf {} +
"""
POSTRM = """\
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
if [ "$1" = purge ]; then
	rm -rf /var/lib/tailnetd /var/lib/tailnetd-userspace /var/lib/private/tailnetd-userspace
fi
"""


def run(*words: str | Path, **environment: str) -> str:
    """A program to its end; its output."""
    done = subprocess.run(
        [str(word) for word in words],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def build(python: str, wheels: Path, stage: Path, out: Path, compression: str = "xz") -> Path:
    """Make the package in ``out``, from wheels of ours, in the folder ``stage``; its path."""
    shutil.rmtree(stage, ignore_errors=True)
    make_environment(python, wheels, stage)
    put_files(stage)
    release = run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    architecture = run("dpkg", "--print-architecture")
    size = sum(p.lstat().st_size for p in stage.rglob("*")) // 1024
    control = CONTROL.format(
        version=__version__,
        architecture=architecture,
        recommends="kmod, libipsec-mb1" if architecture == "amd64" else "kmod",
        size=size,
        depends=f"python{release}, libc6",
    )
    about = stage / "DEBIAN"
    about.mkdir()
    (about / "control").write_text(control)
    (about / "conffiles").write_text("/etc/default/tailnetd\n")
    for name, text in (("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)):
        (about / name).write_text(text)
        (about / name).chmod(0o755)
    out.mkdir(parents=True, exist_ok=True)
    made = out / f"tailnet_{__version__}_{architecture}.deb"
    run("dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", stage, made)
    return made


def make_environment(python: str, wheels: Path, stage: Path) -> None:
    """The virtual environment, as if it had been made where it will be."""
    place = stage / PREFIX
    run(python, "-m", "venv", place)
    pip = (place / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    run(*pip, "--no-compile", *sorted(wheels.glob("*.whl")))
    here, there = str(place), f"/{PREFIX}"
    for file in (place / "bin").iterdir():
        if file.name not in {"tailnetd", "tnet", "python", "python3"} and not file.is_symlink():
            file.unlink()
    for file in (place / "bin/tailnetd", place / "bin/tnet", place / "pyvenv.cfg"):
        file.write_text(file.read_text().replace(here, there))
    for folder in place.glob("lib*/python*/site-packages/*"):
        if folder.is_dir() and folder.name.split("-")[0] in NOT_NEEDED:
            shutil.rmtree(folder)
    for stray in (*place.rglob("*.pth"), *place.rglob("direct_url.json")):
        stray.unlink()
    run(place / "bin/python", "-m", "compileall", "-q", "-s", stage, "-p", "/", place / "lib")


def put_files(stage: Path) -> None:
    """Everything else."""
    for path, text in files():
        (stage / path).parent.mkdir(parents=True, exist_ok=True)
        (stage / path).write_bytes(text)
        (stage / path).chmod(0o644)
    binaries = stage / "usr/bin"
    binaries.mkdir(parents=True)
    for name in ("tailnetd", "tnet"):
        (binaries / name).symlink_to(f"/{PREFIX}/bin/{name}")


def files() -> Iterator[tuple[str, bytes]]:
    """Path below the root, and content."""
    for unit in sorted(UNITS.iterdir()):
        if unit.suffix in {".service", ".socket", ".target"}:
            folder = "user" if unit.stem == "tailnetd-user" else "system"
            name = "tailnetd.service" if folder == "user" else unit.name
            yield f"usr/lib/systemd/{folder}/{name}", unit.read_bytes()
    yield "etc/default/tailnetd", (UNITS / "tailnetd.defaults").read_bytes()
    module = UNITS / "tailnetd.modules-load.conf"
    yield "usr/lib/modules-load.d/tailnetd.conf", module.read_bytes()
    for name, text in pages():
        section = name.rpartition(".")[2]
        yield f"usr/share/man/man{section}/{name}.gz", gzip.compress(text.encode(), mtime=0)
    for shell, path in COMPLETIONS.items():
        yield path, script(shell, cli).encode()
    yield "usr/share/doc/tailnet/copyright", (ROOT / "LICENSE").read_bytes()
    for name in ("tailnetd-unprivileged.conf", "tailnetd.sysusers.conf"):
        yield f"usr/share/doc/tailnet/examples/{name}", (UNITS / name).read_bytes()


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description="Make a Debian package.")
    parser.add_argument("--python", default="/usr/bin/python3", help="the distribution's")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "deb")
    chosen = parser.parse_args()
    wheels = chosen.work / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps")
    for source in (ROOT, ROOT / "agent/native"):
        run(*pip, "-w", wheels, source)
    made = build(chosen.python, wheels, chosen.work / "root", chosen.out)
    print(made)  # noqa: T201


if __name__ == "__main__":
    main()
