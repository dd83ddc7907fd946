//! Where the time comes from.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;

/// Seconds, as `tailnet.agent.clock.now`, or as a test says.
pub enum Clock {
    /// The kernel's `CLOCK_BOOTTIME`.
    System,
    /// Bits of a float that a test sets.
    Manual(AtomicU64),
}

impl Clock {
    /// One that stands at 0 until it is set.
    pub fn manual() -> Self {
        Self::Manual(AtomicU64::new(0))
    }

    /// The time.
    pub fn now(&self) -> f64 {
        match self {
            Self::System => sys::boottime(),
            Self::Manual(bits) => f64::from_bits(bits.load(Ordering::SeqCst)),
        }
    }

    /// Move a manual clock; the system's does not move for anybody.
    pub fn set(&self, now: f64) {
        if let Self::Manual(bits) = self {
            bits.store(now.to_bits(), Ordering::SeqCst);
        }
    }
}
