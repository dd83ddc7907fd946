"""The state file on a real disk, with the ways a disk can fail."""

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.disk import file_size_limit

from tailnet.agent.backend.files.aio import ConfigFile, StateFile, StateMemory
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.seal import Seal, is_sealed
from tailnet.agent.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state file in a directory that does not exist yet."""
    return tmp_path / "lib" / "tailnetd.state"


def test_without_a_file_the_state_is_fresh_and_unsaved(path: Path) -> None:
    """Nothing is written by looking."""
    assert StateFile(path).load(os.urandom).node_key is None
    assert not path.exists()


def test_what_was_saved_is_loaded(path: Path) -> None:
    """And nobody else can read it."""
    file = StateFile(path)
    stored = replace(file.load(os.urandom), prefs=Prefs(hostname="box"))
    file.save(stored)
    file.save(stored)
    assert replace(file.load(os.urandom), other={}) == stored
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("data", [b"", b"garbage", b'{"_machinekey": "cHJpdmtleTo="}'])
def test_a_damaged_file_is_left_alone_and_named(path: Path, data: bytes) -> None:
    """The user is told which file, that it is untouched, and what to do."""
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        StateFile(path).load(os.urandom)
    message = str(caught.value)
    assert str(path) in message
    assert "left untouched" in message
    assert "log in again" in message
    assert path.read_bytes() == data


def test_unreadable_is_not_missing(path: Path) -> None:
    """A directory in its place must not look like a new installation."""
    path.mkdir(parents=True)
    with pytest.raises(UserError, match="cannot read the state file"):
        StateFile(path).load(os.urandom)


def test_a_failed_write_keeps_the_old_state(path: Path) -> None:
    """The new file never replaces the old one half-written, and no litter stays."""
    file = StateFile(path)
    stored = file.load(os.urandom)
    file.save(stored)
    before = path.read_bytes()
    with file_size_limit(100), pytest.raises(UserError, match="cannot write the state file"):
        file.save(replace(stored, prefs=Prefs(hostname="box")))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_planted_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    """The temporary file is always of our own making."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path.parent.mkdir()
    (path.parent / f".{path.name}.tmp").symlink_to(victim)
    file = StateFile(path)
    file.save(file.load(os.urandom))
    assert victim.read_text() == "mine"
    assert not path.is_symlink()


MOUNTED = """
import os, subprocess, sys
from pathlib import Path
from tailnet.agent.backend.files.aio import StateFile
from tailnet.agent.errors import UserError
where = Path(sys.argv[1])
def mount(*options): subprocess.run(["mount", *options, str(where)], check=True)
mount("-t", "tmpfs", "-o", "size=8k", "tmpfs")
file = StateFile(where / "s" / "state")
stored = file.load(os.urandom)
file.save(stored)
before = file.path.read_bytes()
for action in ("full", "read-only"):
    if action == "full":
        try:
            (where / "ballast").write_bytes(bytes(1 << 16))
        except OSError:
            pass
    else:
        (where / "ballast").unlink()
        mount("-o", "remount,ro")
    try:
        file.save(stored)
    except UserError as error:
        print(str(error).partition("state: ")[2])
    assert file.path.read_bytes() == before
"""


@pytest.mark.netns
@pytest.mark.slow
def test_full_and_read_only_file_systems_are_named(tmp_path: Path) -> None:
    """On a real file system of 8 KiB, in a mount namespace of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    command = ["unshare", "-m", sys.executable, "-c", MOUNTED, str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    assert out.stdout.splitlines() == [
        "No space left on device; free some space",
        "Read-only file system",
    ], out.stderr


# --- encryption

SECRET = b"0123456789abcdef0123456789abcdef"


def seal(secret: bytes = SECRET) -> Seal:
    """Of a key."""
    return Seal(secret, os.urandom)


def test_a_plain_file_is_encrypted_when_it_is_saved(path: Path) -> None:
    """Loading says that this is due; nothing of it can be read then, and the way back is open."""
    plain = StateFile(path)
    stored = replace(plain.load(os.urandom), prefs=Prefs(hostname="box"))
    plain.save(stored)
    sealed = StateFile(path, seal())
    assert sealed.load(os.urandom) == plain.load(os.urandom)
    assert sealed.stale
    assert b"_machinekey" in path.read_bytes()
    sealed.save(stored)
    assert is_sealed(path.read_bytes())
    assert b"_machinekey" not in path.read_bytes()
    again = StateFile(path, seal())
    assert again.load(os.urandom) == sealed.load(os.urandom)
    assert not again.stale
    plain.save(sealed.load(os.urandom))
    assert plain.load(os.urandom) == sealed.load(os.urandom)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "is encrypted: say where its key is, with --state-key; nothing was touched"),
        (seal(b"x" * 32), "is encrypted with another key; nothing was touched"),
    ],
)
def test_without_the_key_nothing_is_touched(path: Path, key: Seal | None, message: str) -> None:
    """One line says what is missing."""
    file = StateFile(path, seal())
    file.save(file.load(os.urandom))
    before = path.read_bytes()
    with pytest.raises(UserError) as caught:
        StateFile(path, key).load(os.urandom)
    assert str(caught.value) == f"the state file {path} {message}"
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_damaged_encrypted_file_is_left_alone(path: Path) -> None:
    """Cut short, it is damaged as a plain one would be."""
    file = StateFile(path, seal())
    file.save(file.load(os.urandom))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"is damaged .*left untouched"):
        file.load(os.urandom)


# --- memory, and the configuration file


def test_memory_forgets() -> None:
    """Each start is a new installation, without a file."""
    store = StateMemory()
    first = store.load(os.urandom)
    store.save(first)
    assert store.load(os.urandom).machine_key != first.machine_key
    assert store.path is None


def test_an_optional_configuration_file_may_be_missing(tmp_path: Path) -> None:
    """Any other may not; and one that is there must be right."""
    path = tmp_path / "c.json"
    assert ConfigFile(f"optional:{path}").load() is None
    with pytest.raises(UserError, match=r"cannot read the configuration file .*No such file"):
        ConfigFile(str(path)).load()
    path.write_text('{"Version": "alpha0", "Nonsense": 1}')
    for spec in (str(path), f"optional:{path}"):
        with pytest.raises(UserError, match=r"c\.json: .*Nonsense"):
            ConfigFile(spec).load()


def test_the_auth_key_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    """Which must be there, even if the configuration file is optional."""
    path, key = tmp_path / "c.json", tmp_path / "key"
    path.write_text(f'{{"Version": "alpha0", "AuthKey": "file:{key}"}}')
    with pytest.raises(UserError, match=f"{key}: No such file"):
        ConfigFile(f"optional:{path}").load()
    key.write_text("tskey-auth-x\n")
    config = ConfigFile(str(path)).load()
    assert config is not None
    assert config.auth_key == "tskey-auth-x"
