"""``tnet netcheck``, against a real LocalAPI with nothing behind it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.fake_backend import FakeBackend
from tests.support.served import served

from tailnet.agent.localapi.schema.network import DERPRegionName, NetcheckReport
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion
from tailnet.cli.commands.netcheck import describe
from tailnet.cli.main import cli

REPORT = NetcheckReport(
    now=datetime(2026, 11, 28, 16, 0, 0, 5000, UTC),
    udp=True,
    ipv4=True,
    os_has_ipv6=True,
    mapping_varies_by_dest_ip=False,
    upnp=True,
    pcp=True,
    preferred_derp=2,
    region_latency={1: 31_250_000, 2: 12_340_000},
    region_v4_latency={1: 31_250_000, 2: 12_340_000},
    global_v4="192.0.2.7:41641",
)
REGIONS = {
    1: DERPRegion(region_id=1, region_code="ams", region_name="Amsterdam"),
    2: DERPRegion(region_id=2, region_code="fra", region_name="Frankfurt"),
    3: DERPRegion(region_id=3, region_code="tok", region_name="Tokyo"),
}
TEXT = """
Report:
\t* Time: 2026-11-28T16:00:00.005000Z
\t* UDP: true
\t* IPv4: yes, 192.0.2.7:41641
\t* IPv6: no, but OS has support
\t* MappingVariesByDestIP: false
\t* PortMapping: UPnP, PCP
\t* Nearest DERP: Frankfurt
\t* DERP latency:
\t\t- fra: 12.3ms  (Frankfurt)
\t\t- ams: 31.2ms  (Amsterdam)
\t\t- tok:         (Tokyo)
"""


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FakeBackend]:
    """A daemon's, which has measured."""
    backend = FakeBackend(relays=DERPMap(regions=dict(REGIONS)), measured=REPORT)
    with served(backend, tmp_path / "s", lambda _: 0):
        yield backend


def run(tmp_path: Path, *args: str) -> Result:
    """Run it."""
    return CliRunner().invoke(cli, ["--socket", str(tmp_path / "s"), "netcheck", *args])


@pytest.mark.usefixtures("backend")
def test_report_for_people(tmp_path: Path) -> None:
    """Regions by latency, silent ones last."""
    assert run(tmp_path).stdout == TEXT


@pytest.mark.usefixtures("backend")
def test_report_in_json_is_the_daemons(tmp_path: Path) -> None:
    """Indented, or in one line."""
    whole = json.loads(run(tmp_path, "--format=json").stdout)
    line = run(tmp_path, "--format", "json-line").stdout
    assert line.count("\n") == 1
    assert json.loads(line) == whole
    assert whole["RegionLatency"] == {"1": 31_250_000, "2": 12_340_000}
    assert (whole["GlobalV4"], whole["MappingVariesByDestIP"], whole["PMP"]) == (
        "192.0.2.7:41641",
        False,
        None,
    )


def test_where_to_send_from_reaches_the_daemon(backend: FakeBackend, tmp_path: Path) -> None:
    """It is the one who sends."""
    run(tmp_path, "--bind-address=192.0.2.7", "--bind-port=7000")
    assert backend.calls == [("netcheck", "192.0.2.7", 7000)]


def test_without_relays_it_says_so_and_fails(backend: FakeBackend, tmp_path: Path) -> None:
    """There is nobody to ask."""
    backend.relays = DERPMap()
    result = run(tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no relays are known: connect this machine first, with: tnet up" in result.stderr


def test_repeats_until_interrupted(
    backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the time asked for in between."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    result = run(tmp_path, "--every=10s", "--format=json-line")
    assert (waits, len(backend.calls), result.stdout.count("\n")) == ([10.0, 10.0], 2, 2)


@pytest.mark.parametrize("bad", ["--format=xml", "--bind-port=70000", "--every=soon"])
@pytest.mark.usefixtures("backend")
def test_bad_flags_are_usage_errors(tmp_path: Path, bad: str) -> None:
    """Before anything is measured."""
    assert run(tmp_path, bad).exit_code == 2


def test_relays_are_not_asked_without_a_pause(backend: FakeBackend, tmp_path: Path) -> None:
    """A unit forgotten is a flood."""
    result = run(tmp_path, "--every=10ns")
    assert (result.exit_code, backend.calls) == (1, [])
    assert result.stderr == "--every is 1s at least; each time asks all relays\n"


def test_blocked_network_for_people() -> None:
    """Everything that is not there, and a portal."""
    lines = describe(NetcheckReport(captive_portal=True), {})
    assert lines[3:] == [
        "\t* UDP: false",
        "\t* IPv4: no",
        "\t* IPv6: no, unavailable in OS",
        "\t* MappingVariesByDestIP: ",
        "\t* PortMapping: ",
        "\t* CaptivePortal: true",
        "\t* Nearest DERP: unknown (no response to latency probes)",
    ]


def test_verbose_shows_numbers_and_families() -> None:
    """What a bug report needs; names cannot move the cursor."""
    evil = {2: DERPRegionName(region_code="fra", region_name="Frank\x1b[2Jfurt")}
    assert describe(REPORT, evil, verbose=True)[-1] == (
        "\t\t- fra: 12.3ms  (derp2, Frank[2Jfurt, IPv4 12.3ms)"
    )
