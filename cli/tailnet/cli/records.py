"""What ``tnet dns query`` says: a DNS message, for people and for programs.

Source: tailscale cmd/tailscale/cli/dns-query.go, jsonoutput/dns.go.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dnslib import CLASS, QTYPE, RCODE, DNSError, DNSRecord

from tailnet.agent.localapi.schema.names import DNSQueryAnswer
from tailnet.cli.terminal import fitted
from tailnet.cli.text import clean

Tree = Mapping[str, Any]
_CODES = {
    "NOERROR": "RCodeSuccess",
    "FORMERR": "RCodeFormatError",
    "SERVFAIL": "RCodeServerFailure",
    "NXDOMAIN": "RCodeNameError",
    "NOTIMP": "RCodeNotImplemented",
    "REFUSED": "RCodeRefused",
}


def parse_answer(data: bytes) -> DNSRecord | None:
    """The message; ``None``: there is none, or it makes no sense."""
    try:
        return DNSRecord.parse(data)
    except (DNSError, ValueError, IndexError):
        return None


def query_tree(name: str, kind: str, said: DNSQueryAnswer, record: DNSRecord | None) -> Tree:
    """For programs."""
    code = str(RCODE.get(record.header.rcode)) if record is not None else ""
    return {
        "Name": name,
        "QueryType": kind,
        "Resolvers": [{"Addr": resolver.addr} for resolver in said.resolvers],
        "ResponseCode": _CODES.get(code, code),
        "Why": said.why,
        "Server": said.server,
        "Answers": [
            {
                "Name": str(rr.rname),
                "TTL": rr.ttl,
                "Class": f"Class{_class(rr.rclass)}",
                "Type": f"Type{_type(rr.rtype)}",
                "Body": clean(str(rr.rdata)),
            }
            for rr in (record.rr if record is not None else ())
        ],
    }


def query_lines(said: DNSQueryAnswer, record: DNSRecord) -> Iterator[str]:
    """For people: the records, then who said so and why."""
    rows = [
        (clean(str(rr.rname)), str(rr.ttl), _type(rr.rtype), clean(str(rr.rdata)))
        for rr in record.rr
    ]
    code = str(RCODE.get(record.header.rcode))
    yield from fitted(rows) if rows else [code if code != "NOERROR" else "no record of this type"]
    if not said.resolvers:
        yield f"answered by tailnetd: {clean(said.why)}"
        return
    asked = ", ".join(clean(resolver.addr) for resolver in said.resolvers)
    who = clean(said.server) or "none of them"
    yield f"answered by {who}, one of the {clean(said.why)} ({asked})"


def _type(number: int) -> str:
    return str(QTYPE.get(number))


def _class(number: int) -> str:
    return {"IN": "INET"}.get(str(CLASS.get(number)), str(CLASS.get(number)))
