//! Which queue of the TUN device a flow uses.
//!
//! The kernel gives a flow's packets to the queue into which its last packet was written, and those
//! of a flow it has not seen for three seconds to one it draws from a hash of its own.  So answers
//! go to the queue the flow was read from: then no flow ever changes queues while packets of it
//! wait, and one thread seals all of them in order.  A flow that begins outside goes to a queue by
//! our hash, where the kernel sends the answers.
//!
//! Source: Linux drivers/net/tun.c, tun_automq_select_queue, tun_flow_update.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::datapath::wire::packet::{SCTP, TCP, UDP, u16_at, u32_at};
use crate::hash::Seeded;

const SLOTS: usize = 1 << 16;
const UNKNOWN: u8 = u8::MAX;
const FRAGMENTED: u16 = 0x3FFF; // more fragments, or an offset

/// Flows by hash → the queue their last packet was read from.
pub struct Steering {
    queues: u8,
    slots: Box<[AtomicU8]>,
    hash: Seeded,
}

impl Steering {
    /// For a device of fewer than 255 queues.
    pub fn new(queues: u8) -> Self {
        Self {
            queues,
            slots: (0..SLOTS).map(|_| AtomicU8::new(UNKNOWN)).collect(),
            hash: Seeded::default(),
        }
    }

    /// A packet was read from this queue.
    pub fn note(&self, packet: &[u8], queue: usize) {
        let slot = &self.slots[self.hash_of(packet) as usize % SLOTS];
        let queue = queue as u8;
        if slot.load(Ordering::Relaxed) != queue {
            slot.store(queue, Ordering::Relaxed);
        }
    }

    /// Where to write a packet, of which the headers are enough.
    pub fn choose(&self, packet: &[u8]) -> usize {
        let hash = self.hash_of(packet);
        match self.slots[hash as usize % SLOTS].load(Ordering::Relaxed) {
            UNKNOWN => (hash >> 32) as usize % usize::from(self.queues),
            queue => usize::from(queue),
        }
    }

    /// The same for both directions of a flow.  Fragments count as one flow without ports, as the
    /// kernel has it: later ones have none.
    fn hash_of(&self, packet: &[u8]) -> u64 {
        let Some((proto, at, src, dst)) = addresses(packet) else {
            return 0;
        };
        let ports = match proto {
            TCP | UDP | SCTP if packet.len() >= at + 4 => {
                [u16_at(packet, at), u16_at(packet, at + 2)]
            }
            _ => [0, 0],
        };
        let ends = [(src, ports[0], proto), (dst, ports[1], proto)];
        let [one, two] = ends.map(|end| self.hash.hash_one(end));
        one.wrapping_add(two)
    }
}

/// Protocol, offset of the transport header, source and destination; a fragment has protocol 0.
fn addresses(packet: &[u8]) -> Option<(u8, usize, u128, u128)> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => {
            let whole = u16_at(packet, 6) & FRAGMENTED == 0;
            let proto = if whole { packet[9] } else { 0 };
            let (src, dst) = (u32_at(packet, 12), u32_at(packet, 16));
            let at = usize::from(packet[0] & 0x0F) * 4;
            Some((proto, at, src.into(), dst.into()))
        }
        6 => {
            let at = |at| Some(u128::from_be_bytes(*packet.get(at..)?.first_chunk()?));
            let (src, dst) = (at(8)?, at(24)?);
            Some((packet[6], 40, src, dst)) // a fragment header is no transport with ports
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(src: u8, dst: u8, ports: [u16; 2]) -> Vec<u8> {
        let mut packet = vec![0; 28];
        (packet[0], packet[9], packet[15], packet[19]) = (0x45, UDP, src, dst);
        packet[20..22].copy_from_slice(&ports[0].to_be_bytes());
        packet[22..24].copy_from_slice(&ports[1].to_be_bytes());
        packet
    }

    #[test]
    fn answers_go_where_the_flow_was_read() {
        let steering = Steering::new(4);
        for port in 0..200 {
            let (out, back) = (packet(1, 2, [port, 53]), packet(2, 1, [53, port]));
            assert_eq!(steering.choose(&out), steering.choose(&back));
            steering.note(&out, usize::from(port) % 4);
            assert_eq!(steering.choose(&back), usize::from(port) % 4);
        }
    }

    #[test]
    fn new_flows_spread_over_all_queues() {
        let steering = Steering::new(4);
        let mut seen = [0; 4];
        for port in 0..400 {
            seen[steering.choose(&packet(2, 1, [port, 80]))] += 1;
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn all_fragments_between_two_hosts_are_one_flow() {
        let steering = Steering::new(4);
        let mut first = packet(2, 1, [53, 9]);
        let mut later = packet(2, 1, [77, 78]);
        (first[6], later[7]) = (0x20, 185);
        steering.note(&packet(2, 1, [53, 9]), 3);
        assert_eq!(steering.choose(&first), steering.choose(&later));
        steering.note(&later, 2);
        assert_eq!(steering.choose(&first), 2);
        assert_eq!(steering.choose(&packet(2, 1, [53, 9])), 3);
    }

    #[test]
    fn anything_else_has_a_queue_too() {
        let steering = Steering::new(3);
        for junk in [&[][..], &[0x45], &[0x60; 39], &[0x45; 20], &[0xFF; 60]] {
            assert!(steering.choose(junk) < 3);
            steering.note(junk, 1);
        }
    }
}
