"""Asks the control server for one thing, or only whether it can be reached."""

import asyncio
from collections.abc import Callable

from tailnet.agent.control.dial.aio import Dialer
from tailnet.agent.control.link.aio import Link
from tailnet.agent.control.wishes import Wish, answer_untrusted
from tailnet.agent.errors import TailnetError, UserError
from tailnet.agent.keys import MachinePrivate, NodePublic

REHEARSAL_TIMEOUT = 30.0  # seconds
WISH_TIMEOUT = 30.0  # seconds


async def ask(link: Link, authority: str, own: NodePublic, wish: Wish) -> dict[str, object]:
    """Ask for something as the node ``own``; the answer.

    Raises:
        UserError: the server refuses, or cannot be reached.
    """
    try:
        async with asyncio.timeout(WISH_TIMEOUT):
            connection = await link.connect()
            reply = await connection.fetch(wish.method, wish.path, authority, wish.encode(own))
    except (TailnetError, OSError) as error:
        raise not_reached(error) from None
    return answer_untrusted(wish, reply.status, reply.body)


def not_reached(error: Exception) -> UserError:
    """The same for people."""
    return UserError(f"the control server was not reached: {str(error) or 'no answer'}")


async def rehearse(
    dialer: Dialer,
    authority: str,
    *,
    now: Callable[[], float],
    random_bytes: Callable[[int], bytes],
) -> tuple[str, ...]:
    """Reach the server as for a session, under a machine key that nobody knows, and hang up.

    What was done and how long it took, in sentences; the last one says what went wrong.
    """
    began, said = now(), []
    try:
        async with asyncio.timeout(REHEARSAL_TIMEOUT):
            key = await dialer.fetch_key()
            said.append(f"{now() - began:.3f} s: the server's key is {key}")
            connection = await dialer.connect(MachinePrivate.from_random(random_bytes(32)), key)
            said.append(
                f"{now() - began:.3f} s: a Noise connection to {authority}, "
                f"from {connection.own_address()}"
            )
            await connection.aclose()
    except (OSError, TailnetError) as error:
        said.append(f"{now() - began:.3f} s: {str(error) or 'timed out'}")
    return tuple(said)
