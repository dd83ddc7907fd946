"""Programs of the lab: run one to its end, or keep one running and know its log."""

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from integration.lab import private

Words = Sequence[str] | Sequence[Path] | Sequence[str | Path]  # a command line
STOP_TIMEOUT = 8.0  # seconds from SIGTERM to SIGKILL


class LabError(Exception):
    """Something in the lab does not work; the text is for a person."""


class Gone(LabError):
    """A program that should be running has ended."""


def in_namespace(namespace: str | None, argv: Words) -> list[str]:
    """The command line that runs ``argv`` inside a network namespace (``None``: this one).

    A machine of a lab also sees its own ``/etc`` and ``/run``.
    """
    words = [str(word) for word in argv]
    if namespace is None:
        return words
    return ["ip", "netns", "exec", namespace, *private.enter_words(namespace), *words]


def run(
    argv: Words,
    *,
    namespace: str | None = None,
    feed: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output.

    Args:
        argv: program and arguments.
        namespace: network namespace to run in.
        feed: standard input; none if omitted.
        env: whole environment; ours if omitted.
        timeout: seconds until it is killed.
        check: fail unless the exit code is 0.

    Raises:
        LabError: not found, too slow, or (with ``check``) a nonzero exit code.
    """
    words = in_namespace(namespace, argv)
    shown = shlex.join(str(word) for word in argv)
    try:
        done = subprocess.run(
            words,
            input=feed,
            stdin=subprocess.DEVNULL if feed is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            env=env,
            timeout=timeout,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError:
        msg = f"{words[0]} is not installed"
        raise LabError(msg) from None
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else ""
        msg = f"no end after {timeout:.0f} s: {shown}\n{said}".rstrip()
        raise LabError(msg) from None
    if check and done.returncode != 0:
        msg = f"exit code {done.returncode}: {shown}\n{done.stdout}{done.stderr}".rstrip()
        raise LabError(msg)
    return done


class Process:
    """A program that keeps running; its output goes to a file.

    It has a session of its own, so Ctrl-C at the terminal reaches the lab alone, which then stops
    its programs in order.

    Args:
        name: for messages.
        argv: program and arguments.
        log: file for its output, appended to.
        namespace: network namespace to run in.
        env: whole environment; ours if omitted.
        directory: to run in; ours if omitted.
        announces: standard output is not logged but read by :meth:`announcement`.
    """

    def __init__(
        self,
        name: str,
        argv: Words,
        log: Path,
        *,
        namespace: str | None = None,
        env: Mapping[str, str] | None = None,
        directory: Path | None = None,
        announces: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            try:
                self._popen = subprocess.Popen(
                    in_namespace(namespace, argv),
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if announces else out,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=True,
                )
            except FileNotFoundError:
                msg = f"{argv[0]} is not installed"
                raise LabError(msg) from None

    @property
    def pid(self) -> int:
        """Process id: what enters the namespace becomes the program."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, or ``None`` while it runs."""
        return self._popen.poll()

    def check(self) -> None:
        """Make sure it still runs.

        Raises:
            Gone: it has ended.
        """
        if self.returncode is not None:
            msg = f"{self.name} ended with exit code {self.returncode}"
            raise Gone(msg)

    def announcement(self, timeout: float) -> str:
        """The first line on its standard output.

        Raises:
            Gone: it ended instead.
            LabError: nothing came within ``timeout`` seconds.
        """
        out = self._popen.stdout
        if out is None:
            msg = f"{self.name} was not started to announce anything"
            raise LabError(msg)
        if not select.select([out], [], [], timeout)[0]:
            msg = f"{self.name} is not ready after {timeout:.0f} s"
            raise LabError(msg)
        if not (line := out.readline()):
            self._popen.wait(STOP_TIMEOUT)
            self.check()
        return line.decode().strip()

    def wait(self, timeout: float) -> int:
        """Wait for the end; exit code.

        Raises:
            LabError: it is still running after ``timeout`` seconds.
        """
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            msg = f"{self.name} is still running after {timeout:.0f} s"
            raise LabError(msg) from None

    def stop(self, timeout: float = STOP_TIMEOUT) -> int:
        """SIGTERM, then SIGKILL if it does not end in time; exit code (negative: a signal)."""
        if self.returncode is None:
            self._popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._end(timeout)
            self._popen.kill()
        return self._end(None)

    def kill(self) -> int:
        """SIGKILL, and wait for the end; exit code."""
        self._popen.kill()
        return self._end(None)

    def _end(self, timeout: float | None) -> int:
        code = self._popen.wait(timeout)
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        return code

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def cpu_seconds(self) -> float:
        """User and system time so far, all threads (proc_pid_stat(5), utime + stime)."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()  # the name in parentheses may hold spaces
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kill_and_wait(pids: Sequence[int], timeout: float = 5.0) -> None:
    """SIGKILL processes that need not be our children, and wait until they have ended."""
    handles: list[int] = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                handles.append(os.pidfd_open(pid))
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + timeout
        waiting = list(handles)
        while waiting and (left := deadline - time.monotonic()) > 0:
            ended, _, _ = select.select(waiting, [], [], left)
            waiting = [handle for handle in waiting if handle not in ended]
    finally:
        for handle in handles:
            os.close(handle)
