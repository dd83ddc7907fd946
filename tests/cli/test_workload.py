"""Identity tokens of the places we may run in, against small servers that behave like theirs."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tailnet.cli.errors import Failure
from tailnet.cli.workload import GITHUB_TOKEN, GITHUB_URL, GOOGLE_HOST, identity_token


class Metadata(BaseHTTPRequestHandler):
    """GitHub's endpoint under ``/github``, Google's elsewhere."""

    def do_GET(self) -> None:
        """As they answer."""
        github = self.path.startswith("/github?v=1&audience=a%2Fb")
        google = self.path.endswith("/identity?audience=a%2Fb&format=full")
        good = (github and self.headers.get("Authorization") == "Bearer pass") or (
            google and self.headers.get("Metadata-Flavor") == "Google"
        )
        self.send_response(200 if good else 403)
        self.end_headers()
        self.wfile.write((b'{"value":"g.h.t"}' if github else b"g.c.p\n") if good else b"no\x1b")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def host() -> Iterator[str]:
    """Where it listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_github_actions_gives_a_token(host: str, tmp_path: Path) -> None:
    """With the job's own token."""
    environ = {GITHUB_URL: f"http://{host}/github?v=1", GITHUB_TOKEN: "pass"}
    assert identity_token("a/b", environ, tmp_path) == "g.h.t"
    with pytest.raises(Failure, match=r"^GitHub Actions gave no identity token: no.? \(403\)$"):
        identity_token("a/b", {**environ, GITHUB_TOKEN: "wrong"}, tmp_path)


def test_google_gives_a_token(host: str, tmp_path: Path) -> None:
    """From the metadata server."""
    assert identity_token("a/b", {GOOGLE_HOST: host}, tmp_path) == "g.c.p"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "--audience works in GitHub Actions and on Google Cloud only"),
        ({GOOGLE_HOST: "127.0.0.1:1"}, "Google gave no identity token: "),
        ({GITHUB_URL: "file:///etc/passwd", GITHUB_TOKEN: "x"}, "no usable URL"),
    ],
)
def test_what_does_not_work_is_said(environ: dict[str, str], words: str, tmp_path: Path) -> None:
    """In one line."""
    with pytest.raises(Failure, match=words):
        identity_token("a/b", environ, tmp_path)


def test_amazon_is_declined(tmp_path: Path) -> None:
    """By name."""
    vendor = tmp_path / "sys/class/dmi/id/sys_vendor"
    vendor.parent.mkdir(parents=True)
    vendor.write_text("Amazon EC2\n")
    with pytest.raises(Failure, match="AWS are not supported"):
        identity_token("a/b", {}, tmp_path)
