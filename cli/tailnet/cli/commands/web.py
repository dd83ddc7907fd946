"""``tnet web``: a page with this node, its peers and how they are reached."""

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand, flag

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command(cls=GoCommand, help="Serve a page about this node, for a browser on this machine.")
@click.option("--listen", metavar="HOST:PORT", default="localhost:8088", help="Where to serve it.")
@flag("actions", help="Let the page connect, disconnect, log in, and choose an exit node.")
@with_client
def command(client: LocalClient, *, listen: str, actions: bool) -> None:
    """Serve until Ctrl-C."""
    import secrets  # noqa: PLC0415 - what follows is not for --help

    from tailnet.cli.web.look import Looker  # noqa: PLC0415
    from tailnet.cli.web.routes import Site  # noqa: PLC0415
    from tailnet.cli.web.server import WebServer  # noqa: PLC0415

    host, port = parse_listen(listen)
    _ = client.status(peers=False)  # so that a daemon that is not there is said at once
    try:
        server = WebServer(("127.0.0.1" if host == "localhost" else host, port))
    except OSError as error:
        msg = f"cannot serve at {listen}: {error.strerror or error}"
        raise Failure(msg) from None
    port = server.server_address[1]
    token = secrets.token_urlsafe(24) if actions else ""
    hosts = frozenset(f"{name}:{port}" for name in ("localhost", "127.0.0.1"))
    server.site = Site(client, Looker(client, actions=actions), token=token, hosts=hosts)
    click.echo(f"http://localhost:{port}/{f'#{token}' if token else ''}")
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.ending.set()
        server.server_close()


def parse_listen(text: str) -> tuple[str, int]:
    """A loopback address and a port.

    Raises:
        BadParameter: it makes no sense, or others could reach it.
    """
    host, _, port = text.rpartition(":")
    if host not in LOOPBACK[::2]:
        msg = "the page is for this machine alone: use localhost:PORT; from elsewhere, ssh -L"
        raise click.BadParameter(msg)
    if not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        msg = "write it as localhost:PORT"
        raise click.BadParameter(msg)
    return host, int(port)
