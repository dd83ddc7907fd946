"""Messages about tables and rules, with what is noted at them as bytes.

pyroute2 reads every note as a comment, and logs a traceback for each that is none: nft notes its
version at tables.  The classes here are not derived from its own, whose first use would decide
over how both are read.

::

    note = items; item = kind u8 | length u8 | bytes; kind 0: comment, ends with a zero byte

Source: libnftnl include/libnftnl/udata.h.
"""

from collections.abc import Iterator

from tailnet.platform.linux.nft.library import (
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    AsyncNFTables,
    nfgen_msg,
    nft_contains_expr,
    nft_rule_msg,
    nft_table_msg,
)

_COMMENT = 0


class TableMessage(nfgen_msg):  # type: ignore[misc] # untyped library
    """A table."""

    prefix = nft_table_msg.prefix
    nla_map = tuple(
        (name, "cdata" if name == "NFTA_TABLE_USERDATA" else kind)
        for name, kind in nft_table_msg.nla_map
    )


class RuleMessage(nfgen_msg, nft_contains_expr):  # type: ignore[misc] # untyped library
    """A rule."""

    prefix = nft_rule_msg.prefix
    nla_map = tuple(
        (name, "cdata" if name == "NFTA_RULE_USERDATA" else kind)
        for name, kind in nft_rule_msg.nla_map
    )


class NFTables(AsyncNFTables):  # type: ignore[misc] # untyped library
    """The connection that reads them so."""

    policy = AsyncNFTables.policy | {NFT_MSG_NEWTABLE: TableMessage, NFT_MSG_NEWRULE: RuleMessage}


def comment(text: str) -> bytes:
    """A note that says this."""
    data = text.encode() + b"\0"
    return bytes((_COMMENT, len(data))) + data


def comments_untrusted(note: bytes | None) -> Iterator[str]:
    """What a note says; anybody may have written it."""
    rest = note or b""
    while len(rest) > 1:
        kind, size = rest[0], rest[1]
        if kind == _COMMENT:
            yield rest[2 : 2 + size].partition(b"\0")[0].decode(errors="replace")
        rest = rest[2 + size :]
