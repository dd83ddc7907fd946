"""Accounts in one state file, against a naive model, with crashes at every point of a write."""

import json
import os
import shutil
import tempfile
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tailnet.agent.backend import profiles
from tailnet.agent.backend.files.aio import StateFile
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.seal import Seal
from tailnet.agent.backend.store import Stored, decode_untrusted, encode, fresh
from tailnet.agent.errors import UserError
from tailnet.agent.keys import NodePrivate
from tailnet.agent.tailcfg.node import StableNodeID, UserID, UserProfile

DAY = datetime(2026, 1, 1, tzinfo=UTC)
SERVERS = ("https://one.example", "https://two.example")


def logged_in(stored: Stored, user: int, server: str, at: int = 0) -> Stored:
    """The profile in use has got a login."""
    number = int.from_bytes(os.urandom(4), "big")
    return replace(
        stored,
        node_key=NodePrivate.from_random(os.urandom(32)),
        user_profile=UserProfile(id=UserID(user), login_name=f"{user}@example.com"),
        node_id=StableNodeID(f"n{number}"),
        created=DAY + timedelta(days=at),
        prefs=msgspec.structs.replace(stored.prefs, control_url=server, logged_out=False),
    )


def three() -> Stored:
    """Three accounts, the last one in use."""
    stored = logged_in(fresh(os.urandom), 1, SERVERS[0], 1)
    for number, user in enumerate((2, 3), 2):
        stored = logged_in(profiles.blank(stored, os.urandom), user, SERVERS[0], number)
    return stored


def test_the_list_begins_with_the_newest() -> None:
    """Those of unknown age, as other programs leave them, come last."""
    stored = three()
    assert [p.user for p in profiles.listed(stored)] == [3, 2, 1]
    undated = replace(stored, created=None)
    assert [p.user for p in profiles.listed(undated)] == [2, 1, 3]


def test_names_are_nicknames_or_login_names() -> None:
    """And a nickname is given once."""
    stored = three()
    named = replace(stored, prefs=msgspec.structs.replace(stored.prefs, profile_name="work"))
    assert profiles.current(named).name == "work"
    profiles.check_nickname(named, "work")
    other = profiles.switched(named, profiles.listed(named)[1].id, os.urandom)
    with pytest.raises(UserError, match="already in use, by profile"):
        profiles.check_nickname(other, "work")


def test_a_damaged_account_harms_no_other() -> None:
    """It cannot be chosen, and can be removed."""
    stored = three()
    victim = profiles.listed(stored)[2].id
    tree = json.loads(encode(stored))
    tree[f"profile-{victim}"] = b64encode(b"{").decode()
    again = decode_untrusted(json.dumps(tree).encode(), os.urandom)
    with pytest.raises(UserError, match=f"profile {victim} is damaged .*nothing changed"):
        profiles.switched(again, victim, os.urandom)
    left = profiles.removed(again, victim, os.urandom)
    assert len(profiles.listed(left)) == 2
    assert f"profile-{victim}" not in json.loads(encode(left))


def test_what_others_wrote_is_kept() -> None:
    """Entries that are not ours, and accounts of another program until they are chosen."""
    stored = replace(three(), other={**three().other, "_serve/3f2a": b"{}"})
    chosen = profiles.switched(stored, profiles.listed(stored)[0].id, os.urandom)
    assert json.loads(encode(chosen))["_serve/3f2a"] == b64encode(b"{}").decode()


def test_accounts_are_bounded() -> None:
    """A program that makes them without end is stopped."""
    stored = fresh(os.urandom)
    with pytest.raises(UserError, match="too many profiles"):  # noqa: PT012 - any of them
        for number in range(profiles.MAX_PROFILES + 1):
            stored = profiles.blank(logged_in(stored, number + 1, SERVERS[0]), os.urandom)
    assert len(profiles.listed(stored)) == profiles.MAX_PROFILES - 1


def test_every_id_is_new() -> None:
    """Also when chance gives the same number twice."""
    stored = logged_in(fresh(lambda size: b"\x01" * size), 1, SERVERS[0])
    blank = profiles.blank(stored, lambda size: b"\x01" * size)
    assert (stored.profile_id, blank.profile_id) == ("0101", "0102")


FIRST_RELEASE = Path(__file__).parents[2] / "vectors" / "state_first_release.json"


def test_a_file_of_the_first_release_is_read(tmp_path: Path) -> None:
    """Its one account is there, can be left and come back to, and the file is good for it still."""
    path = tmp_path / "tailnetd.state"
    shutil.copy(FIRST_RELEASE, path)
    before = path.read_bytes()
    file = StateFile(path)
    stored = file.load(os.urandom)
    assert path.read_bytes() == before
    (only,) = profiles.listed(stored)
    assert (only.id, only.name) == (stored.profile_id, "lab@example.com")
    other = logged_in(profiles.blank(stored, os.urandom), 9, SERVERS[1])
    file.save(other)
    again = profiles.switched(file.load(os.urandom), only.id, os.urandom)
    assert (again.node_key, again.prefs) == (stored.node_key, stored.prefs)
    assert again.machine_key == stored.machine_key
    tree = {name: b64decode(value) for name, value in json.loads(path.read_bytes()).items()}
    assert json.loads(tree["_tailnetd"])["Version"] == 1
    assert tree["_current-profile"].decode() in tree


