"""A shell with mounts of its own, in the network namespace of the test: for programs of a host."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

_MARK = "--done--"
_READY = "for i in $(seq 150); do firewall-cmd -q --state && break; sleep 0.1; done"


class Shell:
    """Use as a context manager; what it started goes with it."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="fw-"))

    def __enter__(self) -> Self:
        """With a fresh ``/run``."""
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.run("mount -t tmpfs run /run && mkdir /run/dbus /run/lock")
        return self

    def __exit__(self, *_: object) -> None:
        """With everything inside."""
        self._process.kill()
        self._process.communicate(timeout=10)
        shutil.rmtree(self._directory)

    def run(self, line: str) -> str:
        """A line that must succeed, and what it says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{ {line}; }} </dev/null 2>&1; echo {_MARK} $?\n")
        self._process.stdin.flush()
        said: list[str] = []
        for text in self._process.stdout:
            if text.startswith(_MARK):
                assert text.split()[1] == "0", f"{line}: {''.join(said)}"
                return "".join(said)
            said.append(text)
        msg = f"the shell ended at {line}: {''.join(said)}"
        raise AssertionError(msg)

    def own(self, path: str, *, copy: bool = True) -> None:
        """A copy of a directory in its place, or an empty one."""
        mine = self._directory / path.strip("/").replace("/", "-")
        if copy:
            shutil.copytree(path, mine, symlinks=True)
        else:
            mine.mkdir()
        self.run(f"mount --bind {mine} {path}")

    def firewalld(self) -> None:
        """As it is installed, on a bus of its own."""
        self.own("/etc/firewalld", copy=False)
        self.run("echo DefaultZone=public > /etc/firewalld/firewalld.conf")
        self.run("mkdir /etc/firewalld/zones")
        self.run("dbus-daemon --system --fork --nopidfile")
        self.run("{ firewalld --nofork --nopid >/run/firewalld.log & }")
        self.run(_READY)

    def ufw(self) -> None:
        """As it is installed, and turned on."""
        for path in ("/etc/ufw", "/etc/default"):
            self.own(path)
        self.run("ufw --force enable && ufw reload")  # loaded again, they differ a little
