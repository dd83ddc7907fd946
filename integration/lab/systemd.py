"""A machine of the lab with a systemd of its own: process 1 of namespaces and a cgroup.

::

    ip netns exec MACHINE               its network, its /etc
      unshare pid mount uts ipc cgroup  a process tree, a /dev, a /run and a /var/lib of its own
        /lib/systemd/systemd            with the units below, and those in the machine's /etc

It starts what a small system starts, nothing of this host's, and ends with its first process.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from integration.lab import private
from integration.lab.host import Host
from integration.lab.process import LabError, Process, in_namespace, run
from integration.lab.waiting import until

SYSTEMD = Path("/lib/systemd/systemd")
SHIPPED = Path("/lib/systemd/system")
BOOT_TIMEOUT = 20.0  # seconds
TARGETS = (
    "basic default emergency exit final halt local-fs local-fs-pre multi-user network "
    "network-online network-pre paths poweroff reboot rescue shutdown slices sockets sysinit "
    "timers umount"
)
JOURNAL = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")
NODES = "null:3 zero:5 full:7 random:8 urandom:9"
NO_KERNEL_MESSAGES = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n"
JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
BOOT = r"""
exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup sh -c '
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind "$1" /mnt  # may be below the /dev that is covered next
mount -t tmpfs -o mode=755 tmpfs /dev
for node in @NODES@; do mknod -m 666 /dev/${node%:*} c 1 ${node#*:}; done
mknod -m 666 /dev/tty c 5 0
mkdir /dev/net /dev/shm /dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
mknod -m 666 /dev/net/tun c 10 200
ln -s /proc/self/fd /dev/fd
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/units /run/empty
cp -a /mnt/units/. /run/units
mount --bind /mnt/lib /var/lib
umount /mnt
mount --make-rshared / # among its services; credentials are mounted so
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal
' sh "$@"
""".replace("@NODES@", NODES)


def why_no_systemd() -> str | None:
    """Why this host cannot run one more; ``None`` if it can."""
    if not SYSTEMD.exists():
        return "systemd is not installed"
    if _cgroup2() is None:
        return "there is no cgroup2 hierarchy"
    return None


class Systemd:
    """systemd on a machine, from :meth:`boot` to :meth:`close`; may be booted again.

    Attributes:
        etc: the machine's ``/etc``.
        lib: the machine's ``/var/lib``.
    """

    def __init__(self, host: Host) -> None:
        root = private.root_of(host.namespace)
        if root is None:
            msg = f"{host.namespace} has no /etc of its own"
            raise LabError(msg)
        self.host = host
        self.etc = root / "etc"
        self._own = host.directory / "systemd"
        self.lib = self._own / "lib"
        self._process: Process | None = None
        self._cgroup: Path | None = None
        self.lib.mkdir(parents=True)
        self._make_units(self._own / "units")
        shutil.rmtree(self.etc / "systemd", ignore_errors=True)
        (self.etc / "systemd/system").mkdir(parents=True)
        (self.etc / "systemd/journald.conf").write_text(NO_KERNEL_MESSAGES)

    def boot(self) -> Self:
        """Start it, and wait until all is started.

        Raises:
            LabError: it does not start.
        """
        hierarchy = _cgroup2()
        if hierarchy is None:
            msg = "there is no cgroup2 hierarchy"
            raise LabError(msg)
        self._cgroup = hierarchy / self.host.namespace
        self._cgroup.mkdir(exist_ok=True)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "container": "lab",
            "SYSTEMD_UNIT_PATH": "/etc/systemd/system:/run/units",
            "SYSTEMD_GENERATOR_PATH": "/run/empty",
            "SYSTEMD_ENVIRONMENT_GENERATOR_PATH": "/run/empty",
        }
        words = in_namespace(self.host.namespace, ["sh", "-c", BOOT, "sh", self._own])
        self._process = Process(
            f"systemd of {self.host.name}",
            ["sh", "-c", JOIN, self._cgroup, *words],
            self.host.directory / "systemd.log",
            env=environment,
        )
        until(f"systemd of {self.host.name}", self._is_up, BOOT_TIMEOUT)
        return self

    def close(self) -> None:
        """As when the power fails."""
        if self._process is not None:
            self._process.kill()  # takes its only child along, and that one its namespace
            self._process = None
        if self._cgroup is not None:
            cgroup, self._cgroup = self._cgroup, None
            with contextlib.suppress(OSError):
                (cgroup / "cgroup.kill").write_text("1")
            until(f"{cgroup} to be empty", lambda: _removed(cgroup), BOOT_TIMEOUT)

    def __enter__(self) -> Self:
        return self.boot()

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- its words

    def run(self, *words: str, check: bool = True, timeout: float = 40.0) -> str:
        """Run a program there; its output."""
        enter = ["nsenter", "-t", str(self._pid()), "-m", "-u", "-i", "-n", "-p", "-C"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        return run([*enter, *words], env=environment, check=check, timeout=timeout).stdout.strip()

    def systemctl(self, *words: str) -> str:
        """Ask it.

        Raises:
            LabError: it refuses; with the journal.
        """
        try:
            return self.run("systemctl", "--no-pager", *words)
        except LabError as error:
            msg = f"{error}\n{self.journal('--lines=30')}"
            raise LabError(msg) from None

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", unit, f"--property={name}", "--value")

    def journal(self, *words: str) -> str:
        """What was logged."""
        return self.run("journalctl", "--no-pager", "--output=cat", *words, check=False)

    def drop_in(self, unit: str, text: str, name: str = "lab.conf") -> None:
        """Add to a unit; counts after the next ``daemon-reload``."""
        folder = self.etc / "systemd/system" / f"{unit}.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    # --- the rest

    def _is_up(self) -> bool:
        if self._process is not None:
            self._process.check()
        with contextlib.suppress(LabError):
            return self.run("systemctl", "is-system-running", check=False) in {
                "running",
                "degraded",
            }
        return False

    def _pid(self) -> int:
        if self._process is None:
            msg = f"systemd of {self.host.name} is not running"
            raise LabError(msg)
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            msg = f"systemd of {self.host.name} has not begun"
            raise LabError(msg)
        return int(children[0])

    def _make_units(self, folder: Path) -> None:
        folder.mkdir()
        for name in (*(f"{target}.target" for target in TARGETS.split()), *JOURNAL):
            if (SHIPPED / name).exists():
                shutil.copyfile(SHIPPED / name, folder / name)
        for wants, names in (("sockets", JOURNAL[1:]), ("sysinit", JOURNAL[:1])):
            (folder / f"{wants}.target.wants").mkdir()
            for name in names:
                (folder / f"{wants}.target.wants" / name).symlink_to(f"../{name}")


def _cgroup2() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    return None


def _removed(cgroup: Path) -> bool:
    """Groups have no files of their own to remove, only groups below."""
    for folder in _deepest_first(cgroup):
        with contextlib.suppress(OSError):
            folder.rmdir()
    return not cgroup.exists()


def _deepest_first(folder: Path) -> Iterator[Path]:
    for below in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.exists() else ():
        yield from _deepest_first(below)
    yield folder
