"""From values to netlink messages, in the form that pyroute2 packs.

Registers: every match loads into register 1 and compares it.  Numbers of the kernel (marks, states)
are in its byte order, those of packets in the network's.  Device names are padded to 16 bytes, or
the comparison would be one of prefixes.

Source: Linux include/uapi/linux/netfilter/nf_tables.h; pyroute2.nftables.expressions.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tailnet.platform.linux.nft.library import (
    NFNL_SUBSYS_NFTABLES,
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE,
    NFT_MSG_DELTABLE,
    NFT_MSG_GETRULE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    genex,
    masq,
    nfgen_msg,
    nft_chain_msg,
)
from tailnet.platform.linux.nft.messages import RuleMessage, TableMessage, comment
from tailnet.platform.linux.nft.syntax import (
    Chain,
    Counter,
    CtMark,
    CtState,
    Destination,
    Family,
    ForThisHost,
    Iif,
    Jump,
    Mark,
    Masquerade,
    Neighbours,
    Oif,
    Part,
    Rule,
    SetCtMark,
    SetMark,
    Source,
    Table,
    UdpPort,
    Verdict,
)
from tailnet.platform.linux.nft.xtables import extension

TAG = "tailnetd"  # shown as a comment by nft; how our rules in others' chains are known

_META_MARK, _META_IIFNAME, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 3, 6, 7, 15, 16
_CT_STATE, _CT_MARK = 0, 3
_EQ, _NE, _LTE, _GTE = 0, 1, 3, 5
_NETWORK, _TRANSPORT = 1, 2
_UDP, _ICMPV6 = 17, 58
# pyroute2 takes the result for a set of bits; these two make 3, the type of an address.
_FIB_TYPE = ("NFT_FIB_RESULT_UNSPEC", "NFT_FIB_RESULT_OIF")
_FIB_DADDR, _RTN_LOCAL = 2, 2
_JUMP = -3
_ALL = 0xFFFFFFFF
_IFNAMSIZ = 16

Message = Any  # pyroute2's message classes are untyped
Expression = Any


def _value(data: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _compare(data: bytes, how: int = _EQ) -> Expression:
    return genex("cmp", {"sreg": 1, "op": how, "data": _value(data)})


def _bits(mask: bytes, flip: bytes) -> Expression:
    """Register 1 := register 1 & mask ^ flip."""
    masked = {"mask": _value(mask), "xor": _value(flip)}
    return genex("bitwise", {"sreg": 1, "dreg": 1, "len": len(mask), **masked})


def _host32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def _meta(key: int) -> Expression:
    return genex("meta", {"key": key, "dreg": 1})


def _ct(key: int) -> Expression:
    return genex("ct", {"key": key, "dreg": 1})


def _payload(base: int, offset: int, size: int) -> Expression:
    return genex("payload", {"dreg": 1, "base": base, "offset": offset, "len": size})


def _masked(value: int, mask: int) -> list[Expression]:
    return [_bits(_host32(mask), bytes(4)), _compare(_host32(value))]


def _merged(value: int, mask: int) -> Expression:
    return _bits(_host32(_ALL ^ mask), _host32(value))


def _address(prefix: Source | Destination, family: Family) -> list[Expression]:
    net = prefix.prefix
    four = net.version == 4
    size = 4 if four else 16
    first = (12 if four else 8) + (size if isinstance(prefix, Destination) else 0)
    load = _payload(_NETWORK, first, size)
    proto = [_meta(_META_NFPROTO), _compare(bytes((2 if four else 10,)))]
    mask = [] if net.prefixlen == size * 8 else [_bits(net.netmask.packed, bytes(size))]
    known = proto if family is Family.INET else []
    return [*known, load, *mask, _compare(net.network_address.packed)]


def _name(name: str) -> bytes:
    return name.encode().ljust(_IFNAMSIZ, b"\0")


def expressions(part: Part, family: Family) -> list[Expression]:
    """One part of a rule; for the tables that iptables shares, as it can read it."""
    if family is not Family.INET and (readable := extension(part, family)) is not None:
        return [readable]
    match part:
        case Iif() | Oif() | Mark() | CtMark() | CtState():
            return _match_state(part)
        case Source() | Destination():
            return _address(part, family)
        case UdpPort() | ForThisHost() | Neighbours():
            return _match_packet(part)
        case _:
            return _statement(part)


def _match_state(part: Iif | Oif | Mark | CtMark | CtState) -> list[Expression]:
    match part:
        case Iif(name):
            return [_meta(_META_IIFNAME), _compare(_name(name))]
        case Oif(name):
            return [_meta(_META_OIFNAME), _compare(_name(name))]
        case Mark(value, mask):
            return [_meta(_META_MARK), *_masked(value, mask)]
        case CtMark(value, mask):
            return [_ct(_CT_MARK), *_masked(value, mask)]
        case CtState(states, invert):
            none = _EQ if invert else _NE
            return [_ct(_CT_STATE), _bits(_host32(states), bytes(4)), _compare(bytes(4), none)]


def _match_packet(part: UdpPort | ForThisHost | Neighbours) -> list[Expression]:
    match part:
        case UdpPort(port, source):
            proto = [_meta(_META_L4PROTO), _compare(bytes((_UDP,)))]
            return [*proto, _payload(_TRANSPORT, 0 if source else 2, 2), _compare(port.to_bytes(2))]
        case ForThisHost():
            fib = genex("fib", {"dreg": 1, "result": _FIB_TYPE, "flags": _FIB_DADDR})
            return [fib, _compare(_host32(_RTN_LOCAL))]
        case Neighbours():
            proto = [_meta(_META_L4PROTO), _compare(bytes((_ICMPV6,)))]
            kind = _payload(_TRANSPORT, 0, 1)
            return [*proto, kind, _compare(b"\x85", _GTE), kind, _compare(b"\x88", _LTE)]


def _verdict(code: int, chain: str = "") -> Expression:
    attrs: list[tuple[str, Any]] = [("NFTA_VERDICT_CODE", code)]
    attrs += [("NFTA_VERDICT_CHAIN", chain)] if chain else []
    verdict = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": attrs})]}
    return genex("immediate", {"dreg": 0, "data": verdict})


def _statement(part: Part) -> list[Expression]:
    match part:
        case SetMark(value, mask):
            store = genex("meta", {"key": _META_MARK, "sreg": 1})
            return [_meta(_META_MARK), _merged(value, mask), store]
        case SetCtMark(value, mask):
            store = genex("ct", {"key": _CT_MARK, "sreg": 1})
            return [_ct(_CT_MARK), _merged(value, mask), store]
        case Counter():
            return [genex("counter", {})]
        case Masquerade():
            return list(masq())
        case Jump(chain):
            return [_verdict(_JUMP, chain)]
        case Verdict():
            return [_verdict(part.value)]
        case _:  # every other part is a match
            raise AssertionError(part)


def _message(cls: Any, command: int, family: Family, flags: int, **attrs: Any) -> Message:  # noqa: ANN401 - untyped library
    message = cls()
    message["attrs"] = [[cls.name2nla(key), value] for key, value in attrs.items()]
    message["header"]["type"] = (NFNL_SUBSYS_NFTABLES << 8) | command
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | flags
    message["nfgen_family"] = int(family)
    return message


_ADD = NLM_F_CREATE | NLM_F_APPEND


def batch(messages: Sequence[Message]) -> list[Message]:
    """One transaction: all of it happens, or nothing."""

    def edge(kind: int) -> Message:
        message = nfgen_msg()
        message["res_id"] = NFNL_SUBSYS_NFTABLES
        message["header"]["type"] = kind
        message["header"]["flags"] = NLM_F_REQUEST
        return message

    return [edge(0x10), *messages, edge(0x11)]


def add_table(family: Family, name: str, *, tag: bool = False) -> Message:
    """Present afterwards, whether it was before or not.  ``tag``: a new one says it is ours."""
    attrs = {"name": name, "userdata": comment(TAG)} if tag else {"name": name}
    return _message(TableMessage, NFT_MSG_NEWTABLE, family, _ADD, **attrs)


def remove_table(family: Family, name: str) -> Message:
    """With everything in it; fails where it is not."""
    return _message(TableMessage, NFT_MSG_DELTABLE, family, 0, name=name)


def add_chain(family: Family, table: str, chain: Chain) -> Message:
    """Present afterwards; rules of before stay."""
    attrs: dict[str, Any] = {"table": table, "name": chain.name}
    if chain.hook is not None:
        point, priority, kind = chain.hook
        hook = [["NFTA_HOOK_HOOKNUM", int(point)], ["NFTA_HOOK_PRIORITY", priority]]
        attrs |= {"type": kind.value, "policy": 1, "hook": {"attrs": hook}}
    return _message(nft_chain_msg, NFT_MSG_NEWCHAIN, family, _ADD, **attrs)


def flush_chain(family: Family, table: str, chain: str) -> Message:
    """No rules afterwards; fails where there is no such chain."""
    return _message(RuleMessage, NFT_MSG_DELRULE, family, 0, table=table, chain=chain)


def remove_chain(family: Family, table: str, chain: str) -> Message:
    """Fails where it is not, or while something jumps to it."""
    return _message(nft_chain_msg, NFT_MSG_DELCHAIN, family, 0, table=table, name=chain)


def add_rule(family: Family, table: str, chain: str, rule: Rule, *, first: bool = False) -> Message:
    """At the end, or before all others."""
    flat = [e for part in rule.parts for e in expressions(part, family)]
    flags = NLM_F_CREATE if first else _ADD
    where = {"table": table, "chain": chain, "userdata": comment(TAG)}
    return _message(RuleMessage, NFT_MSG_NEWRULE, family, flags, **where, expressions=flat)


def remove_rule(family: Family, table: str, chain: str, handle: int) -> Message:
    """One rule, by its handle."""
    where = {"table": table, "chain": chain, "handle": handle}
    return _message(RuleMessage, NFT_MSG_DELRULE, family, 0, **where)


def rules_of(family: Family, table: str, chain: str = "") -> Message:
    """A question, for a dump.  Without a chain: those of all."""
    where = {"table": table, "chain": chain} if chain else {"table": table}
    return _message(RuleMessage, NFT_MSG_GETRULE, family, 0, **where)


def replace_table(table: Table) -> Iterator[Message]:
    """Exactly this afterwards, whatever was in it before."""
    family, name, chains = table
    yield add_table(family, name)
    yield remove_table(family, name)
    yield add_table(family, name)
    for chain in chains:
        yield add_chain(family, name, chain)
    for chain in chains:
        for rule in chain.rules:
            yield add_rule(family, name, chain.name, rule)