@dataclass
class Login:
    """What the model knows of an account."""

    user: int
    server: str
    hostname: str


class Crash(Exception):
    """The power went out."""


class BrittleFile(StateFile):
    """Writes on a real disk, or not: ``crash`` ends it before or after the file is replaced."""

    crash = ""

    def save(self, stored: Stored) -> None:
        """Write, or leave half a temporary file, as a crash would."""
        if self.crash == "before":
            temporary = self.path.with_name(f".{self.path.name}.tmp")
            temporary.write_bytes(encode(stored)[:100])
            raise Crash
        super().save(stored)
        if self.crash == "after":
            raise Crash


class Accounts(RuleBasedStateMachine):
    """Every operation, each of them interrupted before or after its one write."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.seal = Seal(os.urandom(32), os.urandom)
        self.open()
        self.stored = self.file.load(os.urandom)
        self.model: dict[str, Login] = {}
        self.hostname = ""  # of the profile in use if it has no login

    def open(self) -> None:
        """A new process."""
        self.file = BrittleFile(self.directory / "state", self.seal)

    def teardown(self) -> None:
        """Nothing stays."""
        shutil.rmtree(self.directory)

    def write(self, stored: Stored, crash: str) -> bool:
        """Save as the account does; whether it took effect."""
        self.file.crash = crash
        try:
            self.file.save(stored)
            self.stored = stored
        except Crash:
            self.restart()
        self.file.crash = ""
        return crash != "before"

    crashes = st.sampled_from(["", "", "before", "after"])

    @rule()
    def restart(self) -> None:
        """Everything comes from the disk again."""
        if (self.directory / "state").exists():
            self.open()
            self.stored = self.file.load(os.urandom)

    @rule(user=st.integers(1, 3), server=st.sampled_from(SERVERS), crash=crashes)
    def login(self, user: int, server: str, crash: str) -> None:
        """The profile in use gets an account; the same one elsewhere is replaced."""
        mine = self.stored.profile_id
        if self.write(profiles.absorbed(logged_in(self.stored, user, server)), crash):
            hostname = self.model[mine].hostname if mine in self.model else self.hostname
            same = [i for i, m in self.model.items() if (m.user, m.server) == (user, server)]
            for other in same:
                del self.model[other]
            self.model[mine] = Login(user, server, hostname)

    @rule(crash=crashes)
    def new(self, crash: str) -> None:
        """An empty profile."""
        if self.write(profiles.blank(self.stored, os.urandom), crash):
            self.hostname = ""

    @precondition(lambda self: self.model)
    @rule(which=st.integers(0), crash=crashes)
    def switch(self, which: int, crash: str) -> None:
        """To any account."""
        to = sorted(self.model)[which % len(self.model)]
        if self.write(profiles.switched(self.stored, to, os.urandom), crash):
            assert self.stored.profile_id == to

    @precondition(lambda self: self.model)
    @rule(which=st.integers(0), crash=crashes)
    def delete(self, which: int, crash: str) -> None:
        """Any account."""
        gone = sorted(self.model)[which % len(self.model)]
        mine = self.stored.profile_id
        if self.write(profiles.removed(self.stored, gone, os.urandom), crash):
            del self.model[gone]
            self.hostname = "" if gone == mine else self.hostname
            assert gone.encode() not in {n[8:].encode() for n in self.stored.other}

    @rule(crash=crashes)
    def logout(self, crash: str) -> None:
        """The account in use goes."""
        mine = self.stored.profile_id
        if self.write(profiles.dropped(self.stored, os.urandom), crash):
            self.model.pop(mine, None)
            self.hostname = ""

    @rule(name=st.sampled_from(["a", "b", "c"]), crash=crashes)
    def rename(self, name: str, crash: str) -> None:
        """A setting of the profile in use."""
        prefs = msgspec.structs.replace(self.stored.prefs, hostname=name)
        if self.write(replace(self.stored, prefs=prefs), crash):
            if self.stored.profile_id in self.model:
                self.model[self.stored.profile_id].hostname = name
            else:
                self.hostname = name

    @invariant()
    def lists_what_there_is(self) -> None:
        """With the right owners."""
        listed = {p.id: (p.user, p.control_url) for p in profiles.listed(self.stored)}
        assert listed == {i: (m.user, m.server) for i, m in self.model.items()}

    @invariant()
    def keeps_each_ones_settings(self) -> None:
        """Whichever would be chosen."""
        for each, known in self.model.items():
            assert profiles.switched(self.stored, each, os.urandom).prefs.hostname == known.hostname
        if self.stored.profile_id not in self.model:
            assert self.stored.prefs == Prefs(hostname=self.hostname)

    @invariant()
    def holds_no_keys_of_the_gone(self) -> None:
        """One entry an account, and one for the profile in use."""
        held = {n for n in json.loads(encode(self.stored)) if n.startswith("profile-")}
        assert held == {f"profile-{i}" for i in {*self.model, self.stored.profile_id}}


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
