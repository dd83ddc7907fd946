//! One session, ready to use, and the three slots for a peer's sessions.
//!
//! ```text
//! transport message:  0 type = 4   4 receiver   8 counter   16 ciphertext   end - 16 tag
//! ```
//!
//! Source: WireGuard paper §5.4.6, §6.3; wireguard-go noise-protocol.go BeginSymmetricSession,
//! ReceivedWithKeypair.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::datapath::crypto::aead::{Cipher, Key};
use crate::datapath::crypto::replay::{REJECT_AFTER_MESSAGES, ReplayWindow};
use crate::datapath::tables::peer::Peer;
use crate::sys::memory::prefetch;

/// Bytes before the ciphertext.
pub const HEADER: usize = 16;
/// Seconds that a session lives.
pub const REJECT_AFTER_TIME: f64 = 180.0;
/// Message type, as the first four bytes say it.
pub const TRANSPORT: u32 = 4;

/// What the slow path says of a session.
pub struct Session {
    /// Ours.
    pub local: u32,
    /// The peer's.
    pub remote: u32,
    /// To seal with.
    pub send_key: [u8; 32],
    /// To open with.
    pub receive_key: [u8; 32],
    /// Seconds.
    pub created: f64,
    /// We began the handshake.
    pub initiator: bool,
}

/// One session, ready to use; what each message needs stands together.
#[repr(C)]
pub struct Keys {
    /// Whose it is.
    pub peer: Arc<Peer>,
    /// Our index.
    pub local: u32,
    remote: u32,
    /// When it dies [s].
    pub expires: f64,
    /// Messages sealed.
    pub counter: AtomicU64,
    /// A responder's, on which nothing came yet.
    pub unconfirmed: AtomicBool,
    open: Key,
    seal: Key,
    /// Counters seen.
    pub replay: Mutex<ReplayWindow>,
}

impl Keys {
    /// Prepare a session.
    pub fn new(peer: Arc<Peer>, session: &Session) -> Self {
        Self {
            peer,
            local: session.local,
            remote: session.remote,
            expires: session.created + REJECT_AFTER_TIME,
            counter: AtomicU64::new(0),
            unconfirmed: AtomicBool::new(!session.initiator),
            open: Key::new(&session.receive_key),
            seal: Key::new(&session.send_key),
            replay: Mutex::default(),
        }
    }

    /// True if it may still seal.
    pub fn usable(&self, now: f64) -> bool {
        now < self.expires && self.counter.load(Ordering::Relaxed) < REJECT_AFTER_MESSAGES
    }

    /// Ask for the memory that opening a message needs.
    pub fn prefetch_to_open(&self) {
        prefetch(&self.peer);
        self.open.prefetch();
        prefetch(&self.replay);
    }

    /// Ask for the memory that sealing a message needs.
    pub fn prefetch_to_seal(&self) {
        prefetch(&self.peer);
        prefetch(&self.counter);
        self.seal.prefetch();
    }

    /// Seal the plaintext `message[16..len - 16]` in place, as message number `counter`.
    pub fn seal(&self, cipher: &mut Cipher, message: &mut [u8], counter: u64) {
        message[..4].copy_from_slice(&TRANSPORT.to_le_bytes());
        message[4..8].copy_from_slice(&self.remote.to_le_bytes());
        message[8..16].copy_from_slice(&counter.to_le_bytes());
        cipher.seal(&self.seal, counter, &mut message[HEADER..]);
    }

    /// Open a message in place: the plaintext is `message[16..len - 16]` then.  False if forged.
    pub fn open(&self, cipher: &mut Cipher, message: &mut [u8], counter: u64) -> bool {
        cipher.open(&self.open, counter, &mut message[HEADER..])
    }
}

/// Previous, current and next.  Only `current` sends; all three receive.  Every method that evicts
/// returns what it evicted.
#[derive(Default)]
pub struct Slots {
    previous: Option<Arc<Keys>>,
    /// The one to send with.
    pub current: Option<Arc<Keys>>,
    next: Option<Arc<Keys>>,
}

fn is(slot: Option<&Arc<Keys>>, keys: &Arc<Keys>) -> bool {
    slot.is_some_and(|known| Arc::ptr_eq(known, keys))
}

impl Slots {
    /// Our initiation was answered: send with `keys` at once.
    pub fn add_initiator(&mut self, keys: Arc<Keys>) -> Vec<Arc<Keys>> {
        let old = self.current.replace(keys);
        let gone = if let Some(next) = self.next.take() {
            [self.previous.replace(next), old]
        } else {
            [std::mem::replace(&mut self.previous, old), None]
        };
        gone.into_iter().flatten().collect()
    }

    /// We answered an initiation: wait for the proof that the initiator has the key.
    pub fn add_responder(&mut self, keys: Arc<Keys>) -> Vec<Arc<Keys>> {
        let gone = [self.previous.take(), self.next.replace(keys)];
        gone.into_iter().flatten().collect()
    }

    /// A packet authenticated on `keys`; if that was `next` it becomes current, and what it pushed
    /// out is returned.
    pub fn confirm(&mut self, keys: &Arc<Keys>) -> Option<Vec<Arc<Keys>>> {
        if !is(self.next.as_ref(), keys) {
            return None;
        }
        let old = std::mem::replace(&mut self.current, self.next.take());
        let gone = std::mem::replace(&mut self.previous, old);
        Some(gone.into_iter().collect())
    }

    /// Empty the slot of `keys`.
    pub fn remove(&mut self, keys: &Arc<Keys>) {
        for slot in [&mut self.previous, &mut self.current, &mut self.next] {
            if is(slot.as_ref(), keys) {
                *slot = None;
            }
        }
    }

    /// Empty all slots; returns what was in them.
    pub fn clear(&mut self) -> Vec<Arc<Keys>> {
        let all = [self.previous.take(), self.current.take(), self.next.take()];
        all.into_iter().flatten().collect()
    }
}
