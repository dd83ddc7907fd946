"""Every field of Hostinfo that control may know is filled from what we know."""

import msgspec
import pytest

from tailnet.agent.backend.login import Host, hostinfo
from tailnet.agent.backend.prefs import AppConnectorPrefs, Prefs
from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.node import Hostinfo, NetInfo

HOST = Host(
    hostname="box",
    os_version="6.1",
    distro="debian",
    distro_version="12",
    distro_code_name="bookworm",
    machine="aarch64",
    container=True,
    env="k8s",
    device_model="Pi",
    cloud="aws",
    desktop=False,
    userspace=True,
)
PREFS = Prefs(
    hostname="named",
    shields_up=True,
    advertise_routes=("192.0.2.0/24",),
    advertise_tags=("tag:a",),
    app_connector=AppConnectorPrefs(advertise=True),
    remote_config=True,
    exit_node_id="n1",
    relay_server_port=0,
)
FILLED: dict[str, object] = {
    "BackendLogID": "log",
    "OS": "linux",
    "OSVersion": "6.1",
    "Container": True,
    "Env": "k8s",
    "DeviceModel": "Pi",
    "Cloud": "aws",
    "Desktop": False,
    "Distro": "debian",
    "DistroVersion": "12",
    "DistroCodeName": "bookworm",
    "Hostname": "named",
    "ShieldsUp": True,
    "NoLogsNoSupport": True,
    "Machine": "aarch64",
    "GoArch": "arm64",
    "RoutableIPs": ["192.0.2.0/24"],
    "RequestTags": ["tag:a"],
    "Services": [],
    "NetInfo": {"PreferredDERP": 7},
    "Userspace": True,
    "UserspaceRouter": True,
    "AppConnector": True,
    "RemoteConfig": True,
    "ExitNodeID": "n1",
    "PeerRelay": True,
}
# Fields that are ours to read (peers may fill them), or that say nothing of a program in Python.
NOT_SENT = {"App", "Package", "GoVersion", "Location"}


def told(prefs: Prefs = PREFS, host: Host = HOST) -> dict[str, object]:
    """As it goes over the wire."""
    info = hostinfo(prefs, host, "log", NetInfo(preferred_derp=7))
    tree: dict[str, object] = msgspec.json.decode(encode(info))
    return tree


def test_every_field_is_filled_or_left_out_on_purpose() -> None:
    """One is missing here as soon as the type has another."""
    tree = told()
    assert tree.pop("IPNVersion")
    assert tree == FILLED
    names = {f.encode_name for f in msgspec.structs.fields(Hostinfo)}
    assert names == FILLED.keys() | NOT_SENT | {"IPNVersion"}


def test_the_machines_own_name_is_the_default() -> None:
    """Without a pref."""
    assert told(Prefs())["Hostname"] == "box"


@pytest.mark.parametrize(
    ("machine", "arch"), [("x86_64", "amd64"), ("i686", "386"), ("armv7l", "arm"), ("odd", "odd")]
)
def test_architectures_have_gos_names(machine: str, arch: str) -> None:
    """Unknown ones keep their own."""
    assert told(host=Host(hostname="x", machine=machine))["GoArch"] == arch
