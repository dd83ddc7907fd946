//! Bounds of a stack, and what it counts.

use std::sync::atomic::AtomicU64;

/// Bounds of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one packet.
    pub mtu: usize,
    /// Connections at once.
    pub streams: usize,
    /// Of those, from peers and not established yet.
    pub half_open: usize,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections now.
    pub streams: AtomicU64,
    /// From peers, not established, now.
    pub half_open: AtomicU64,
    /// Peers' connections given up before they were established, or ignored, because of a bound.
    pub syn_dropped: AtomicU64,
    /// Packets that were damaged, or not for us.
    pub ignored: AtomicU64,
    /// Datagrams and pings that nobody took in time.
    pub udp_dropped: AtomicU64,
    /// Datagrams whose fragments did not come together.
    pub fragments_dropped: AtomicU64,
}
