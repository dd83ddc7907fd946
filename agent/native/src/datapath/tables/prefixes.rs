//! Longest prefix match.
//!
//! Single addresses, nearly all of a tailnet's, cost one lookup in a hash table.  Other prefixes are
//! tried by length, longest first: as many lookups as there are lengths.

use std::collections::HashMap;
use std::sync::Arc;

use crate::hash::Seeded;

const SHARD: usize = 128; // entries on average, from which there are more shards
const GROWTH: usize = 4; // times as many
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
const FEW: usize = 8; // prefixes that are compared one by one

/// A prefix; an IPv4 address is the low 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// 4 or 6.
    pub version: u8,
    /// Bits that count.
    pub bits: u8,
    /// The first address.
    pub address: u128,
}

impl Prefix {
    /// Bits of an address that do not count.
    fn shift(&self) -> u32 {
        let width = if self.version == 4 { 32 } else { 128 };
        width - u32::from(self.bits).min(width)
    }

    /// True if the prefix has this address.
    pub fn contains(&self, version: u8, address: u128) -> bool {
        let shift = self.shift();
        self.version == version && shifted(self.address, shift) == shifted(address, shift)
    }
}

/// Contains no address.
const NOTHING: Prefix = Prefix {
    version: 0,
    bits: 0,
    address: 0,
};

fn shifted(address: u128, shift: u32) -> u128 {
    address.checked_shr(shift).unwrap_or(0)
}

/// A hash table in shards.  A copy shares all of them, and a change copies only the one it touches:
/// whoever reads the copy of before is not disturbed.
#[derive(Clone)]
struct Table<T> {
    shards: Vec<Arc<HashMap<u128, T, Seeded>>>, // a power of two
    len: usize,
}

impl<T: Clone> Table<T> {
    fn new() -> Self {
        Self {
            shards: vec![Arc::default()],
            len: 0,
        }
    }

    fn shard(&self, key: u128) -> usize {
        let mixed = (key as u64 ^ (key >> 64) as u64).wrapping_mul(SPREAD);
        (mixed >> 40) as usize & (self.shards.len() - 1)
    }

    fn get(&self, key: u128) -> Option<&T> {
        if self.len == 0 {
            return None;
        }
        self.shards[self.shard(key)].get(&key)
    }

    fn insert(&mut self, key: u128, value: T) {
        if self.len > SHARD * self.shards.len() {
            self.grow();
        }
        let at = self.shard(key);
        let old = Arc::make_mut(&mut self.shards[at]).insert(key, value);
        self.len += usize::from(old.is_none());
    }

    fn remove(&mut self, key: u128) {
        let at = self.shard(key);
        if self.shards[at].contains_key(&key) {
            Arc::make_mut(&mut self.shards[at]).remove(&key);
            self.len -= 1;
        }
    }

    fn grow(&mut self) {
        let mut wider = Self {
            shards: vec![Arc::default(); self.shards.len() * GROWTH],
            len: self.len,
        };
        for (key, value) in self.shards.iter().flat_map(|shard| shard.iter()) {
            let at = wider.shard(*key);
            Arc::make_mut(&mut wider.shards[at]).insert(*key, value.clone());
        }
        *self = wider;
    }
}

/// Prefix → value.  Cheap to copy, and to change a copy of.
#[derive(Clone)]
pub struct Prefixes<T> {
    v4: Family<T>,
    v6: Family<T>,
}

#[derive(Clone)]
struct Family<T> {
    hosts: Table<T>,
    // Bits to shift away; the longest prefix is first.
    nets: Vec<(u32, Table<T>)>,
}

impl<T: Clone> Default for Prefixes<T> {
    fn default() -> Self {
        let family = || Family {
            hosts: Table::new(),
            nets: Vec::new(),
        };
        Self {
            v4: family(),
            v6: family(),
        }
    }
}

impl<T: Clone> Prefixes<T> {
    fn family_mut(&mut self, version: u8) -> &mut Family<T> {
        if version == 4 {
            &mut self.v4
        } else {
            &mut self.v6
        }
    }

    /// Set the value of a prefix, replacing any.
    pub fn insert(&mut self, prefix: Prefix, value: T) {
        let shift = prefix.shift();
        let family = self.family_mut(prefix.version);
        if shift == 0 {
            family.hosts.insert(prefix.address, value);
            return;
        }
        let at = family.nets.partition_point(|(known, _)| *known < shift);
        if family.nets.get(at).is_none_or(|(known, _)| *known != shift) {
            family.nets.insert(at, (shift, Table::new()));
        }
        let key = shifted(prefix.address, shift);
        family.nets[at].1.insert(key, value);
    }

    /// Forget a prefix.
    pub fn remove(&mut self, prefix: Prefix) {
        let shift = prefix.shift();
        let family = self.family_mut(prefix.version);
        if shift == 0 {
            family.hosts.remove(prefix.address);
            return;
        }
        let nets = &mut family.nets;
        if let Some(at) = nets.iter().position(|(known, _)| *known == shift) {
            nets[at].1.remove(shifted(prefix.address, shift));
            if nets[at].1.len == 0 {
                nets.remove(at);
            }
        }
    }

