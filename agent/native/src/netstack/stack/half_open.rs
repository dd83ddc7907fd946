//! Connections of peers that are not established yet: a bounded number.
//!
//! A flood of first segments costs its own sender.  Each sender has a share of the table; when a
//! share or the table is full the oldest of whoever has the most is given up for the newcomer, so
//! an honest peer gets in beside any number of segments from somebody else.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// The table: numbers grow, so the first of a sender is its oldest.
pub struct HalfOpen {
    limit: usize,
    senders: BTreeMap<u64, IpAddr>,
    counts: HashMap<IpAddr, usize>,
}

impl HalfOpen {
    /// At most `limit`, of one sender three quarters of it.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            senders: BTreeMap::new(),
            counts: HashMap::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.senders.len()
    }

    /// Who has to go before another of `sender` may come.
    pub fn victim(&self, sender: IpAddr) -> Option<u64> {
        let own = self.counts.get(&sender).copied().unwrap_or(0);
        let whose = if own >= (self.limit * 3 / 4).max(1) {
            sender
        } else if self.senders.len() >= self.limit {
            let most = self.counts.iter().max_by_key(|(_, count)| **count);
            most.map_or(sender, |(whose, _)| *whose)
        } else {
            return None;
        };
        let oldest = self.senders.iter().find(|(_, from)| **from == whose);
        oldest.map(|(id, _)| *id)
    }

    /// A connection begins.
    pub fn add(&mut self, id: u64, sender: IpAddr) {
        self.senders.insert(id, sender);
        *self.counts.entry(sender).or_default() += 1;
    }

    /// It is established, or has ended.
    pub fn remove(&mut self, id: u64) {
        let Some(sender) = self.senders.remove(&id) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&sender) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_pushes_out_its_own() {
        let mut table = HalfOpen::new(8);
        let (evil, good): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        table.add(1, good);
        for id in 2..100 {
            if let Some(victim) = table.victim(evil) {
                table.remove(victim);
            }
            table.add(id, evil);
        }
        assert_eq!(table.len(), 7); // six of eight, and the good one
        assert_eq!(table.victim(good), None);
        table.add(100, good);
        let victim = table.victim(good);
        assert_eq!(victim, Some(94), "the oldest of whoever has the most");
        table.remove(1);
        table.remove(1);
        assert_eq!(table.len(), 7);
    }
}
