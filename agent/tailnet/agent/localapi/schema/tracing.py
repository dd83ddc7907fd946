"""The answer of ``trace``; upstream has none."""

from msgspec import Struct


class TraceStep(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One decision: ``verdict`` is pass, note or stop; ``evidence`` are lines."""

    stage: str = ""
    verdict: str = "pass"
    text: str = ""
    evidence: tuple[str, ...] = ()


class TraceAnswer(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET trace``: a packet's way, to its end or to what stops it; ``verdict``: the gravest."""

    src: str = ""
    dst: str = ""
    flow: str = ""
    verdict: str = "pass"
    steps: tuple[TraceStep, ...] = ()
