"""A bug report of a live daemon: the log has its marker, and no secret is in the bundle."""

import base64
import contextlib
import json
import tarfile
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.lab import Lab
from integration.lab.topology import flat

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two hosts."""
    lab = make_lab(flat("h1", "h2"))
    lab.join()
    lab.wait_complete()
    return lab


def secrets(state: object) -> set[bytes]:
    """Every private key of a state file, in hex, as bytes, and in base64."""
    found = set()
    if isinstance(state, dict):
        for value in state.values():
            found |= secrets(value)
    elif isinstance(state, str):
        try:
            inner = base64.b64decode(state, validate=True).decode()
        except ValueError:
            inner = state
        if "priv" in inner.partition(":")[0] and len(inner) > 60:
            key = inner.partition(":")[2]
            found |= {key.encode(), bytes.fromhex(key), base64.b64encode(bytes.fromhex(key))}
        elif inner.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):  # as base64 a name may begin so
                found |= secrets(json.loads(inner))
    return found


def test_no_secret_is_in_the_bundle_of_a_live_daemon(lab: Lab, tmp_path: Path) -> None:
    """Not the keys of its state file, nor the key it joined with; the log has the marker."""
    host = lab.hosts["h1"]
    path = tmp_path / "report.tar.gz"
    marker = host.tnet("bugreport", "it hurts", "--diagnose", "--bundle", str(path)).stdout.strip()
    log = host.log.read_text()
    assert f"user bugreport: {marker} it hurts" in log
    assert "user bugreport: state Running, peers 1" in log
    keys = secrets(json.loads((host.statedir / "tailnetd.state").read_text()))
    assert len(keys) >= 6, "the machine's, the node's and more"
    with tarfile.open(path) as archive:
        names = {m.name.rpartition("/")[2]: m for m in archive.getmembers()}
        assert {"status.json", "plan.json", "netcheck.json", "metrics.txt"} <= names.keys()
        for name, member in names.items():
            file = archive.extractfile(member)
            data = file.read() if file is not None else b""
            assert not any(key in data for key in keys), name
            assert AUTH_KEY.encode() not in data, name
            assert b"no answer" not in data, (name, data[:200])