    /// Value of exactly this prefix.
    pub fn get(&self, prefix: Prefix) -> Option<&T> {
        let shift = prefix.shift();
        let family = if prefix.version == 4 {
            &self.v4
        } else {
            &self.v6
        };
        if shift == 0 {
            return family.hosts.get(prefix.address);
        }
        let (_, table) = family.nets.iter().find(|(known, _)| *known == shift)?;
        table.get(shifted(prefix.address, shift))
    }

    /// Value of the longest prefix that contains an address.
    pub fn lookup(&self, version: u8, address: u128) -> Option<&T> {
        let family = if version == 4 { &self.v4 } else { &self.v6 };
        if let Some(value) = family.hosts.get(address) {
            return Some(value);
        }
        family
            .nets
            .iter()
            .find_map(|(shift, table)| table.get(shifted(address, *shift)))
    }
}

/// The sources one peer may use; most have two.
pub enum Allowed {
    /// Compared one by one; the first two are in place.
    Few([Prefix; 2], Box<[Prefix]>),
    /// Looked up.
    Many(Prefixes<()>),
}

impl Allowed {
    /// These, in any order.
    pub fn new(prefixes: &[Prefix]) -> Self {
        if prefixes.len() <= FEW {
            let at = |index| prefixes.get(index).copied().unwrap_or(NOTHING);
            let more = prefixes.get(2..).unwrap_or_default();
            return Self::Few([at(0), at(1)], more.into());
        }
        let mut table = Prefixes::default();
        for prefix in prefixes {
            table.insert(*prefix, ());
        }
        Self::Many(table)
    }

    /// True if one of the prefixes has this address.
    pub fn contains(&self, version: u8, address: u128) -> bool {
        match self {
            Self::Few(two, more) => two
                .iter()
                .chain(more)
                .any(|prefix| prefix.contains(version, address)),
            Self::Many(table) => table.lookup(version, address).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(99);
            (self.0 >> 20) % limit
        }

        /// Prefixes that often contain each other.
        fn prefix(&mut self) -> Prefix {
            let version = [4, 6][self.below(2) as usize];
            let width = if version == 4 { 32 } else { 128 };
            let bits = [0, 1, 8, 9, 16, 24, 31, width, width][self.below(9) as usize];
            let address = self.address(version);
            let shift = width - u32::from(bits as u8);
            Prefix {
                version,
                bits: bits as u8,
                address: shifted(address, shift).checked_shl(shift).unwrap_or(0),
            }
        }

        fn address(&mut self, version: u8) -> u128 {
            let few = u128::from(self.below(4)) << 30
                | u128::from(self.below(16)) << 16
                | u128::from(self.below(512));
            if version == 4 { few } else { few << 90 | few }
        }
    }

    /// The obvious way.
    fn naive(model: &HashMap<Prefix, u64>, version: u8, address: u128) -> Option<&u64> {
        let all = model.iter().filter(|(p, _)| p.contains(version, address));
        all.max_by_key(|(prefix, _)| prefix.bits)
            .map(|(_, value)| value)
    }

    #[test]
    fn every_copy_finds_what_a_naive_search_finds() {
        let mut dice = Dice(7);
        let mut model = HashMap::new();
        let mut table = Prefixes::default();
        for round in 0..40 {
            let (before, frozen) = (table.clone(), model.clone());
            for value in 0..100 {
                let prefix = dice.prefix();
                if dice.below(3) == 0 {
                    model.remove(&prefix);
                    table.remove(prefix);
                } else {
                    model.insert(prefix, value);
                    table.insert(prefix, value);
                }
                assert_eq!(table.get(prefix), model.get(&prefix));
            }
            let asked: Vec<Prefix> = model.keys().copied().collect();
            let allowed = Allowed::new(&asked);
            for _ in 0..100 {
                let version = [4, 6][dice.below(2) as usize];
                let address = dice.address(version);
                let found = naive(&model, version, address);
                assert_eq!(table.lookup(version, address), found, "round {round}");
                assert_eq!(allowed.contains(version, address), found.is_some());
                let old = naive(&frozen, version, address);
                assert_eq!(before.lookup(version, address), old, "a copy changed");
            }
        }
    }

    #[test]
    fn a_few_sources_are_those_of_the_prefixes() {
        let mut dice = Dice(3);
        for count in 0..=FEW {
            let prefixes: Vec<Prefix> = (0..count).map(|_| dice.prefix()).collect();
            let allowed = Allowed::new(&prefixes);
            for _ in 0..200 {
                let (version, address) = ([4, 6][dice.below(2) as usize], dice.address(4));
                let expected = prefixes.iter().any(|p| p.contains(version, address));
                assert_eq!(allowed.contains(version, address), expected);
            }
        }
    }

    #[test]
    fn a_hundred_thousand_prefixes_are_found() {
        let mut table = Prefixes::default();
        let prefix = |i: u128| {
            let bits = 24 + (i % 8) as u8;
            let address = (i << 8) & !((1 << (32 - bits)) - 1);
            Prefix {
                version: 4,
                bits,
                address,
            }
        };
        for i in 0..100_000 {
            table.insert(prefix(i), i);
        }
        for i in 0..100_000 {
            assert_eq!(table.lookup(4, i << 8), Some(&i));
        }
        for i in 0..100_000 {
            table.remove(prefix(i));
        }
        assert!((0..100_000).all(|i| table.lookup(4, i << 8).is_none()));
        assert!(table.v4.nets.is_empty());
    }
}
