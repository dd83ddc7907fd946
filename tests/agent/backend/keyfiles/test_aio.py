"""Secrets from files and credentials."""

import os
from pathlib import Path

import pytest

from tailnet.agent.backend.keyfiles.aio import read_auth_key, read_state_key
from tailnet.agent.errors import UserError

SECRET = bytes(range(32))


def test_keys_come_from_files_and_credentials(tmp_path: Path) -> None:
    """The end of a line does not count."""
    key = tmp_path / "key"
    key.write_bytes(SECRET + b"\n")
    assert read_state_key(str(key), "", os.urandom).secret == SECRET
    assert read_state_key("credential:key", str(tmp_path), os.urandom).secret == SECRET


@pytest.mark.parametrize(
    ("spec", "directory", "message"),
    [
        ("/nowhere/key", "", "cannot read the state key /nowhere/key: No such file"),
        ("credential:key", "", "the service manager gave no credentials"),
        ("credential:../key", "/", "the name of a credential has no slash"),
        ("credential:", "/", "the name of a credential has no slash"),
        ("/dev/null", "", "has 0 bytes, not 32 to 4096; make one with: openssl rand -hex 32"),
        ("/dev/zero", "", "has 4098 bytes, not 32 to 4096"),
    ],
)
def test_a_key_that_is_no_good_is_refused(spec: str, directory: str, message: str) -> None:
    """Before anything is done with it."""
    with pytest.raises(UserError, match=message):
        read_state_key(spec, directory, os.urandom)


def test_an_auth_key_is_itself_or_in_a_file_or_a_credential(tmp_path: Path) -> None:
    """What is optional may be missing."""
    (tmp_path / "key").write_text("tskey-auth-1\n")
    for spec in ("tskey-auth-1", f"file:{tmp_path}/key", "credential:key"):
        assert read_auth_key(spec, str(tmp_path)) == "tskey-auth-1"
        assert read_auth_key(f"optional:{spec}", str(tmp_path)) == "tskey-auth-1"
    for missing in ("optional:file:/nowhere/key", "optional:credential:other"):
        assert read_auth_key(missing, str(tmp_path)) == ""
    assert read_auth_key("optional:credential:key", "") == ""
    assert read_auth_key("", "") == ""


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("file:/nowhere/key", "there is no file /nowhere/key with an auth key"),
        ("file:/", "cannot read the auth key /: Is a directory"),
        ("credential:key", "the service manager gave no credentials"),
    ],
)
def test_an_auth_key_that_must_be_there_and_is_not_is_refused(spec: str, message: str) -> None:
    """With its place."""
    with pytest.raises(UserError, match=message):
        read_auth_key(spec, "")
