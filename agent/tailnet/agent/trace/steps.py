"""What a trace finds: steps, and what each says."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class Stage(StrEnum):
    """Where a packet is decided over, in the order of its way."""

    STATE = "state"
    NAME = "name"
    NODE = "node"
    ROUTE = "route"
    KEY = "key"
    PATH = "path"
    SESSION = "session"
    FILTER = "filter"
    ANSWER = "answer"


class Verdict(StrEnum):
    """``NOTE``: worth knowing, and perhaps the reason; ``STOP``: it goes no further."""

    PASS = "pass"  # noqa: S105 - nothing secret
    NOTE = "note"
    STOP = "stop"


class Step(NamedTuple):
    """One decision.  ``evidence``: what it rests on, a line each."""

    stage: Stage
    verdict: Verdict
    says: str
    evidence: tuple[str, ...] = ()


class Trace(NamedTuple):
    """All steps, to the end or to the first that stops."""

    steps: tuple[Step, ...]

    @property
    def verdict(self) -> Verdict:
        """The gravest of all."""
        found = {step.verdict for step in self.steps}
        return next(v for v in (Verdict.STOP, Verdict.NOTE, Verdict.PASS) if v in (*found, v.PASS))

    @property
    def decides(self) -> Step | None:
        """The step to look at: what stops, else the first note."""
        for verdict in (Verdict.STOP, Verdict.NOTE):
            for step in self.steps:
                if step.verdict is verdict:
                    return step
        return None


def passes(stage: Stage, says: str, *evidence: str) -> Step:
    """It goes on."""
    return Step(stage, Verdict.PASS, says, evidence)


def note(stage: Stage, says: str, *evidence: str) -> Step:
    """It goes on, but."""
    return Step(stage, Verdict.NOTE, says, evidence)


def stop(stage: Stage, says: str, *evidence: str) -> Step:
    """It does not."""
    return Step(stage, Verdict.STOP, says, evidence)


def follow(steps: Iterable[Step]) -> Trace:
    """Take steps to the end, or to the first that stops."""
    taken: list[Step] = []
    for step in steps:
        taken.append(step)
        if step.verdict is Verdict.STOP:
            break
    return Trace(tuple(taken))
