//! Everything about one peer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::datapath::filter::limiter::{Bucket, REJECTS};
use crate::datapath::tables::masquerade::Masquerade;
use crate::datapath::tables::prefixes::Allowed;
use crate::datapath::tables::session::{Keys, Slots};
use crate::datapath::wire::geneve::{self, Way};
use crate::sys::memory::prefetch;
use crate::sys::socket::SockAddr;

/// Packets that wait for a session; the oldest is dropped.
pub const QUEUE_PACKETS: usize = 128;

/// Bit of a wake: data was sent.
pub const DATA_SENT: u8 = 1;
/// Bit of a wake: data was received.
pub const DATA_RECEIVED: u8 = 2;

/// Where datagrams go, and what was said about it.
#[derive(Default)]
#[repr(C)]
pub struct Path {
    /// By UDP: the peer's address, or a relay's and a session there.
    pub udp: Option<(Way, SockAddr)>,
    /// Through the relay, too or only.
    pub relay: bool,
    /// A refusal was reported.
    pub failed: AtomicBool,
    /// The latest other source that was reported.
    pub reported: Mutex<Option<SocketAddr>>,
}

impl Path {
    /// Ask for its memory.
    pub fn prefetch(&self) {
        prefetch(&self.udp);
        prefetch(&self.relay);
    }

    /// What goes before each datagram, if anything does.
    pub fn head(&self) -> Option<[u8; geneve::LEN]> {
        self.udp.and_then(|(way, _)| way.head())
    }
}

/// What waits for a session.
#[derive(Default)]
pub struct Queue {
    /// IP packets, the oldest first.
    pub packets: VecDeque<Vec<u8>>,
    /// `NoSession` was said.
    pub asked: bool,
}

impl Queue {
    /// Keep a packet; false if the oldest had to go for it.
    pub fn push(&mut self, packet: Vec<u8>) -> bool {
        let full = self.packets.len() >= QUEUE_PACKETS;
        if full {
            self.packets.pop_front();
        }
        self.packets.push_back(packet);
        !full
    }
}

const NEVER: u64 = u64::MAX; // bits of no time

/// Times and counters, written by the packet threads and read by Python.
#[repr(C)]
struct Record {
    last_sent: AtomicU64,
    last_data_sent: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    unheard_since: AtomicU64,
    unanswered_since: AtomicU64,
    last_received: AtomicU64,
    last_data_received: AtomicU64,
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
}

/// A snapshot, in the order of `tailnet.agent.wireguard.session.Activity`.
pub type Activity = (
    f64,
    f64,
    f64,
    f64,
    Option<f64>,
    Option<f64>,
    u64,
    u64,
    u64,
    u64,
    u64,
);

/// Everything about one peer; what each packet needs stands together.
#[repr(C)]
pub struct Peer {
    /// The slow path's handle.
    pub id: u64,
    /// Sources it may use.
    pub allowed: ArcSwap<Allowed>,
    /// What it calls us, if not what we are called.
    pub masquerade: ArcSwapOption<Masquerade>,
    /// Where to send.
    pub path: ArcSwap<Path>,
    /// The session to send with: a copy of the slot.
    pub current: ArcSwapOption<Keys>,
    /// The queue is not empty: look there first, so that nothing overtakes.
    pub queued: AtomicBool,
    /// Bits of wakes that are asked for.
    pub wake: AtomicU8,
    record: Record,
    /// All sessions.
    pub slots: Mutex<Slots>,
    /// What waits for a session.
    pub queue: Mutex<Queue>,
    /// Of refusals to it.
    pub rejects: Mutex<Bucket>,
}

