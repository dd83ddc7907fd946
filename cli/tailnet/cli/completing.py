"""What a shell may offer: the names of peers, from a daemon that answers at once."""

import click
from click.shell_completion import BashComplete, CompletionItem, ShellComplete, get_completion_class

from tailnet.client.errors import ClientError

VARIABLE = "_TNET_COMPLETE"  # what click looks at


class PeerName(click.ParamType[str]):
    """A peer by name or address; what it is, the command finds out."""

    name = "peer"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Any text."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """First labels of the names that begin so; none without a daemon."""
        from tailnet.cli.client import LocalClient  # noqa: PLC0415 - only when a key was pressed

        try:
            status = LocalClient(ctx.find_root().params.get("socket")).status()
        except ClientError:
            return []
        peers = (status.peer or {}).values()
        labels = sorted({peer.dns_name.partition(".")[0] or peer.host_name for peer in peers})
        begun = incomplete.lower()
        return [
            CompletionItem(label)
            for label in labels
            if label.startswith(begun) and label.replace("-", "").isalnum()
        ]


PEER = PeerName()


def script(shell: str, root: click.Command) -> str:
    """The function to source in ``bash``, ``zsh`` or ``fish``."""
    made = get_completion_class(shell)
    if made is None:
        msg = f"no completion for {shell}"
        raise ValueError(msg)
    completer = made(root, {}, "tnet", VARIABLE)
    # bash's own would first start a shell to ask for its version
    text = ShellComplete.source(completer) if made is BashComplete else completer.source()
    return text.rstrip() + "\n"
