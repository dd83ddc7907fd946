//! Longest prefix match.
//!
//! Single addresses, nearly all of a tailnet's, cost one lookup in a hash table.  Other prefixes are
//! tried by length, longest first: as many lookups as there are lengths.

use std::collections::HashMap;

use crate::hash::Seeded;

type Table<T> = HashMap<u128, T, Seeded>;

/// A prefix; an IPv4 address is the low 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// 4 or 6.
    pub version: u8,
    /// Bits that count.
    pub bits: u8,
    /// The first address.
    pub address: u128,
}

/// Prefix → value.
pub struct Prefixes<T> {
    v4: Family<T>,
    v6: Family<T>,
}

struct Family<T> {
    hosts: Table<T>,
    // Bits to shift away; the longest prefix is first.
    nets: Vec<(u32, Table<T>)>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        let family = || Family {
            hosts: Table::default(),
            nets: Vec::new(),
        };
        Self {
            v4: family(),
            v6: family(),
        }
    }
}

impl<T> Prefixes<T> {
    /// Set the value of a prefix, replacing any.
    pub fn insert(&mut self, prefix: Prefix, value: T) {
        let (family, width) = match prefix.version {
            4 => (&mut self.v4, 32),
            _ => (&mut self.v6, 128),
        };
        let shift = width - u32::from(prefix.bits).min(width);
        if shift == 0 {
            family.hosts.insert(prefix.address, value);
            return;
        }
        let at = family.nets.partition_point(|(known, _)| *known < shift);
        if family.nets.get(at).is_none_or(|(known, _)| *known != shift) {
            family.nets.insert(at, (shift, Table::default()));
        }
        family.nets[at]
            .1
            .insert(shifted(prefix.address, shift), value);
    }

    /// Value of the longest prefix that contains an address.
    pub fn lookup(&self, version: u8, address: u128) -> Option<&T> {
        let family = if version == 4 { &self.v4 } else { &self.v6 };
        if let Some(value) = family.hosts.get(&address) {
            return Some(value);
        }
        family
            .nets
            .iter()
            .find_map(|(shift, table)| table.get(&shifted(address, *shift)))
    }
}

fn shifted(address: u128, shift: u32) -> u128 {
    address.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let mut table = Prefixes::default();
        let all: Vec<Prefix> = [
            (0, 0),
            (0x0A00_0000, 8),
            (0x0A01_0000, 16),
            (0x0A01_0203, 32),
        ]
        .map(|(address, bits)| Prefix {
            version: 4,
            bits,
            address,
        })
        .to_vec();
        for (i, prefix) in all.iter().enumerate() {
            table.insert(*prefix, i);
        }
        assert_eq!(table.lookup(4, 0x0A01_0203), Some(&3));
        assert_eq!(table.lookup(4, 0x0A01_0204), Some(&2));
        assert_eq!(table.lookup(4, 0x0A02_0204), Some(&1));
        assert_eq!(table.lookup(4, 0xFFFF_FFFF), Some(&0));
        assert_eq!(table.lookup(6, 1), None);
        table.insert(
            Prefix {
                version: 6,
                bits: 0,
                address: 0,
            },
            9,
        );
        assert_eq!(table.lookup(6, u128::MAX), Some(&9));
    }

    #[test]
    fn a_hundred_thousand_prefixes_are_found() {
        let mut table = Prefixes::default();
        for i in 0..100_000u128 {
            let bits = 24 + (i % 8) as u8;
            let address = (i << 8) & !((1 << (32 - bits)) - 1);
            table.insert(
                Prefix {
                    version: 4,
                    bits,
                    address,
                },
                i,
            );
        }
        for i in 0..100_000u128 {
            assert_eq!(table.lookup(4, i << 8), Some(&i));
        }
    }
}
