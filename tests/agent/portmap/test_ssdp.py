"""Searches for gateways, and their answers."""

import pytest

from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap.ssdp import MAX_ANSWER, MAX_URL, Found, parse_untrusted, searches

IGD = "urn:schemas-upnp-org:device:InternetGatewayDevice:"


def answer(**changes: str) -> bytes:
    """A router's answer, as miniupnpd sends it; headers may be replaced."""
    headers = {
        "CACHE-CONTROL": "max-age=120",
        "ST": IGD + "1",
        "USN": "uuid:73616d61::" + IGD + "1",
        "EXT": "",
        "SERVER": "Linux UPnP/1.1 MiniUPnPd/2.3.1",
        "LOCATION": "http://192.168.7.1:5000/rootDesc.xml",
    } | changes
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def test_two_searches_are_sent() -> None:
    """For everything and for gateways; lines end in CR LF."""
    everything, gateways = searches()
    assert everything == (
        b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nST: ssdp:all\r\n"
        b'MAN: "ssdp:discover"\r\nMX: 2\r\n\r\n'
    )
    assert gateways == everything.replace(b"ssdp:all", IGD.encode() + b"1")


def test_gateways_are_found_with_their_version() -> None:
    """By ST, or by USN in an answer to a search for everything."""
    url = "http://192.168.7.1:5000/rootDesc.xml"
    assert parse_untrusted(answer()) == Found(url, 1)
    assert parse_untrusted(answer(ST=IGD + "2")) == Found(url, 2)
    assert parse_untrusted(answer(ST="upnp:rootdevice", USN="uuid:1::" + IGD + "2")) == Found(
        url, 2
    )
    assert parse_untrusted(answer(ST=IGD + "9")) == Found(url, 1)


def test_other_devices_are_no_gateways() -> None:
    """They answer to a search for everything."""
    assert (
        parse_untrusted(answer(ST="urn:schemas-upnp-org:device:MediaServer:1", USN="uuid:2"))
        is None
    )


@pytest.mark.parametrize(
    "data",
    [
        answer(LOCATION="https://192.168.7.1/"),
        answer(LOCATION="file:///etc/passwd"),
        answer(LOCATION="http://192.168.7.1/" + "a" * MAX_URL),
        answer(LOCATION=""),
        answer().replace(b"200 OK", b"404 No"),
        answer() + b"x" * MAX_ANSWER,
        searches()[0],
        b"NOTIFY * HTTP/1.1\r\n\r\n",
    ],
)
def test_anything_else_is_bad(data: bytes) -> None:
    """Other schemes, too long, no answer."""
    with pytest.raises(BadPacket):
        parse_untrusted(data)