impl Peer {
    /// One without sessions and path.
    pub fn new(id: u64, allowed: Allowed) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            id,
            allowed: ArcSwap::from_pointee(allowed),
            masquerade: ArcSwapOption::empty(),
            path: ArcSwap::default(),
            current: ArcSwapOption::empty(),
            slots: Mutex::default(),
            queue: Mutex::default(),
            queued: AtomicBool::new(false),
            wake: AtomicU8::new(0),
            rejects: Mutex::new(Bucket::full(&REJECTS)),
            record: Record {
                last_sent: zero(),
                last_received: zero(),
                last_data_sent: zero(),
                last_data_received: zero(),
                unheard_since: AtomicU64::new(NEVER),
                unanswered_since: AtomicU64::new(NEVER),
                tx_bytes: zero(),
                rx_bytes: zero(),
                tx_packets: zero(),
                rx_packets: zero(),
            },
        }
    }

    /// Ask for the memory that a packet from it or to it needs.
    pub fn prefetch(&self) {
        prefetch(&self.id);
        prefetch(&self.wake);
        prefetch(&self.record.unanswered_since);
        prefetch(&self.record.rx_bytes);
    }

    /// Ask for what sending to it needs besides, once it is here itself.
    pub fn prefetch_to_send(&self) {
        if let Some(keys) = self.current.load().as_ref() {
            keys.prefetch_to_seal();
        }
        self.path.load().prefetch();
    }

    /// Ask for what taking a packet of it needs besides, once it is here itself.
    pub fn prefetch_to_take(&self) {
        self.path.load().prefetch();
        prefetch(&**self.allowed.load());
    }

    /// What it calls us from now on.
    pub fn set_masquerade(&self, masquerade: &Masquerade) {
        let some = (!masquerade.is_empty()).then(|| Arc::new(masquerade.clone()));
        self.masquerade.store(some);
    }

    /// The session to send with, if there is one that is still good.
    pub fn usable(&self, now: f64) -> Option<Arc<Keys>> {
        self.current.load_full().filter(|keys| keys.usable(now))
    }

    /// Account for what was sealed; returns the wakes that are due.
    ///
    /// `packets` and `size` [bytes of IP] are 0 for a keepalive.
    pub fn note_sent(&self, now: f64, packets: u64, size: u64) -> u8 {
        let record = &self.record;
        record.last_sent.store(now.to_bits(), Ordering::Relaxed);
        clear(&record.unanswered_since);
        if packets == 0 {
            return 0;
        }
        record
            .last_data_sent
            .store(now.to_bits(), Ordering::Relaxed);
        begin(&record.unheard_since, now);
        record.tx_packets.fetch_add(packets, Ordering::Relaxed);
        record.tx_bytes.fetch_add(size, Ordering::Relaxed);
        self.woken(DATA_SENT)
    }

    /// The same for what authenticated.
    pub fn note_received(&self, now: f64, packets: u64, size: u64) -> u8 {
        let record = &self.record;
        record.last_received.store(now.to_bits(), Ordering::Relaxed);
        clear(&record.unheard_since);
        if packets == 0 {
            return 0;
        }
        record
            .last_data_received
            .store(now.to_bits(), Ordering::Relaxed);
        begin(&record.unanswered_since, now);
        record.rx_packets.fetch_add(packets, Ordering::Relaxed);
        record.rx_bytes.fetch_add(size, Ordering::Relaxed);
        self.woken(DATA_RECEIVED)
    }

    fn woken(&self, happened: u8) -> u8 {
        if self.wake.load(Ordering::Relaxed) & happened == 0 {
            return 0;
        }
        self.wake.fetch_and(!happened, Ordering::Relaxed) & happened
    }

    /// A snapshot for the slow path.
    pub fn activity(&self) -> Activity {
        let record = &self.record;
        let time = |at: &AtomicU64| f64::from_bits(at.load(Ordering::Relaxed));
        let since = |at: &AtomicU64| match at.load(Ordering::Relaxed) {
            NEVER => None,
            bits => Some(f64::from_bits(bits)),
        };
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let current = self.current.load();
        (
            time(&record.last_sent),
            time(&record.last_received),
            time(&record.last_data_sent),
            time(&record.last_data_received),
            since(&record.unheard_since),
            since(&record.unanswered_since),
            current.as_ref().map_or(0, |keys| count(&keys.counter)),
            count(&record.tx_bytes),
            count(&record.rx_bytes),
            count(&record.tx_packets),
            count(&record.rx_packets),
        )
    }
}

fn clear(since: &AtomicU64) {
    if since.load(Ordering::Relaxed) != NEVER {
        since.store(NEVER, Ordering::Relaxed);
    }
}

fn begin(since: &AtomicU64, now: f64) {
    if since.load(Ordering::Relaxed) == NEVER {
        since.store(now.to_bits(), Ordering::Relaxed);
    }
}
