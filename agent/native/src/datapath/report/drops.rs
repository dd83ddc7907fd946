//! Names of the drop counters; the set is fixed and the reference's.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! reasons {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// Why a packet went no further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $(#[doc = $name] $variant),* }

        /// In the order of [`Reason`].
        pub const NAMES: &[&str] = &[$($name),*];
    };
}

reasons! {
    OutMalformed = "out_malformed",
    OutChecksum = "out_checksum",
    OutFilter = "out_filter",
    OutTsmp = "out_tsmp",
    OutService = "out_service",
    OutNoPeer = "out_no_peer",
    OutQueueFull = "out_queue_full",
    OutDiscarded = "out_discarded",
    OutNoPath = "out_no_path",
    OutSend = "out_send",
    OutBacklog = "out_backlog",
    InUnknown = "in_unknown",
    InNoSession = "in_no_session",
    InExpired = "in_expired",
    InForged = "in_forged",
    InReplay = "in_replay",
    InMalformed = "in_malformed",
    InChecksum = "in_checksum",
    InSource = "in_source",
    InService = "in_service",
    InMulticast = "in_multicast",
    InLinkLocal = "in_link_local",
    InNotLocal = "in_not_local",
    InDenied = "in_denied",
    TunWrite = "tun_write",
    UdpRead = "udp_read",
    UpcallsFull = "upcalls_full",
    Capture = "capture",
}

/// One counter for each reason.
pub struct Drops([AtomicU64; NAMES.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; NAMES.len()])
    }
}

impl Drops {
    /// Count `count` packets.
    pub fn add(&self, reason: Reason, count: usize) {
        self.0[reason as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// All counters, in the order of [`NAMES`].
    pub fn snapshot(&self) -> Vec<u64> {
        self.0.iter().map(|n| n.load(Ordering::Relaxed)).collect()
    }
}
