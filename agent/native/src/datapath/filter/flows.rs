//! What left lately over protocols without connections, so that the replies may enter.
//!
//! Source: tailscale net/flowtrack/flowtrack.go; wgengine/filter/filter.go, lruMax.

use std::collections::HashMap;

use crate::datapath::wire::packet::Parsed;
use crate::hash::Seeded;

const MAX_FLOWS: usize = 512;
const NONE: u16 = u16::MAX;

/// A 5-tuple as the reply will carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flow {
    version: u8,
    proto: u8,
    src: u128,
    dst: u128,
    src_port: u16,
    dst_port: u16,
}

impl Flow {
    /// Of an inbound packet.
    pub fn of(packet: &Parsed) -> Self {
        Self {
            version: packet.version,
            proto: packet.proto,
            src: packet.src,
            dst: packet.dst,
            src_port: packet.src_port,
            dst_port: packet.dst_port,
        }
    }

    /// Of the replies to an outbound packet.
    pub fn reply_to(packet: &Parsed) -> Self {
        Self {
            src: packet.dst,
            dst: packet.src,
            src_port: packet.dst_port,
            dst_port: packet.src_port,
            ..Self::of(packet)
        }
    }
}

struct Entry {
    flow: Flow,
    older: u16,
    newer: u16,
}

/// The latest 512 flows; no time-out.  It outlives every version of the rules.
pub struct FlowCache {
    index: HashMap<Flow, u16, Seeded>,
    entries: Vec<Entry>,
    oldest: u16,
    newest: u16,
}

impl Default for FlowCache {
    fn default() -> Self {
        Self {
            index: HashMap::default(),
            entries: Vec::new(),
            oldest: NONE,
            newest: NONE,
        }
    }
}

impl FlowCache {
    /// Admit `reply` from now on.
    pub fn note(&mut self, reply: Flow) {
        if self.is_reply(&reply) {
            return;
        }
        let slot = if self.entries.len() < MAX_FLOWS {
            self.entries.push(Entry {
                flow: reply,
                older: NONE,
                newer: NONE,
            });
            (self.entries.len() - 1) as u16
        } else {
            let slot = self.oldest;
            self.unlink(slot);
            self.index.remove(&self.entries[usize::from(slot)].flow);
            self.entries[usize::from(slot)].flow = reply;
            slot
        };
        self.link(slot);
        self.index.insert(reply, slot);
    }

    /// True if `flow` answers something sent; it then counts as fresh.
    pub fn is_reply(&mut self, flow: &Flow) -> bool {
        let Some(&slot) = self.index.get(flow) else {
            return false;
        };
        if slot != self.newest {
            self.unlink(slot);
            self.link(slot);
        }
        true
    }

    fn unlink(&mut self, slot: u16) {
        let Entry { older, newer, .. } = self.entries[usize::from(slot)];
        match older {
            NONE => self.oldest = newer,
            at => self.entries[usize::from(at)].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            at => self.entries[usize::from(at)].older = older,
        }
    }

    fn link(&mut self, slot: u16) {
        let newest = self.newest;
        let entry = &mut self.entries[usize::from(slot)];
        (entry.older, entry.newer) = (newest, NONE);
        match newest {
            NONE => self.oldest = slot,
            at => self.entries[usize::from(at)].newer = slot,
        }
        self.newest = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(n: u16) -> Flow {
        Flow {
            src_port: n,
            ..Flow::default()
        }
    }

    #[test]
    fn the_oldest_of_more_than_512_flows_goes() {
        let mut flows = FlowCache::default();
        for n in 0..512 {
            flows.note(flow(n));
        }
        assert!(flows.is_reply(&flow(0)));
        flows.note(flow(512));
        assert!(!flows.is_reply(&flow(1)));
        assert!(flows.is_reply(&flow(0)));
        assert!(flows.is_reply(&flow(2)));
        for n in 1000..1510 {
            flows.note(flow(n));
        }
        assert!(flows.is_reply(&flow(0)));
        assert!(flows.is_reply(&flow(2)));
        assert!(!flows.is_reply(&flow(3)));
        assert_eq!(flows.index.len(), 512);
    }
}
