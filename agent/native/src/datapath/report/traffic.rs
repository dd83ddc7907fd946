//! What was carried, by the kind of path it took.

use std::sync::atomic::{AtomicU64, Ordering};

/// Names of the kinds; the set is fixed and the reference's.
pub const KINDS: [&str; 5] = [
    "direct_ipv4",
    "direct_ipv6",
    "derp",
    "peer_relay_ipv4",
    "peer_relay_ipv6",
];

/// A kind of path, as an index into [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(usize);

impl Default for Kind {
    fn default() -> Self {
        Self::DERP
    }
}

impl Kind {
    /// Through a DERP relay.
    pub const DERP: Self = Self(2);

    /// By UDP, over IPv6 or not, directly or by a peer relay.
    pub const fn udp(ipv6: bool, via: bool) -> Self {
        Self(if via { 3 } else { 0 } + ipv6 as usize)
    }
}

/// One direction's counters, on cache lines of their own: each has its thread.
#[derive(Default)]
#[repr(align(128))]
pub struct Half([[AtomicU64; 2]; KINDS.len()]);

impl Half {
    /// Count packets and their bytes of IP.
    pub fn add(&self, kind: Kind, packets: u64, bytes: u64) {
        let [known_packets, known_bytes] = &self.0[kind.0];
        known_packets.fetch_add(packets, Ordering::Relaxed);
        known_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn snapshot(&self, kind: usize) -> (u64, u64) {
        let [packets, bytes] = &self.0[kind];
        (
            packets.load(Ordering::Relaxed),
            bytes.load(Ordering::Relaxed),
        )
    }
}

/// Both directions.
#[derive(Default)]
pub struct Traffic {
    /// From peers.
    pub inbound: Half,
    /// To peers.
    pub outbound: Half,
}

impl Traffic {
    /// In the order of [`KINDS`]: packets and bytes in, packets and bytes out.
    pub fn snapshot(&self) -> Vec<(&'static str, u64, u64, u64, u64)> {
        let row = |(index, name): (usize, &&'static str)| {
            let (inbound, outbound) = (self.inbound.snapshot(index), self.outbound.snapshot(index));
            (*name, inbound.0, inbound.1, outbound.0, outbound.1)
        };
        KINDS.iter().enumerate().map(row).collect()
    }
}
