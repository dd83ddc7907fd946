"""Flags of the daemon that need no privilege to try."""

import errno
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from click.testing import CliRunner

from tailnet.agent import main
from tailnet.agent._version import __version__
from tailnet.platform import here
from tailnet.platform.system import Platform


def test_one_dash_is_as_good_as_two() -> None:
    """Go's flag package takes both; short options and values are left alone."""
    known = {"tun", "statedir", "verbose", "v", "h"}.__contains__
    args = ["-tun=x", "--tun=y", "-v", "-statedir", "-weird", "-h", "/a-b"]
    assert main.double_dashes(args, known) == [
        "--tun=x",
        "--tun=y",
        "-v",
        "--statedir",
        "-weird",
        "-h",
        "/a-b",
    ]


def test_version_is_printed() -> None:
    """One line, exit code 0."""
    result = CliRunner().invoke(main.command, ["--version"])
    assert (result.exit_code, result.output) == (0, f"tailnetd {__version__}\n")


def test_an_unknown_flag_is_a_usage_error() -> None:
    """Exit code 2, as for every usage error."""
    assert CliRunner().invoke(main.command, ["--frobnicate"]).exit_code == 2


def test_a_command_of_tnet_is_sent_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is opened."""
    monkeypatch.setattr(sys, "argv", ["tailnetd", "status", "box 1"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "tailnetd: it takes flags only; did you mean: tnet status 'box 1' (see tailnetd --help)\n"
    )


def test_userspace_networking_without_the_extension_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no silent change to something else."""
    monkeypatch.setitem(sys.modules, "tailnet_native", None)
    result = CliRunner().invoke(
        main.command, ["--tun=userspace-networking", f"--socket={tmp_path / 's'}"]
    )
    assert result.exit_code == 1
    assert result.output == (
        "tailnetd: userspace networking needs the native extension; "
        "build it with: make native (needs cargo)\n"
    )


def test_without_memory_to_start_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a traceback of whoever wanted the last of it."""

    async def serve(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(main, "serve", serve)
    args = [f"--socket={tmp_path / 's'}", f"--statedir={tmp_path}"]
    result = CliRunner().invoke(main.command, args)
    assert result.exit_code == 1
    assert result.output == (
        "tailnetd: this host does not give the memory that is needed to start\n"
    )


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), OSError("Too many open files (os 24)")]
)
def test_without_descriptors_to_start_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    """Whoever wanted the last of them; the extension's errors have no number."""

    async def serve(*_: object) -> None:
        raise error

    monkeypatch.setattr(main, "serve", serve)
    args = [f"--socket={tmp_path / 's'}", f"--statedir={tmp_path}"]
    result = CliRunner().invoke(main.command, args)
    assert result.exit_code == 1
    assert result.output == (
        "tailnetd: too few open files are allowed to start; "
        "allow more: ulimit -n, or LimitNOFILE=\n"
    )


def test_a_crash_of_the_daemon_leaves_no_image_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are keys in it; the hard limit stays, for those who look for a crash."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    seen: list[tuple[int, int]] = []

    async def serve(*_: object) -> None:
        seen.append(resource.getrlimit(resource.RLIMIT_CORE))

    monkeypatch.setattr(main, "serve", serve)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        result = CliRunner().invoke(
            main.command, [f"--socket={tmp_path / 's'}", f"--statedir={tmp_path}"]
        )
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert (result.exit_code, seen) == (0, [(0, before[1])])


@pytest.mark.parametrize("flag", ["--socks5-server", "--outbound-http-proxy-listen"])
def test_a_proxy_address_that_is_none_is_refused_in_one_line(flag: str) -> None:
    """With an example."""
    result = CliRunner().invoke(main.command, [f"{flag}=1055"])
    assert (result.exit_code, result.output) == (
        1,
        f"tailnetd: {flag}=1055 is not [IP]:PORT, as in localhost:1055\n",
    )


def test_the_port_is_that_of_the_environment_unless_a_flag_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As packages of the Go client write it into a file of defaults."""
    monkeypatch.setenv("PORT", "41999")
    for flags, port in (([], 41999), (["--port=41642"], 41642)):
        assert main.command.make_context("tailnetd", list(flags)).params["port"] == port
    monkeypatch.delenv("PORT")
    assert main.command.make_context("tailnetd", []).params["port"] == 0


def test_paths_follow_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has the system's directories, others their own."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main.default_state_dir() == Path("/var/lib/tailnetd")
    assert main.default_socket() == Path("/run/tailnetd/tailnetd.sock")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/x/state")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/x/run")
    assert main.default_state_dir() == Path("/x/state/tailnetd")
    assert main.default_socket() == Path("/x/run/tailnetd.sock")


def test_a_cipher_that_is_not_there_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its flag and by its variable; without being asked for, another is taken."""
    monkeypatch.setattr(main, "why_not", lambda _: "libipsec-mb is not installed")
    socket = f"--socket={tmp_path / 's'}"
    flag = CliRunner().invoke(main.command, ["--datapath-aead=ipsec-mb", socket])
    monkeypatch.setenv("TAILNETD_DATAPATH_AEAD", "ipsec-mb")
    variable = CliRunner().invoke(main.command, [socket])
    line = "tailnetd: --datapath-aead=ipsec-mb: libipsec-mb is not installed\n"
    assert (flag.exit_code, flag.output) == (variable.exit_code, variable.output) == (1, line)


def test_the_native_datapath_is_refused_in_one_line_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Asked for by name it is not silently replaced."""
    monkeypatch.setattr(main, "why_not", lambda: "tailnet_native is not installed")
    result = CliRunner().invoke(main.command, ["--datapath=native", f"--socket={tmp_path / 's'}"])
    assert result.exit_code == 1
    assert result.output == (
        "tailnetd: --datapath=native: tailnet_native is not installed; "
        "build it with: make native (needs cargo)\n"
    )


@pytest.mark.parametrize(
    ("names", "problem", "taken"),
    [
        (["a"], "none here", "a"),
        (["a", "userspace-networking"], "", "a"),
        (["a", "userspace-networking"], "none here", "userspace-networking"),
        (["userspace-networking", "a"], "", "userspace-networking"),
    ],
)
def test_of_several_devices_the_first_that_is_possible_is_taken(
    names: list[str], problem: str, taken: str
) -> None:
    """Alone, it is what the user wants, and its own error is the clearest."""
    platform = cast("Platform", SimpleNamespace(tun_problem=lambda: problem))
    assert main._first_possible(names, platform) == taken


@pytest.mark.parametrize(("system", "name"), [("darwin", "macOS"), ("win32", "Windows")])
def test_on_another_system_it_refuses_in_one_line(
    monkeypatch: pytest.MonkeyPatch, system: str, name: str
) -> None:
    """With the page that says what is missing."""
    monkeypatch.setattr(main, "this_platform", lambda: here.this_platform(system))
    result = CliRunner().invoke(main.command, [])
    assert result.exit_code == 1
    assert result.output == (
        f"tailnetd: tailnetd does not run on {name} yet: nothing behind its ports is written there "
        "(docs/ports.md says what there would have to be)\n"
    )


def test_a_daemon_imports_what_it_needs() -> None:
    """Nothing that only a rare case needs: memory, time to start, and surface."""
    code = "import sys, tailnet.agent.main; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    rare = {"aiohttp", "cryptography.x509", "http.client", "pyroute2.ndb", "sqlite3", "segno"}
    assert not rare & loaded
