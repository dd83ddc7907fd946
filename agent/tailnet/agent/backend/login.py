"""What a node says about itself to the control server: ``Hostinfo`` from prefs and platform."""

from dataclasses import dataclass
from datetime import datetime

from tailnet.agent._version import __version__
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.tailcfg.codec import instant
from tailnet.agent.tailcfg.node import Hostinfo, NetInfo, Service


@dataclass(frozen=True, slots=True)
class Host:
    """Facts about this machine that do not change while the daemon runs."""

    hostname: str
    os_version: str = ""
    distro: str = ""
    distro_version: str = ""
    distro_code_name: str = ""
    machine: str = ""
    container: bool | None = None
    env: str = ""
    device_model: str = ""
    cloud: str = ""
    desktop: bool | None = None
    userspace: bool = False


GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


def key_left(netmap: NetworkMap | None, today: datetime) -> float | None:
    """Seconds until this node's key ends, by the server's date; ``None``: never, or unknown."""
    expiry = instant(netmap.self_node.key_expiry) if netmap else None
    return None if expiry is None else (expiry - today).total_seconds()


def hostinfo(
    prefs: Prefs,
    host: Host,
    backend_log_id: str,
    net_info: NetInfo | None,
    services: tuple[Service, ...] = (),
) -> Hostinfo:
    """The full document, sent whole in every request (servers replace what they have)."""
    return Hostinfo(
        ipn_version=__version__,
        backend_log_id=backend_log_id,
        os="linux",
        os_version=host.os_version,
        container=host.container,
        env=host.env,
        device_model=host.device_model,
        cloud=host.cloud,
        desktop=host.desktop,
        distro=host.distro,
        distro_version=host.distro_version,
        distro_code_name=host.distro_code_name,
        hostname=prefs.hostname or host.hostname,
        shields_up=prefs.shields_up,
        no_logs_no_support=True,
        machine=host.machine,
        go_arch=GO_ARCH.get(host.machine, host.machine),
        routable_ips=tuple(prefs.advertise_routes or ()) or None,
        request_tags=tuple(prefs.advertise_tags or ()) or None,
        services=services,
        net_info=net_info,
        userspace=host.userspace,
        userspace_router=host.userspace,
        app_connector=prefs.app_connector.advertise,
        peer_relay=True if prefs.relay_server_port is not None else None,
        remote_config=prefs.remote_config,
        exit_node_id=prefs.exit_node_id,
    )
