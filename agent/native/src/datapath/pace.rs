//! A moment's patience while many small packets come.
//!
//! A thread that is woken for each packet spends its time on waking, and sends each alone.  While
//! small packets come faster than [`RATE`], waiting [`PAUSE`] gathers some; slow traffic and
//! large packets never wait.

use std::thread;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_micros(40);
const RATE: f64 = 30_000.0; // packets per second
const SMALL: usize = 2048; // bytes

/// Of one thread.
pub struct Pace {
    packets: u32,
    bytes: usize,
    since: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            packets: 0,
            bytes: 0,
            since: Instant::now(),
        }
    }
}

impl Pace {
    /// A packet came.
    pub fn note(&mut self, size: usize) {
        self.packets += 1;
        self.bytes += size;
    }

    /// Nothing more is there.  True if this waited a moment; false if the caller should wait until
    /// something comes.
    pub fn pause(&mut self) -> bool {
        let now = Instant::now();
        let seconds = now.duration_since(self.since).as_secs_f64();
        let many = f64::from(self.packets) > RATE * seconds;
        let small = self.bytes < SMALL * self.packets as usize;
        (self.packets, self.bytes, self.since) = (0, 0, now);
        if many && small {
            thread::sleep(PAUSE);
        }
        many && small
    }
}
