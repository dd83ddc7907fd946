"""``tnet netcheck``.

Source: tailscale cmd/tailscale/cli/netcheck.go.
"""

import time
from collections.abc import Mapping

import click
from msgspec import json

from tailnet.agent.localapi.schema.network import DERPRegionName, DERPRegions, NetcheckReport
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import DURATION, GoCommand, flag
from tailnet.cli.jsontext import harmless, indented
from tailnet.cli.text import clean, format_fine
from tailnet.cli.working import Working
from tailnet.client.questions import joined

LEAST = 1.0  # seconds between two measurements
UNNAMED = DERPRegionName()


@click.command(cls=GoCommand, help="Measure the network: UDP, NAT and the relays' latencies.")
@click.option(
    "--format",
    "shape",
    type=click.Choice(("", "json", "json-line")),
    default="",
    metavar="FORMAT",
    help="json or json-line instead of text.",
)
@click.option(
    "--every", type=DURATION, default=0.0, metavar="DURATION", help="Repeat, this far apart."
)
@flag("verbose", help="Show regions' numbers and both families' latencies.")
@click.option("--bind-address", default="", metavar="IP", help="Address to send from.")
@click.option(
    "--bind-port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="UDP port to send from.",
)
@with_client
def command(  # noqa: PLR0913 - one a flag
    client: LocalClient,
    *,
    shape: str,
    every: float,
    verbose: bool,
    bind_address: str,
    bind_port: int,
) -> None:
    """The daemon measures: its sockets bypass the tunnel, whatever exit node is in use."""
    if 0 < every < LEAST:
        msg = f"--every is {LEAST:g}s at least; each time asks all relays"
        raise Failure(msg)
    query = joined({"address": bind_address, "port": bind_port})
    while True:
        with Working("measuring the network"):
            answer = client.request("POST", f"netcheck?{query}")
        if shape:
            click.echo(harmless(answer.decode()) if shape == "json-line" else indented(answer))
        else:
            report = json.decode(answer, type=NetcheckReport)
            regions = client.get("derpmap", DERPRegions).regions or {}
            click.echo("\n".join(describe(report, regions, verbose=verbose)))
        if not every:
            return
        time.sleep(every)


def describe(
    report: NetcheckReport, regions: Mapping[int, DERPRegionName | None], *, verbose: bool = False
) -> list[str]:
    """The report for people."""
    lines = [
        "",
        "Report:",
        f"\t* Time: {report.now:%Y-%m-%dT%H:%M:%S.%f}Z",
        f"\t* UDP: {_bool(report.udp)}",
        f"\t* IPv4: {_family(report.global_v4, works=report.ipv4)}",
        f"\t* IPv6: {_ipv6(report)}",
        f"\t* MappingVariesByDestIP: {_bool(report.mapping_varies_by_dest_ip)}",
        f"\t* PortMapping: {_port_mapping(report)}",
    ]
    if report.captive_portal is not None:
        lines.append(f"\t* CaptivePortal: {_bool(report.captive_portal)}")
    if not report.region_latency:
        return [*lines, "\t* Nearest DERP: unknown (no response to latency probes)"]
    nearest = regions.get(report.preferred_derp) or UNNAMED
    lines += [f"\t* Nearest DERP: {clean(nearest.region_name)}", "\t* DERP latency:"]
    latency = report.region_latency
    for region_id in sorted(regions, key=lambda r: (latency.get(r, 1 << 62), r)):
        region = regions[region_id]
        if region is not None:
            lines.append(_region(region_id, region, report, verbose=verbose))
    return lines


def _region(
    region_id: int, region: DERPRegionName, report: NetcheckReport, *, verbose: bool
) -> str:
    about = clean(region.region_name)
    if verbose:
        families = [
            f"{name} {format_fine(of[region_id] / 1e9)}"
            for name, of in (("IPv4", report.region_v4_latency), ("IPv6", report.region_v6_latency))
            if region_id in of
        ]
        about = ", ".join([f"derp{region_id}", about, *families])
    measured = region_id in report.region_latency
    shown = format_fine(report.region_latency[region_id] / 1e9) if measured else ""
    return f"\t\t- {clean(region.region_code):>3}: {shown:<7} ({about})"


def _family(seen: str, *, works: bool) -> str:
    if not works:
        return "no"
    return f"yes, {clean(seen)}" if seen else "(no addr found)"


def _ipv6(report: NetcheckReport) -> str:
    if report.ipv6:
        return _family(report.global_v6, works=True)
    return "no, but OS has support" if report.os_has_ipv6 else "no, unavailable in OS"


def _port_mapping(report: NetcheckReport) -> str:
    kinds = (("UPnP", report.upnp), ("NAT-PMP", report.pmp), ("PCP", report.pcp))
    return ", ".join(name for name, there in kinds if there)


def _bool(value: bool | None) -> str:
    return "" if value is None else str(value).lower()
