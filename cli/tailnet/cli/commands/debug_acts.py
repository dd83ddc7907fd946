"""``tnet debug``: what makes the daemon do something, and what upstream has that is not here.

Source: tailscale cmd/tailscale/cli/debug.go.
"""

import click

from tailnet.agent import clock
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import DURATION, GoCommand, suggest
from tailnet.cli.text import clean, clean_lines
from tailnet.client import questions

ACTS = {
    "rebind": "Bind the UDP sockets anew, and search every path again.",
    "restun": "Find out again where this machine is.",
    "force-netmap-update": "Ask the control server for the whole network map again.",
    "break-tcp-conns": "Break the daemon's TCP connections; it makes new ones.",
    "break-derp-conns": "Break the connections to relays; the daemon makes new ones.",
    "clear-netmap-cache": "Remove the network map that is kept on disk.",
    "rotate-disco-key": "Find paths by another disco key; control tells the peers.",
    "pick-new-derp": "Have another home relay, until the measurement after the next.",
    "derp-set-on-demand": "Have no home relay: peers that have no path do not find one.",
    "derp-unset-on-demand": "Have a home relay again.",
}
"""Actions of ``POST debug`` that answer with nothing."""

ROUTES = {
    "derp-set-on-demand": "derp-set-homeless",
    "derp-unset-on-demand": "derp-unset-homeless",
}
"""Where the action has another name than the command."""

ELSEWHERE = {
    "daemon-bus-events": "this daemon has no event bus",
    "daemon-bus-graph": "this daemon has no event bus",
    "daemon-bus-queues": "this daemon has no event bus",
    "dev-store-set": "the state file is changed while the daemon is stopped",
    "go-buildinfo": "this is Python; see: tnet version --daemon, tnet licenses",
}
"""Upstream's other commands, and what to say to those who try them."""


FLAGS = ("cpu-profile", "mem-profile", "profile-seconds", "file")


class DebugGroup(click.Group):
    """Knows what upstream has."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Flags with one dash too; the one for Taildrop is not here."""
        for at, word in enumerate(args):
            if not word.startswith("-"):
                break
            name = word.lstrip("-").partition("=")[0]
            if name == "file" and not ctx.resilient_parsing:
                msg = "there is no tnet debug --file: Taildrop is not here yet"
                raise click.UsageError(msg, ctx)
            if name in FLAGS:
                args = [*args[:at], f"--{word.lstrip('-')}", *args[at + 1 :]]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """With words for what is not here."""
        if args and args[0] not in self.commands and not ctx.resilient_parsing:
            word = args[0]
            msg = f"unknown command: {word}{suggest(word, self.commands)}"
            if word in ELSEWHERE:
                msg = f"there is no tnet debug {word}: {ELSEWHERE[word]}"
            raise click.UsageError(msg, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its whole line."""
        with formatter.section("Commands"):
            rows = sorted(self.commands.items())
            formatter.write_dl([(name, each.get_short_help_str(200)) for name, each in rows])


def add_to(group: click.Group) -> None:
    """Below ``tnet debug``."""
    for name, help_ in ACTS.items():
        group.add_command(_act(name, help_))
    for command in (set_expire, local_creds, set_udp_gro_forwarding):
        group.add_command(command)


def _act(name: str, help_: str) -> click.Command:
    @click.command(name, cls=GoCommand, help=help_)
    @with_client
    def command(client: LocalClient) -> None:
        client.request("POST", f"debug?action={ROUTES.get(name, name)}")

    return command


@click.command(
    "set-udp-gro-forwarding", cls=GoCommand, help="Make UDP that this machine forwards quick."
)
@with_client
def set_udp_gro_forwarding(client: LocalClient) -> None:
    """Until the next start of the machine."""
    if problem := client.ask(questions.set_udp_gro_forwarding()).warning:
        raise Failure(clean(problem))


@click.command("set-expire", cls=GoCommand, help="Let this machine's key end earlier.")
@click.option("--in", "seconds", type=DURATION, metavar="DURATION", help="From now.")
@with_client
def set_expire(client: LocalClient, *, seconds: float | None) -> None:
    """A login is needed after that; the control server decides whether it does so."""
    if not seconds:
        msg = "say when: --in=10m; after that this machine must log in again"
        raise Failure(msg)
    answer = client.request(
        "POST", f"set-expiry-sooner?expiry={int(clock.wall().timestamp() + seconds)}"
    )
    click.echo(clean_lines(answer.decode(errors="replace")).rstrip("\n"))


@click.command("local-creds", cls=GoCommand, help="Print how other programs reach the LocalAPI.")
@with_client
def local_creds(client: LocalClient) -> None:
    """There is no password: the socket says who asks."""
    click.echo(f"curl --unix-socket {client.path} http://local-tailscaled.sock/localapi/v0/status")
