"""Memory: by kind of object at this moment, or by the place that asked for it within a time."""

import gc
import sys
import tracemalloc
from pathlib import PurePath

from tailnet.agent.profiling.pprof import Kind, Place, Stack, encode
from tailnet.agent.slices import Steps

KINDS = (Kind("inuse_objects", "count"), Kind("inuse_space", "bytes"))
DEPTH = 16  # places of a stack that are kept for each piece of memory
SLICE = 50_000  # objects counted in one go


def by_kind(begun: int) -> Steps[bytes]:
    """Containers and objects that hold others, by class; what native parts have is not seen.

    ``begun``: wall time [ns since 1970].
    """
    found: dict[type, tuple[int, int]] = {}
    objects = gc.get_objects()
    for number, each in enumerate(objects):
        kind = type(each)
        count, size = found.get(kind, (0, 0))
        found[kind] = count + 1, size + sys.getsizeof(each, 0)
        if number % SLICE == SLICE - 1:
            yield
    del objects
    samples: dict[Stack, tuple[int, int]] = {
        (Place(f"{kind.__module__}.{kind.__qualname__}", str(kind.__module__), 0),): numbers
        for kind, numbers in found.items()
    }
    return encode(KINDS, samples, begun=begun, took=0)


def begin() -> None:
    """Remember from now on who asks for memory; that slows everything down."""
    tracemalloc.start(DEPTH)


def end(begun: int, took: int) -> bytes:
    """What was asked for since :func:`begin` and is still in use; both times [ns]."""
    try:
        traces = tracemalloc.take_snapshot().statistics("traceback")
    finally:
        tracemalloc.stop()
    samples: dict[Stack, tuple[int, int]] = {}
    for about in traces:
        stack = tuple(_place(frame) for frame in reversed(about.traceback))  # innermost first
        samples[stack] = about.count, about.size
    return encode(KINDS, samples, begun=begun, took=took)


def _place(frame: tracemalloc.Frame) -> Place:
    """Functions are not known here, only lines."""
    return Place(f"{PurePath(frame.filename).name}:{frame.lineno}", frame.filename, frame.lineno)
