"""Prometheus' text format.

::

    # HELP name what it is
    # TYPE name counter
    name{label="value"} 7

Source: Prometheus, "Text-based format", version 0.0.4.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Kind(StrEnum):
    """Counters only grow, from the start of the daemon."""

    COUNTER = "counter"
    GAUGE = "gauge"


class Sample(NamedTuple):
    """One value, and what tells it from the others of its metric."""

    value: float
    labels: Mapping[str, str] = {}


class Metric(NamedTuple):
    """A name with its samples; one without any is not shown."""

    name: str
    kind: Kind
    about: str
    samples: tuple[Sample, ...]


def counter(name: str, about: str, *samples: Sample) -> Metric:
    """One that only grows."""
    return Metric(name, Kind.COUNTER, about, samples)


def gauge(name: str, about: str, *samples: Sample) -> Metric:
    """One that goes up and down."""
    return Metric(name, Kind.GAUGE, about, samples)


def render(metrics: Iterable[Metric]) -> str:
    """The text; label values may be anything."""
    return "".join(_lines(metric) for metric in metrics if metric.samples)


def _lines(metric: Metric) -> str:
    head = f"# HELP {metric.name} {metric.about}\n# TYPE {metric.name} {metric.kind}\n"
    return head + "".join(f"{metric.name}{_labels(s)} {_number(s.value)}\n" for s in metric.samples)


def _labels(sample: Sample) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
