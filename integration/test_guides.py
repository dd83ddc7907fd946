"""The guides are followed to the letter: each page in a lab of its own, first command to last."""

import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab import private
from integration.lab.config import AUTH_KEY
from integration.lab.host import BIN, Host
from integration.lab.lab import Lab
from integration.lab.pages import BadPage, Block, Command, blocks, differs
from integration.lab.process import LabError, Process, run
from integration.lab.topology import flat
from integration.lab.waiting import until

GUIDES = Path(__file__).resolve().parents[1] / "docs" / "guides"
PAGES = sorted(GUIDES.glob("*.md"))
CHANGES = re.compile(r"(sudo )?tnet (up|down|login|logout|set|switch \w)")
PATIENCE = 15.0  # seconds in which what only looks may come to be as shown
NOBODY = 65534
SERVER, SECOND, KEY = "https://headscale.example.com", "https://vpn.example.org", "KEY"


def alone(lab: Lab) -> None:
    """Nothing but machines with an address."""


def with_other(lab: Lab) -> None:
    """The second machine is in the tailnet, and serves a page at port 8000."""
    other = lab.hosts["other"]
    join(other)
    (other.directory / "www").mkdir()
    (other.directory / "www" / "index.html").write_text("hello from other\n")
    serve(other)


def join(host: Host, *flags: str) -> None:
    """As a service would have it: the daemon at its usual places."""
    host.spawn("tailnetd", "tailnetd", "--tun=tailnet0")
    wait_for_daemon(host)
    host.exec("tnet", "up", f"--login-server={host.login_server}", f"--auth-key={AUTH_KEY}",
              f"--hostname={host.name}", *flags)  # fmt: skip


def serve(host: Host) -> None:
    """Its page."""
    www = host.directory / "www"
    host.spawn("web", "python3", "-m", "http.server", "8000", "--bind", "::", "--directory", www)


def wait_for_daemon(host: Host, runtime: str = "run/tailnetd/tailnetd.sock") -> None:
    """Its socket is there."""
    root = private.root_of(host.namespace)
    assert root is not None
    until("the daemon", (root / runtime).exists, PATIENCE)


def with_router(lab: Lab) -> None:
    """A subnet behind the router, with a web server in it."""
    box, router = lab.hosts.values()
    tag = router.namespace.rpartition("-")[0]
    run(["ip", "netns", "add", f"{tag}-far"])
    link = ["link", "add", "lan0", "type", "veth", "peer", "eth0", "netns", f"{tag}-far"]
    run(["ip", "-n", router.namespace, *link])
    for namespace, device, number in (
        (router.namespace, "lan0", 1),
        (f"{tag}-far", "eth0", 2),
    ):
        address = f"10.77.0.{number}/24"
        run(["ip", "-n", namespace, "address", "add", address, "dev", device])
        run(["ip", "-n", namespace, "link", "set", device, "up"])
    join(box)
    join(router)
    web(lab, f"{tag}-far", "hello from the printer")


def with_internet(lab: Lab) -> None:
    """An address out there that says who asks."""
    inet = lab.network.internet
    run(["ip", "-n", inet, "address", "add", "203.0.113.1/32", "dev", "lo"])
    for host in lab.hosts.values():
        host.exec("ip", "route", "add", "default", "via", "10.99.0.1")
        join(host)
    web(lab, inet, "")


def joined(lab: Lab) -> None:
    """Every machine is in the tailnet, and serves its page."""
    for host in lab.hosts.values():
        join(host)
        (host.directory / "www").mkdir()
        (host.directory / "www" / "index.html").write_text(f"hello from {host.name}\n")
        serve(host)


def web(lab: Lab, namespace: str, says: str) -> None:
    """A web server at port 8000 that says this, or else who asks."""
    log = lab.directory / "web.log"
    lab.adopt(Process("web", [sys.executable, "-c", WEB, says], log, namespace=namespace))


WEB = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write((sys.argv[1] or self.client_address[0]).encode() + b"\\n")
http.server.HTTPServer(("", 8000), Page).serve_forever()
"""

STAGES: dict[str, tuple[tuple[str, ...], Callable[[Lab], None]]] = {
    "dns": (("box", "other"), joined),
    "exit-node": (("box", "exit"), with_internet),
    "join": (("box", "other"), with_other),
    "peer-relays": (("relay", "box", "other"), joined),
    "quickstart": (("box", "other"), with_other),
    "subnet-router": (("box", "router"), with_router),
    "troubleshooting": (("box", "other"), joined),
    "userspace": (("box", "other"), with_other),
}
"""Machines of each page that is run, and what is so before it begins."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_not_run_says_why(page: Path) -> None:
    """Every other block of a page without a stage would be a command nobody ever tried."""
    left = [block for block in blocks(page.read_text()) if not block.why_not]
    assert page.stem in STAGES or not left, f"line {left[0].line} is not run and gives no reason"


