//! The replay window of one session.
//!
//! Source: RFC 6479; wireguard-go replay/replay.go Filter.

use crate::sys::memory::prefetch;

/// Never send or accept at or above.
///
/// Source: WireGuard paper §6.1.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Counters; replay.go windowSize.  Two paths at once reorder by thousands.
pub const WINDOW: u64 = 8128;
const WORDS: u64 = 128;

/// Which counters were seen, down to [`WINDOW`] below the greatest.  Ask only after the packet
/// authenticated.
#[repr(C)]
pub struct ReplayWindow {
    top: u64, // beside the lock around it
    ring: [u64; WORDS as usize],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self {
            ring: [0; WORDS as usize],
            top: 0,
        }
    }
}

impl ReplayWindow {
    /// Ask for the memory that looking for `counter` needs.
    pub fn prefetch(&self, counter: u64) {
        prefetch(&self.ring[((counter >> 6) % WORDS) as usize]);
    }

    /// True, once, for a counter that is new and not too old.
    pub fn check_and_set(&mut self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES {
            return false;
        }
        let block = counter >> 6;
        if counter > self.top {
            let old = self.top >> 6;
            for ahead in 1..=(block - old).min(WORDS) {
                self.ring[((old + ahead) % WORDS) as usize] = 0;
            }
            self.top = counter;
        } else if self.top - counter > WINDOW {
            return false;
        }
        let word = &mut self.ring[(block % WORDS) as usize];
        let bit = 1 << (counter & 63);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_counter_within_the_window_passes_once() {
        let mut window = ReplayWindow::default();
        let mut seen = HashSet::new();
        let (mut top, mut state) = (0u64, 12345u64);
        for _ in 0..200_000 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let jump = state >> 33;
            let counter = match jump % 5 {
                0 => top + jump % 10_000,
                1 => top + 1,
                _ => top.saturating_sub(jump % 9000),
            };
            let expected = (counter > top || top - counter <= WINDOW) && seen.insert(counter);
            assert_eq!(
                window.check_and_set(counter),
                expected,
                "{counter} at {top}"
            );
            top = top.max(counter);
        }
    }

    #[test]
    fn the_last_counters_are_refused() {
        let mut window = ReplayWindow::default();
        assert!(!window.check_and_set(u64::MAX));
        assert!(window.check_and_set(REJECT_AFTER_MESSAGES - 1));
        assert!(!window.check_and_set(5));
    }
}
