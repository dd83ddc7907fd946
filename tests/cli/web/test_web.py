"""``tnet web``: what it shows, whom it answers, and what it lets happen."""

import http.client
import json
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import BOX, RUNNING, Daemon

from tailnet.agent.localapi.schema.network import RouteEntry
from tailnet.agent.localapi.schema.paths import PathDetails
from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.client import LocalClient
from tailnet.cli.web.look import Looker
from tailnet.cli.web.markup import escape, tag
from tailnet.cli.web.page import View, render
from tailnet.cli.web.plan import Plan
from tailnet.cli.web.routes import Site
from tailnet.cli.web.server import WebServer

EVIL = "<script>alert(1)</script>\x1b[2J\"'"
TOKEN = "right-token"
OUT = msgspec.structs.replace(
    BOX, id="n2", dns_name="out.x.ts.net.", exit_node_option=True, tailscale_ips=("100.64.0.2",)
)


class Tags(HTMLParser):
    """Collects tags, and refuses what a browser would have to guess."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember; attributes that run code are never there."""
        self.seen.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]

    def handle_data(self, data: str) -> None:
        """Remember."""
        self.text += data


def shown(
    status: Status, *, actions: bool = False, paths: dict[str, PathDetails] | None = None
) -> Tags:
    """The page, parsed."""
    tags = Tags()
    tags.feed(render(View(status, paths or {}, {}, actions)))
    return tags


@given(st.text())
def test_no_text_is_ever_a_tag(text: str) -> None:
    """Nor an attribute's end."""
    tags = Tags()
    tags.feed(tag("p", text, title=text))
    assert tags.seen == ["p"]
    assert tags.text == "".join(c for c in text if c.isprintable())
    assert escape(escape(text)) == escape(text)


def test_shapes_are_closed() -> None:
    """Or a browser takes all that follows for their inside, and draws none of it."""
    assert tag("line", x1=1) == '<line x1="1"></line>'
    assert tag("br") == "<br>"


def test_what_the_network_says_is_text() -> None:
    """Names, owners, health, addresses."""
    evil = msgspec.structs.replace(OUT, dns_name=EVIL, os=EVIL, cur_addr=EVIL, host_name=EVIL)
    status = msgspec.structs.replace(RUNNING, peer={"k": evil}, health=(EVIL,))
    page = shown(status, actions=True)
    assert "script" not in page.seen
    assert "<script>" in page.text


def test_the_map_tells_paths_apart() -> None:
    """And says how long each takes."""
    direct = msgspec.structs.replace(
        OUT, id="a", public_key="a", cur_addr="192.0.2.1:4", online=True
    )
    relayed = msgspec.structs.replace(
        OUT, id="b", public_key="b", relay="nyc", active=True, online=True, cur_addr=""
    )
    status = msgspec.structs.replace(RUNNING, peer={"a": direct, "b": relayed})
    text = render(View(status, {"a": PathDetails(id="a", latency_seconds=0.0123)}, {}, False))
    assert 'class="direct"' in text
    assert 'class="relay"' in text
    assert "12ms" in text
    assert "relay nyc" in text
    about = PathDetails(id="a", latency_seconds=0.0123, port_mapped=True)
    text = render(View(status, {"a": about}, {}, False))
    assert "<circle cx" in text
    assert 'class="port-mapped"' in text
    assert 'class="direct"' not in text


def test_a_login_that_waits_has_a_link_and_a_code() -> None:
    """Only of the web."""
    waiting = Status(backend_state="NeedsLogin", auth_url="https://login.example/a")
    assert {"a", "svg"} <= set(shown(waiting).seen)
    bad = msgspec.structs.replace(waiting, auth_url="javascript:alert(1)")
    assert "a" not in shown(bad).seen


def test_routes_and_names_are_listed() -> None:
    """As by ``tnet routes`` and ``tnet dns status``; what others wrote is text."""
    routes = (
        RouteEntry(prefix="10.0.0.0/8", peer=EVIL, peer_id="n2", verdict="used", used=True),
        RouteEntry(prefix="10.1.0.0/16", verdict="offered by this machine"),
    )
    view = View(RUNNING, {}, {}, False, Plan(routes, ["MagicDNS: on", "", EVIL]))
    page = Tags()
    page.feed(render(view))
    assert "script" not in page.seen
    for text in ("Routes (2)", "10.0.0.0/8", "this machine", "MagicDNS: on", "<script>alert(1)"):
        assert text in page.text
    many = Plan((routes[1],) * 1000, [])
    assert "… and 800 more" in str(render(View(RUNNING, {}, {}, False, many)))


