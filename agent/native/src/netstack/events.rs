//! What Python is told: a bounded queue with an eventfd, readable while something waits.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A peer wants a connection: `accept` or `reject` it.
    Syn = 1,
    /// A dialled connection is there: `join` it.
    Connected = 2,
    /// A dialled connection was refused or nobody answered; `data` says which.
    Failed = 3,
    /// A connection that was joined has ended; `data` is empty or the reason.
    Closed = 4,
    /// A UDP datagram arrived.
    Udp = 5,
    /// The stack has stopped; `data` is the reason.
    Died = 6,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The connection, zero for none.
    pub stream: u64,
    /// Our side.
    pub local: SocketAddr,
    /// The other side.
    pub remote: SocketAddr,
    /// A payload or a reason.
    pub data: Vec<u8>,
}

/// An eventfd.
pub struct Signal(OwnedFd);

impl Signal {
    /// A new one, not set.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC,
        )?))
    }

    /// Make it readable.
    pub fn set(&self) {
        // The only possible error is that it is set as often as a u64 can count.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Make it unreadable.
    pub fn clear(&self) {
        // Fails only if it is clear already.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// The number, for a poller.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lock, whatever a panicked thread left: the data is plain.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const UDP_LIMIT: usize = 1024; // datagrams that wait for Python

/// The queue.  Only datagrams are ever dropped: everything else is bounded by the connections.
pub struct Events {
    queue: Mutex<(VecDeque<Event>, usize)>,
    /// Readable while events wait.
    pub signal: Signal,
}

impl Events {
    /// Empty.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            queue: Mutex::default(),
            signal: Signal::new()?,
        })
    }

    /// Append; false if a datagram was dropped.
    pub fn push(&self, event: Event) -> bool {
        let mut guard = lock(&self.queue);
        let (queue, datagrams) = &mut *guard;
        if event.kind == EventKind::Udp {
            if *datagrams >= UDP_LIMIT {
                return false;
            }
            *datagrams += 1;
        }
        if queue.is_empty() {
            self.signal.set();
        }
        queue.push_back(event);
        true
    }

    /// At most `max`, oldest first.
    pub fn take(&self, max: usize) -> Vec<Event> {
        let mut guard = lock(&self.queue);
        let (queue, datagrams) = &mut *guard;
        let count = max.min(queue.len());
        let taken: Vec<Event> = queue.drain(..count).collect();
        *datagrams -= taken
            .iter()
            .filter(|event| event.kind == EventKind::Udp)
            .count();
        if queue.is_empty() {
            self.signal.clear();
        }
        taken
    }
}
