"""Traces, for people: a line for each step, and what to look at."""

import socket

from tailnet.agent.localapi.schema.tracing import TraceAnswer, TraceStep
from tailnet.cli.client import LocalClient
from tailnet.cli.errors import Failure
from tailnet.cli.text import clean
from tailnet.client import questions
from tailnet.client.errors import Refused

MARKS = {"pass": "ok", "note": "!", "stop": "STOP"}
NOT_FOUND = 404


def ask(client: LocalClient, *, src: str, dst: str, proto: str, port: int) -> TraceAnswer:
    """The daemon's view; a name it does not know is asked of this host's resolver.

    Raises:
        Failure: there is no such node or name.
    """
    try:
        return client.ask(questions.trace(dst, src=src, proto=proto, port=port))
    except Refused as error:
        if error.status != NOT_FOUND or src:
            raise
        resolved = _resolve(dst)
        if resolved is None:
            msg = f"no node and no name known here: {clean(dst)}"
            raise Failure(msg) from None
    found = client.ask(questions.trace(resolved, src=src, proto=proto, port=port))
    named = TraceStep(stage="name", text=f"{dst} is {resolved}, says this host's resolver")
    return TraceAnswer(
        src=found.src,
        dst=found.dst,
        flow=found.flow,
        verdict=found.verdict,
        steps=(named, *found.steps),
    )


def _resolve(name: str) -> str | None:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return str(found[0][4][0])


def describe(found: TraceAnswer) -> list[str]:
    """A line a step, its evidence below it."""
    width = max((len(step.stage) for step in found.steps), default=0)
    lines = []
    for step in found.steps:
        mark = MARKS.get(step.verdict, clean(step.verdict))
        lines.append(f"{mark:>4}  {clean(step.stage):<{width}}  {clean(step.text)}")
        lines += [f"{'':>{width + 8}}{clean(line)}" for line in step.evidence]
    return lines


def verdict(found: TraceAnswer) -> str:
    """The answer in one line."""
    for gravest, opening in (
        ("stop", "It does not get through"),
        ("note", "It should get through"),
    ):
        for step in found.steps:
            if step.verdict == gravest:
                but = "" if gravest == "stop" else "but "
                return f"{opening}: {but}{clean(step.text)}."
    return "Nothing here stops it."
