"""One connection to the kernel's nftables: dumps and transactions."""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.nft import encode
from tailnet.platform.linux.nft.library import (
    NFNL_SUBSYS_NFTABLES,
    NFT_MSG_GETRULE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NetlinkError,
    nfgen_msg,
)
from tailnet.platform.linux.nft.messages import NFTables
from tailnet.platform.linux.nft.syntax import Family

_NO_NFTABLES = frozenset({errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EPROTOTYPE, errno.EINVAL})
_DUMP = NLM_F_REQUEST | NLM_F_DUMP


class Session:
    """For one operation; see :func:`open_session`."""

    def __init__(self, nft: NFTables) -> None:
        self._nft = nft

    async def commit(self, messages: list[encode.Message]) -> None:
        """All or nothing."""
        if not messages:
            return
        batch = encode.batch(messages)
        async for _ in self._nft.nlm_request_batch(batch, noraise=False):
            pass

    async def dump(self, command: int, family: Family) -> list[Any]:
        """Tables or chains of one family."""
        message = nfgen_msg()
        message["nfgen_family"] = int(family)
        kind = NFNL_SUBSYS_NFTABLES << 8 | command
        return [m async for m in await self._nft.nlm_request(message, kind, _DUMP)]

    async def dump_rules(self, family: Family, table: str, chain: str = "") -> list[Any]:
        """The rules of one table, or of one chain of it."""
        message = encode.rules_of(family, table, chain)
        kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE
        found = [m async for m in await self._nft.nlm_request(message, kind, _DUMP)]
        return [m for m in found if m.get_attr("NFTA_RULE_TABLE") == table]  # old kernels send all


@asynccontextmanager
async def open_session() -> AsyncIterator[Session]:
    """Talk to nftables, in the network namespace of the calling thread.

    Raises:
        PlatformError: whatever the kernel refuses inside.
    """
    nft = None
    try:
        nft = NFTables()
        await nft.setup_endpoint()
        yield Session(nft)
    except NetlinkError as error:
        raise PlatformError(error.code, explain(error.code)) from error
    except OSError as error:
        code = error.errno or errno.EIO
        raise PlatformError(code, explain(code)) from error
    finally:
        if nft is not None:
            nft.close()


def explain(code: int) -> str:
    """One line for people."""
    if code == errno.EPERM:
        return "the firewall cannot be changed without CAP_NET_ADMIN"
    if code in _NO_NFTABLES:
        return "this kernel has no nftables, or not what the firewall needs of it"
    return f"nftables refused the firewall: {errno.errorcode.get(code, code)}"
