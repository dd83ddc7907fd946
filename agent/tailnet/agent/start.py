"""``tailnetd`` from its first instruction.

What is loaded at the start stays to the end: the garbage collector need not look at it, neither
meanwhile, which is a sixth of the time to load it all, nor ever after.
"""

from tailnet.agent.slices import much_to_keep


def main() -> None:
    """Load the program and run it."""
    with much_to_keep():
        from tailnet.agent.main import main as run  # noqa: PLC0415 - this is what takes long
    run()
