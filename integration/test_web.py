"""``tnet web`` in a real browser: what it draws, in the light and in the dark, wide and narrow.

With ``SCREENSHOTS=FOLDER`` the pictures stay there: ``make screenshots`` makes those of the docs.
"""

import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.browser import browser
from integration.lab.config import AUTH_KEY
from integration.lab.host import BIN, Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

CHROMIUM = shutil.which("chromium")
Browse = Callable[..., str]


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Three hosts; h1 has spoken with h2."""
    lab = make_lab(flat("h1", "h2", "h3"))
    for host in lab.hosts.values():
        host.start()
        host.up(AUTH_KEY)
    lab.wait_complete()
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    until(
        "a direct path",
        lambda: "via 10." in here.tnet("ping", "-c", "1", "h2", check=False).stdout,
        20.0,
    )
    assert here.ping_os(there.ipv4, count=1).lost == 0
    return lab


@pytest.fixture(scope="module")
def address(lab: Lab) -> str:
    """Of h1's page, whose buttons work."""
    host = lab.hosts["h1"]
    command = [str(BIN / "tnet"), f"--socket={host.socket}", "web", "--listen=localhost:0"]
    served = host.spawn("web", *command, "--actions")
    until("the page", lambda: "http://" in served.log.read_text(), 10.0)
    found = re.search(r"http://\S+", served.log.read_text())
    assert found is not None
    return found[0]


@pytest.fixture
def browse(lab: Lab, tmp_path: Path) -> Browse:
    """Opens a page in h1's namespace; the document as the browser has it after a while."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    host: Host = lab.hosts["h1"]
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))

    def run(url: str, *flags: str, picture: str = "", width: int = 1000, height: int = 1120) -> str:
        shot = [f"--screenshot={pictures / picture}.png"] if picture else []
        done = host.exec(
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},{height}", "--timeout=2500", *shot, *flags,
            "--dump-dom", url, timeout=60.0,
        )  # fmt: skip
        return done.stdout

    return run


def test_the_page_shows_node_peers_and_paths(browse: Browse, address: str, lab: Lab) -> None:
    """Drawn by a browser that runs its script: it also took an event."""
    document = browse(address)
    assert "h1 <small>Running</small>" in document
    for host in ("h2", "h3"):
        assert str(lab.hosts[host].ipv4) in document
    assert 'class="direct"' in document
    assert "MagicDNS: on" in document
    assert len(re.findall(r"<line [^>]*></line>", document)) == 2  # beside, not inside, each other
    note = re.search(r'<p id="note"[^>]*>([^<]*)</p>', document)
    assert note is not None
    assert note[1] == ""


@pytest.mark.parametrize(
    ("picture", "width", "flags"),
    [
        ("web-light", 1000, ()),
        ("web-dark", 1000, ("--blink-settings=preferredColorScheme=0",)),
        ("web-phone", 500, ()),
    ],
)
def test_it_is_drawn_in_every_form(
    browse: Browse, address: str, tmp_path: Path, picture: str, width: int, flags: tuple[str, ...]
) -> None:
    """A picture of some size comes of it, dark where that is wanted."""
    browse(address, *flags, picture=picture, width=width)
    data = (Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"{picture}.png").read_bytes()
    assert 5000 < len(data) < 100_000
    shade = corner(data)
    assert shade < 64 if picture == "web-dark" else shade > 192


def test_on_a_phone_everything_can_be_reached(lab: Lab, address: str, tmp_path: Path) -> None:
    """Its page scrolls down only, and a table that is too wide stays where it was scrolled to."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    table = "document.querySelector('.wide')"
    with browser(here, CHROMIUM, tmp_path / "profile") as page:
        page.phone(360, 640)
        page.open(address)
        until(
            "the peers",
            lambda: "h3" in str(page.value("document.documentElement?.textContent")),
            20.0,
        )
        until("its width", lambda: page.value("document.documentElement.scrollWidth") == 360, 10.0)
        page.value(f"{table}.scrollIntoView()")
        hidden = page.value(f"{table}.scrollWidth - {table}.clientWidth")
        assert hidden > 0
        page.value(f"{table}.scrollLeft = 9999, {table}.setAttribute('data-seen', '')")
        here.ping_os(there.ipv4, count=3)
        until("news", lambda: page.value(f"!{table}.hasAttribute('data-seen')"), 20.0)
        assert page.value(f"{table}.scrollLeft") > hidden // 2  # a figure may be shorter now
        page.value("scrollTo(0, 99999)")
        last = page.value("main.lastElementChild.getBoundingClientRect().bottom")
        assert 0 < last <= 640


def corner(png: bytes) -> int:
    """How bright its first pixel is (RFC 2083: no filter changes that one)."""
    at = png.index(b"IDAT")
    size = int.from_bytes(png[at - 4 : at], "big")
    pixels = zlib.decompressobj().decompress(png[at + 4 : at + 4 + size])
    return sum(pixels[1:4]) // 3


def test_other_pages_of_the_browser_get_nothing(
    browse: Browse, address: str, tmp_path: Path
) -> None:
    """A page from elsewhere can neither read it nor press a button."""
    base = address.partition("#")[0]
    evil = tmp_path / "evil.html"
    evil.write_text(
        "<p id=out>nothing</p><script>"
        f"fetch('{base}').then(a => a.text()).then(t => {{ out.textContent = t }})"
        ".catch(e => { out.textContent = 'kept out' });"
        f"fetch('{base}action', {{method: 'POST', body: '{{}}'}}).catch(() => 0)"
        "</script>"
    )
    document = browse(f"file://{evil}")
    assert "kept out" in document
    assert "Running" not in document
