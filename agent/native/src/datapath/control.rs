//! When the threads end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::event::EventFd;

/// When to stop, and whether something broke.
pub struct Control {
    stopping: AtomicBool,
    /// Set once and never cleared: it wakes every waiter.
    pub stop: Arc<EventFd>,
    /// The sockets were replaced.
    pub rebound: EventFd,
}

impl Control {
    /// Running.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            stopping: AtomicBool::new(false),
            stop: Arc::new(EventFd::new()?),
            rebound: EventFd::new()?,
        })
    }

    /// Tell all threads to end.  True if nobody did before.
    pub fn end(&self) -> bool {
        let first = !self.stopping.swap(true, Ordering::AcqRel);
        self.stop.set();
        first
    }

    /// True once told to end.
    pub fn ended(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
