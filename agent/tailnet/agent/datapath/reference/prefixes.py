"""Longest prefix match over packed addresses."""

from typing import Generic, TypeVar

from tailnet.agent.addr import IPNetwork

T = TypeVar("T")


class Prefixes(Generic[T]):
    """Prefix → value.  Single addresses, nearly all of a tailnet's, cost one dictionary lookup.

    Other prefixes are tried by length, longest first: as many lookups as there are lengths.
    """

    __slots__ = ("_hosts", "_nets")

    def __init__(self) -> None:
        self._hosts: dict[bytes, T] = {}
        # By length of the packed address: (bits to shift away, network → value), longest first.
        self._nets: dict[int, list[tuple[int, dict[int, T]]]] = {4: [], 16: []}

    def __len__(self) -> int:
        nets = (len(table) for family in self._nets.values() for _, table in family)
        return len(self._hosts) + sum(nets)

    def insert(self, prefix: IPNetwork, value: T) -> None:
        """Set the value of a prefix, replacing any."""
        packed = prefix.network_address.packed
        shift = prefix.max_prefixlen - prefix.prefixlen
        if not shift:
            self._hosts[packed] = value
            return
        family = self._nets[len(packed)]
        table = next((table for known, table in family if known == shift), None)
        if table is None:
            table = {}
            family.append((shift, table))
            family.sort(key=lambda entry: entry[0])
        table[int.from_bytes(packed, "big") >> shift] = value

    def remove(self, prefix: IPNetwork, value: T) -> None:
        """Forget a prefix if its value is still ``value``."""
        packed = prefix.network_address.packed
        shift = prefix.max_prefixlen - prefix.prefixlen
        if not shift:
            if self._hosts.get(packed) is value:
                del self._hosts[packed]
            return
        family = self._nets[len(packed)]
        number = int.from_bytes(packed, "big") >> shift
        for i, (known, table) in enumerate(family):
            if known == shift:
                if table.get(number) is value:
                    del table[number]
                    if not table:
                        del family[i]
                return

    def lookup(self, packed: bytes) -> T | None:
        """Value of the longest prefix that contains a packed address (4 or 16 bytes)."""
        value = self._hosts.get(packed)
        if value is not None:
            return value
        family = self._nets[len(packed)]
        if family:
            number = int.from_bytes(packed, "big")
            for shift, table in family:
                value = table.get(number >> shift)
                if value is not None:
                    return value
        return None
