"""Upstream's command line, built from the Go module proxy, for a test that drives our LocalAPI.

``python -m integration.lab.go_cli`` builds it once, outside of the tree; ``find`` says where it is.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "v1.90.9"
PROGRAM = "tailscale.com/cmd/tailscale"


def place() -> Path:
    """Where the program of that version is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tailnet" / "go-cli" / VERSION / "tailscale"


def find() -> Path | None:
    """``TAILSCALE_CLI``, or what was built; ``None``: there is none."""
    named = os.environ.get("TAILSCALE_CLI")
    path = Path(named) if named else place()
    return path if path.is_file() else None


def build() -> Path:
    """Some minutes, once."""
    if (path := find()) is not None:
        return path
    if shutil.which("go") is None:
        sys.exit("make go-cli needs go; or name a program: TAILSCALE_CLI=/usr/bin/tailscale")
    where = place().parent
    where.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOBIN": str(where), "CGO_ENABLED": "0"}
    subprocess.run(["go", "install", f"{PROGRAM}@{VERSION}"], env=environment, check=True)
    return place()


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