def test_pages_are_read_as_scripts() -> None:
    """Prompts, notes, continued lines, output."""
    page = "<!-- stays -->\n```console\na$ one \\\n  two\nsaid …\n# three\n```\n"
    (block,) = blocks(page)
    assert block.stays
    assert block.commands == (
        Command("a", False, "one two", ("said …",)),
        Command("", True, "three", ()),
    )
    with pytest.raises(BadPage):
        blocks("<!-- stays -->\ntext\n")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (("took 3ms",), "took  12.5s\n", True),
        (("10.0.0.1:5  a",), "192.168.7.8:99 a", True),
        (("one", "…", "four"), "one\ntwo\nthree\nfour\n", True),
        (("one", "…", "four"), "one\ntwo\n", False),
        (("via …",), "via anything at all", True),
        (("one",), "one\ntwo", False),
        (("one", "two"), "one", False),
    ],
)
def test_output_is_compared_but_for_numbers(
    shown: tuple[str, ...], printed: str, same: bool
) -> None:
    """So that a page may show addresses of its own."""
    assert (differs(shown, printed) == "") is same


class Reader:
    """Somebody who follows one page."""

    def __init__(self, lab: Lab, page: Path) -> None:
        self.lab = lab
        self.page = page
        self.first = next(iter(lab.hosts))
        self.background = 0

    def does(self, block: Block) -> None:
        """What a block says."""
        if block.file:
            name, path = block.file.split()
            self.writes(self.lab.hosts[name], Path(path), block.text)
        for command in block.commands:
            host = self.lab.hosts[command.host or self.first]
            if block.stays:
                self.starts(host, command)
            else:
                self.types(host, command, () if block.example else command.shown, block.line)

    def writes(self, host: Host, path: Path, text: str) -> None:
        """A file."""
        feed = f"mkdir -p {path.parent} && cat > {path}"
        run(["sh", "-c", feed], namespace=host.namespace, feed=self.meant(text))

    def meant(self, text: str) -> str:
        """With the lab's server and key in the place of the page's."""
        text = text.replace(SERVER, self.lab.hosts[self.first].login_server)
        if SECOND in text:
            text = text.replace(SECOND, self.lab.start_another_tailnet("other.ts.net"))
        return re.sub(rf"\b{KEY}\b", AUTH_KEY, text)

    def words(self, command: Command) -> list[str]:
        """Through a shell; nobody's without one, which could not enter a home of root's.

        A Python below ``/root`` is found while ``setpriv`` still may look there.
        """
        text = self.meant(command.text)
        if command.root:
            return ["sh", "-c", text]
        program, *arguments = shlex.split(text)
        own = BIN / program
        who = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
        return ["setpriv", *who, str(own) if own.exists() else program, *arguments]

    def starts(self, host: Host, command: Command) -> None:
        """What stays in the foreground of another terminal."""
        self.background += 1
        host.spawn(f"page{self.background}", *self.words(command))
        if command.text.startswith("tailnetd"):
            wait_for_daemon(
                host, "run/tailnetd/tailnetd.sock" if command.root else "run/user/tailnetd.sock"
            )

    def types(self, host: Host, command: Command, shown: tuple[str, ...], line: int) -> None:
        """Until it ends well and prints what the page says; what changes something, once."""
        said = ""

        def right() -> bool:
            nonlocal said
            done = host.exec(*self.words(command), check=False, timeout=60)
            said = f"{done.stdout}{done.stderr}".replace(host.login_server, SERVER)
            return done.returncode == 0 and not (shown and differs(shown, said))

        where = f"{self.page.name}:{line}: {command.text}"
        if CHANGES.match(command.text):
            assert right(), f"{where}\n{said}"
            return
        try:
            until(where, right, PATIENCE)
        except LabError:
            pytest.fail(f"{where}\n{said}\nshown and not printed: {differs(shown, said)}")


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", STAGES)
def test_a_page_can_be_followed(name: str, make_lab: MakeLab) -> None:
    """Every command of it, in its order, on machines that have only what the page says."""
    page = GUIDES / f"{name}.md"
    hosts, prepare = STAGES[name]
    lab = make_lab(flat(*hosts))
    for host in lab.hosts.values():
        settle(host)
    prepare(lab)
    reader = Reader(lab, page)
    for block in blocks(page.read_text()):
        if not block.why_not:
            reader.does(block)


def settle(host: Host) -> None:
    """Programs in PATH, a state directory of its own, and a place for a user's socket."""
    library = host.directory / "lib"
    library.mkdir()
    private.add_mount(host.namespace, f"--bind {shlex.quote(str(library))} /var/lib")
    root = private.root_of(host.namespace)
    assert root is not None
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    for directory in (root / "run" / "user", host.directory):
        directory.mkdir(exist_ok=True)
        os.chown(directory, NOBODY, NOBODY)
    host.directory.parent.chmod(0o711)
    host.variables |= {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "XDG_RUNTIME_DIR": "/run/user",
        "XDG_STATE_HOME": str(host.directory / "state-home"),
    }
