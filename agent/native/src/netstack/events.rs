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
    /// An echo request to an address that is not ours; `data` is the ICMP message.
    Ping = 7,
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

const DATAGRAMS: usize = 1024; // datagrams and pings that wait for Python
const BYTES: usize = 4 << 20; // in them

/// The queue.  Only datagrams are ever dropped: everything else is bounded by the connections.
pub struct Events {
    queue: Mutex<Queue>,
    /// Readable while events wait.
    pub signal: Signal,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    datagrams: usize,
    bytes: usize, // in the datagrams
}

impl Event {
    fn is_datagram(&self) -> bool {
        matches!(self.kind, EventKind::Udp | EventKind::Ping)
    }
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
        let mut queue = lock(&self.queue);
        if event.is_datagram() {
            let bytes = queue.bytes + event.data.len();
            if queue.datagrams >= DATAGRAMS || bytes > BYTES {
                return false;
            }
            queue.datagrams += 1;
            queue.bytes = bytes;
        }
        if queue.events.is_empty() {
            self.signal.set();
        }
        queue.events.push_back(event);
        true
    }

    /// At most `max`, oldest first.
    pub fn take(&self, max: usize) -> Vec<Event> {
        let mut queue = lock(&self.queue);
        let count = max.min(queue.events.len());
        let taken: Vec<Event> = queue.events.drain(..count).collect();
        for event in taken.iter().filter(|event| event.is_datagram()) {
            queue.datagrams -= 1;
            queue.bytes -= event.data.len();
        }
        if queue.events.is_empty() {
            self.signal.clear();
        }
        taken
    }
}
