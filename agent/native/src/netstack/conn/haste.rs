//! A connection's smoltcp lives five times as fast as the world.
//!
//! smoltcp waits at least 1 s before it repeats what was not acknowledged (RFC 6298 §2.4) and has
//! no way to change that; Linux waits 200 ms.  On a path that loses packets most of the time would
//! go by waiting.  So smoltcp is told a faster time: its 1 s is 200 ms.  Whatever depends on round
//! trips does not notice.  CUBIC's windows grow with time and so faster than they should; with the
//! same loss they stay below the kernel's all the same (`docs/performance.md`).

use smoltcp::time::{Duration, Instant};

const TIMES: i64 = 5;

/// Our time in smoltcp's.
pub fn inner(now: Instant) -> Instant {
    Instant::from_micros(now.total_micros() * TIMES)
}

/// smoltcp's time in ours, rounded up.
pub fn outer(at: Instant) -> Instant {
    Instant::from_micros((at.total_micros() + TIMES - 1) / TIMES)
}

/// A span of ours in smoltcp's time.
pub fn span(duration: Duration) -> Duration {
    duration * TIMES as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_never_early() {
        for micros in 0..1000 {
            let at = Instant::from_micros(micros);
            assert_eq!(outer(inner(at)), at);
            assert!(inner(outer(at)) >= at);
        }
    }
}
