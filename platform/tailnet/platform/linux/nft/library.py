"""pyroute2's nftables, and of pyroute2 no more than that; see ``rtnetlink.py``."""

from tailnet.platform.linux.rtnetlink import NetlinkError  # enters the package: must come first

# isort: split
from pyroute2.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE,
    NFT_MSG_DELTABLE,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    nft_chain_msg,
    nft_contains_expr,
    nft_rule_msg,
    nft_table_msg,
)
from pyroute2.nftables.expressions import genex, masq
from pyroute2.nftables.main import AsyncNFTables

__all__ = [
    "NFNL_SUBSYS_NFTABLES",
    "NFT_MSG_DELCHAIN",
    "NFT_MSG_DELRULE",
    "NFT_MSG_DELTABLE",
    "NFT_MSG_GETCHAIN",
    "NFT_MSG_GETRULE",
    "NFT_MSG_GETTABLE",
    "NFT_MSG_NEWCHAIN",
    "NFT_MSG_NEWRULE",
    "NFT_MSG_NEWTABLE",
    "NLM_F_ACK",
    "NLM_F_APPEND",
    "NLM_F_CREATE",
    "NLM_F_DUMP",
    "NLM_F_REQUEST",
    "AsyncNFTables",
    "NetlinkError",
    "genex",
    "masq",
    "nfgen_msg",
    "nft_chain_msg",
    "nft_contains_expr",
    "nft_rule_msg",
    "nft_table_msg",
]
