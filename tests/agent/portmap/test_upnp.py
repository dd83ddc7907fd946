"""The gateway's documents."""

import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap.upnp import (
    MAX_DOCUMENT,
    SERVICES,
    Fault,
    Service,
    at_gateway,
    call,
    elements_untrusted,
    number,
    result_untrusted,
    services_untrusted,
)

GATEWAY = "192.168.7.1"
LOCATION = "http://192.168.7.1:5000/rootDesc.xml"


def service(kind: str, control: str) -> str:
    """One entry of a description."""
    return (
        f"<service><serviceType>{kind}</serviceType><serviceId>x</serviceId>"
        f"<controlURL>{control}</controlURL><SCPDURL>/x.xml</SCPDURL></service>"
    )


def description(*services: str, base: str = "", maker: str = "Maker") -> bytes:
    """A device in a device in a device, as gateways are."""
    return (
        '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">'
        f"{base}<device><manufacturer>{maker}</manufacturer><deviceList><device><deviceList><device>"
        f"<serviceList>{''.join(services)}</serviceList>"
        "</device></deviceList></device></deviceList></device></root>"
    ).encode()


def found(*services: str, **more: str) -> list[Service]:
    """What is found in a description with these."""
    return services_untrusted(description(*services, **more), LOCATION, GATEWAY)


def test_services_that_map_are_found_the_best_first() -> None:
    """Each once, with a whole URL; others do not count."""
    ppp, ip1, ip2 = SERVICES[2], SERVICES[1], SERVICES[0]
    assert found(
        service("urn:schemas-upnp-org:service:Layer3Forwarding:1", "/l3f"),
        service(ppp, "ctl/ppp"),
        service(ip1, "/ctl/ip"),
        service(ip1, "/ctl/ip"),
        service(ip2, "http://192.168.7.1:81/ctl?x=1"),
    ) == [
        Service(ip2, "http://192.168.7.1:81/ctl?x=1"),
        Service(ip1, "http://192.168.7.1:5000/ctl/ip"),
        Service(ppp, "http://192.168.7.1:5000/ctl/ppp"),
    ]


def test_the_order_within_a_service_does_not_matter() -> None:
    """Nor does one that is incomplete spoil the next."""
    turned = (
        f"<service><controlURL>/a</controlURL><serviceType>{SERVICES[1]}</serviceType></service>"
    )
    broken = f"<service><serviceType>{SERVICES[1]}</serviceType></service>"
    assert [s.control_url for s in found(turned)] == ["http://192.168.7.1:5000/a"]
    assert found(broken.replace(SERVICES[1], "x"), service("x", "/b"), turned) == found(turned)


def test_nobody_else_than_the_gateway_is_ever_asked() -> None:
    """Whatever host a description names."""
    elsewhere = "http://10.9.9.9:81/steal"
    base = "<URLBase>http://evil.example/x/</URLBase>"
    assert [s.control_url for s in found(service(SERVICES[1], elsewhere))] == [
        "http://192.168.7.1:81/steal"
    ]
    assert [s.control_url for s in found(service(SERVICES[1], "c"), base=base)] == [
        "http://192.168.7.1:80/x/c"
    ]
    assert at_gateway("http://user:word@10.9.9.9/p", GATEWAY) == "http://192.168.7.1:80/p"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "https://192.168.7.1/",
        "http://",
        "http://[::1/",
        "http://x:99999/",
        "http://x/a b",
        "http://x/\x01",
        "http://x/\xe9",
        "",
    ],
)
def test_odd_urls_are_bad(url: str) -> None:
    """And a service with one is left out."""
    with pytest.raises(BadPacket):
        at_gateway(url, GATEWAY)
    if url.isprintable() and url.rstrip("/") not in {"", "http:"}:
        good = service(SERVICES[0], "/good")
        assert [s.type for s in found(service(SERVICES[1], url), good)] == [SERVICES[0]]


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY x "y">]><root>&x;</root>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><root/>',
        b"<root>" + b"<a>" * 40 + b"</a>" * 40 + b"</root>",
        b"<root>" + b" " * MAX_DOCUMENT + b"</root>",
        b"<root>&x;</root>",
        b"<root>",
        b"",
    ],
)
def test_hostile_documents_are_bad(data: bytes) -> None:
    """Document types, and so entities; depth; size; what is no XML."""
    with pytest.raises(BadPacket):
        elements_untrusted(data)


def test_the_document_does_not_choose_a_codec() -> None:
    """UTF-8 is tried, then ISO-8859-1; nothing is looked up by name."""
    for encoding in ("idna", "rot13", "no-such"):
        text = f'<?xml version="1.0" encoding="{encoding}"?><a>x</a>'
        assert elements_untrusted(text.encode()) == [(("a",), "x")]
    assert elements_untrusted("<a>Küche</a>".encode("iso-8859-1")) == [(("a",), "Küche")]


def test_the_largest_document_needs_little_memory() -> None:
    """Deep, with long names and as many elements as there is room for."""
    name = "n" * 900
    head = "".join(f"<{name}{n}>" for n in range(30))
    tail = "".join(f"</{name}{n}>" for n in reversed(range(30)))
    data = (head + "<a/>" * ((MAX_DOCUMENT - len(head) - len(tail)) // 4) + tail).encode()
    tracemalloc.start()
    elements_untrusted(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 << 20


def test_calls_are_envelopes() -> None:
    """With what is said escaped."""
    header, body = call(Service(SERVICES[1], "http://192.168.7.1/c"), "Do", {"A": "<&", "B": 1})
    assert header == f'"{SERVICES[1]}#Do"'
    assert result_untrusted(body) == {"Body": "", "Do": "", "A": "<&", "B": "1"}


def envelope(inside: str) -> bytes:
    """What a gateway answers."""
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<s:Body>{inside}</s:Body></s:Envelope>"
    ).encode()


def test_results_and_faults_are_told_apart() -> None:
    """By the error's number, where there is one."""
    good = envelope("<u:XResponse xmlns:u='x'><NewIP>11.99.0.1</NewIP></u:XResponse>")
    result = result_untrusted(good)
    assert not isinstance(result, Fault)
    assert result["NewIP"] == "11.99.0.1"
    error = "<UPnPError xmlns='y'><errorCode>{}</errorCode></UPnPError>"
    fault = "<s:Fault><faultcode>s:Client</faultcode><detail>{}</detail></s:Fault>"
    assert result_untrusted(envelope(fault.format(error.format(725)))) == Fault(725)
    assert result_untrusted(envelope(fault.format(error.format("7" * 5000)))) == Fault(0)
    assert result_untrusted(envelope(fault.format(""))) == Fault(0)


@given(st.text())
def test_numbers_are_small_or_nothing(text: str) -> None:
    """Whatever stands there."""
    assert 0 <= number(text) <= 99999


@given(st.binary(max_size=300))
def test_only_bad_packet_leaves(data: bytes) -> None:
    """From a description, too, which needs more than bytes."""
    for document in (data, description(data.decode("latin-1")), description(maker=repr(data))):
        with suppress(BadPacket):
            services_untrusted(document, LOCATION, GATEWAY)
