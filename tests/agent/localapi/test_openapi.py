"""The published description is that of the routes, and the answers are as it says."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tests.agent.localapi.test_who import tailnet
from tests.agent.trace.test_walks import box, facts
from tests.support.described import STREAMS, Described
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import RUNNING

from tailnet.agent.localapi.contract.table import CONTRACT
from tailnet.agent.localapi.routes import ROUTES, published
from tailnet.agent.localapi.schema.paths import PathDetails, PingResult

PUBLISHED = Path(__file__).resolve().parents[3] / "docs" / "openapi.json"


def test_every_route_has_a_contract() -> None:
    """And no other has one."""
    assert {name: set(methods) for name, methods in CONTRACT.items()} == {
        name: set(methods) for name, methods in ROUTES.items()
    }


def test_the_published_description_is_todays() -> None:
    """If not: make openapi."""
    assert json.loads(PUBLISHED.read_text()) == json.loads(json.dumps(published()))


NAMES = sorted(
    (name, method)
    for name, methods in CONTRACT.items()
    for method in methods
    if name not in STREAMS
)


@pytest.mark.parametrize(("name", "method"), NAMES)
def test_answers_are_as_described(tmp_path: Path, name: str, method: str) -> None:
    """Whatever is asked, by whoever may."""
    backend = FakeBackend(
        about=RUNNING,
        known=tailnet(),
        looked_at=facts(box()),
        about_path=PathDetails(),
        pings=[PingResult()] * 100,
    )
    path = tmp_path / "s"
    with served(backend, path):
        described = Described(path)

        @given(described.cases(name, method))
        @settings(
            max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        def ask(case: object) -> None:
            described.check(case)

        ask()
