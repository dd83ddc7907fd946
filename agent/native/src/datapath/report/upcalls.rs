//! What waits for the slow path, bounded.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use crate::datapath::wire::geneve::Way;
use crate::sys::event::EventFd;

/// See `tailnet.agent.datapath.interface`.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Upcall {
    NoSession(u64),
    Handshake(Way, Vec<u8>),
    Disco(Way, Vec<u8>),
    Stun(SocketAddr, Vec<u8>),
    RelayOut(u64, Vec<Vec<u8>>),
    Confirmed(u64, u32),
    Woke(u64, u8),
    NewSource(u64, SocketAddr),
    PathFailed(u64, Way, i32),
    ToAgent(u64, Vec<u8>),
    Failed(String),
}

impl Upcall {
    // Network traffic may get lost; the others come at most once per ask and never do.
    fn lossy(&self) -> bool {
        !matches!(
            self,
            Self::NoSession(_)
                | Self::Confirmed(..)
                | Self::Woke(..)
                | Self::PathFailed(..)
                | Self::Failed(_)
        )
    }
}

struct Waiting {
    queue: VecDeque<Upcall>,
    signalled: bool,
}

/// Oldest first.  When full, whatever the network can repeat is refused.
pub struct Upcalls {
    waiting: Mutex<Waiting>,
    limit: usize,
    /// Readable while something waits.
    pub event: EventFd,
}

impl Upcalls {
    /// An empty queue.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(limit: usize) -> io::Result<Self> {
        Ok(Self {
            waiting: Mutex::new(Waiting {
                queue: VecDeque::new(),
                signalled: false,
            }),
            limit,
            event: EventFd::new()?,
        })
    }

    /// False if there was no room.
    pub fn put(&self, upcall: Upcall) -> bool {
        let mut waiting = crate::datapath::lock(&self.waiting);
        if waiting.queue.len() >= self.limit && upcall.lossy() {
            return false;
        }
        waiting.queue.push_back(upcall);
        if !waiting.signalled {
            waiting.signalled = true;
            self.event.set();
        }
        true
    }

    /// At most `limit`, oldest first.
    pub fn take(&self, limit: usize) -> Vec<Upcall> {
        let mut waiting = crate::datapath::lock(&self.waiting);
        let count = limit.min(waiting.queue.len());
        let taken = waiting.queue.drain(..count).collect();
        if waiting.queue.is_empty() && waiting.signalled {
            waiting.signalled = false;
            self.event.clear();
        }
        taken
    }
}