def test_buttons_are_there_only_if_asked_for() -> None:
    """Whoever only looks has none."""
    status = msgspec.structs.replace(RUNNING, peer={"k": OUT})
    assert "button" not in shown(status).seen
    assert shown(status, actions=True).seen.count("button") == 2


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Running, with an exit node."""
    about = msgspec.structs.replace(RUNNING, peer={"k": OUT})
    backend = FakeBackend(about=about, about_path=PathDetails(id="n2"))
    with served(backend, tmp_path / "s"):
        yield Daemon(backend, tmp_path / "s")


@pytest.fixture(params=[TOKEN])
def port(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[int]:
    """Of a site that lets things happen."""
    client = LocalClient(str(daemon.path))
    server = WebServer(("127.0.0.1", 0))
    at = server.server_address[1]
    server.site = Site(
        client,
        Looker(client, actions=True),
        token=request.param,
        hosts=frozenset({f"localhost:{at}", f"127.0.0.1:{at}"}),
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield at
    server.ending.set()
    server.shutdown()
    server.server_close()
    thread.join(5)


def ask(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """One request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    got = answer.status, answer.read(), dict(answer.headers)
    connection.close()
    return got


def act(port: int, token: str = TOKEN, **action: str) -> int:
    """Press a button; the status."""
    return ask(port, "POST", "/action", json.dumps(action).encode(), X_Tnet_Token=token)[0]


def test_the_page_needs_nothing_from_elsewhere(port: int) -> None:
    """Whole at once, without scripts or styles of others, and not kept."""
    status, body, headers = ask(port, "GET", "/")
    assert (status, b"out" in body, b"//" in body.replace(b"http://www.w3.org", b"")) == (
        200,
        True,
        False,
    )
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    for name in ("style.css", "script.js"):
        assert ask(port, "GET", f"/{name}")[0] == 200
    assert ask(port, "GET", "/../pyproject.toml")[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_other_names_and_other_sites_are_kept_out(port: int, headers: dict[str, Any]) -> None:
    """Reading and acting alike."""
    assert ask(port, "GET", "/", **headers)[0] == 403
    body = json.dumps({"action": "down"}).encode()
    assert ask(port, "POST", "/action", body, X_Tnet_Token=TOKEN, **headers)[0] == 403


def test_actions_do_what_they_say(port: int, daemon: Daemon) -> None:
    """With the token of the printed address."""
    wishes = daemon.backend
    assert act(port, action="up") == 200
    assert wishes.current.want_running
    assert act(port, action="down") == 200
    assert wishes.prefs().want_running is False
    assert act(port, action="exit-node", value="100.64.0.2") == 200
    assert wishes.prefs().exit_node_ip == "100.64.0.2"
    assert act(port, action="exit-node", value="") == 200
    assert wishes.prefs().wants_exit_node is False


@pytest.mark.parametrize(
    ("token", "action", "status"),
    [("", "down", 403), ("wrong", "down", 403), ("\u00e9", "down", 403), (TOKEN, "rm", 409)],
)
def test_nobody_else_acts(port: int, daemon: Daemon, token: str, action: str, status: int) -> None:
    """Nor does anything unknown happen."""
    before = daemon.backend.current
    assert act(port, token, action=action) == status
    assert daemon.backend.current == before


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"action": 3}', b"x" * 5000])
def test_garbage_is_refused(port: int, body: bytes) -> None:
    """And the next request is answered."""
    assert ask(port, "POST", "/action", body, X_Tnet_Token=TOKEN)[0] in (400, 413)
    assert ask(port, "GET", "/")[0] == 200


@pytest.mark.parametrize("port", [""], indirect=True)
def test_a_page_that_only_shows_lets_nothing_happen(port: int) -> None:
    """Not even with an empty token."""
    assert act(port, "", action="down") == 403


def test_events_tell_of_changes(port: int, daemon: Daemon) -> None:
    """The first at once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert b"Running" in answer.readline()
    daemon.backend.about = Status(backend_state="Stopped")
    while b"Stopped" not in answer.readline():
        pass
    connection.close()


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("0.0.0.0:8088", "for this machine alone"),
        ("localhost", "for this machine alone"),
        ("localhost:x", "write it as localhost:PORT"),
        ("127.0.0.1:99999", "write it as localhost:PORT"),
    ],
)
def test_it_is_served_on_this_machine_alone(daemon: Daemon, listen: str, says: str) -> None:
    """Others need a way that asks who they are."""
    run = daemon.run("web", f"--listen={listen}")
    assert (run.exit_code, says in run.output) == (2, True)
