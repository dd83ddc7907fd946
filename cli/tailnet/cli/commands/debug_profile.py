"""``tnet debug --cpu-profile=FILE --mem-profile=FILE``: for ``go tool pprof`` and its like.

Source: tailscale cmd/tailscale/cli/debug.go, runDebug.
"""

import os
import sys

from tailnet.cli.client import LocalClient
from tailnet.cli.errors import Failure, warn
from tailnet.cli.working import Working
from tailnet.client.errors import ClientError

REST = 15.0  # seconds that the daemon may take on top


def save(path: str, cpu: str, memory: str, seconds: int) -> None:
    """One after the other, each into its file; ``-`` is standard output.

    Args:
        path: of the LocalAPI's socket.
        cpu: file for where time goes in the next ``seconds``; empty: not wanted.
        memory: file for what memory is used for; empty: not wanted.
        seconds: how long.

    Raises:
        Failure: the daemon refuses, or the file cannot be written.
    """
    if cpu:
        _save(path, f"pprof?name=profile&seconds={seconds}", cpu, seconds)
    if memory:
        _save(path, "pprof?name=heap", memory, 0)


def _save(path: str, route: str, file: str, seconds: int) -> None:
    try:
        with Working(f"profiling for {seconds} s" if seconds else "looking at memory"):
            profile = LocalClient(path).request("GET", route, timeout=seconds + REST)
    except ClientError as error:
        raise Failure(str(error)) from None
    try:
        if file == "-":
            sys.stdout.buffer.write(profile)
            sys.stdout.buffer.flush()
            return
        with open(file, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
            out.write(profile)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        msg = f"cannot write {file}: {reason or error}"
        raise Failure(msg) from None
    warn(f"written to {file}; look at it with: go tool pprof -top {file}")
