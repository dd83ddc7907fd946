//! How much of what nobody authenticated may reach the slow path.
//!
//! A bucket per source (an address, or an IPv6 /64), and one for all.  Sources of authenticated
//! messages have only their own bucket: a flood from elsewhere does not silence them.

use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use crate::hash::Seeded;

const SLOTS: usize = 1024;
const SOURCE: Rate = Rate {
    per_second: 100.0,
    burst: 100.0,
};
const TOTAL: Rate = Rate {
    per_second: 2000.0,
    burst: 1000.0,
};

/// TSMP messages to one peer.
pub const REJECTS: Rate = Rate {
    per_second: 50.0,
    burst: 50.0,
};
/// ICMP messages to the host, where nobody refused but nobody is there.
pub const UNREACHABLE: Rate = Rate {
    per_second: 100.0,
    burst: 100.0,
};

/// How fast a bucket fills, and how much it holds.
pub struct Rate {
    /// Tokens.
    pub per_second: f64,
    /// Tokens.
    pub burst: f64,
}

/// Tokens left at a time.
#[derive(Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    at: f64,
}

impl Bucket {
    /// A full one.
    pub fn full(rate: &Rate) -> Self {
        Self {
            tokens: rate.burst,
            at: 0.0,
        }
    }

    /// True if there was a token.
    pub fn take(&mut self, rate: &Rate, now: f64) -> bool {
        let grown = self.tokens + (now - self.at).max(0.0) * rate.per_second;
        self.tokens = grown.min(rate.burst);
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// Of one thread.
pub struct Limiter {
    sources: Vec<Option<(u128, Bucket)>>,
    good: Vec<Option<SocketAddr>>,
    total: Bucket,
    hash: Seeded,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            sources: vec![None; SLOTS],
            good: vec![None; SLOTS],
            total: Bucket::full(&TOTAL),
            hash: Seeded::default(),
        }
    }
}

impl Limiter {
    /// An authenticated message came from `src`.
    pub fn note_good(&mut self, src: SocketAddr) {
        let slot = self.hash.hash_one(src) as usize % SLOTS;
        self.good[slot] = Some(src);
    }

    /// True if one more datagram of `src` may pass.
    pub fn allows(&mut self, src: SocketAddr, now: f64) -> bool {
        let key = match src.ip() {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits() >> 64 << 64 | 1 << 63,
        };
        let slot = self.hash.hash_one(key) as usize % SLOTS;
        let (_, bucket) = match &mut self.sources[slot] {
            Some(entry) if entry.0 == key => entry,
            entry => entry.insert((
                key,
                Bucket {
                    tokens: SOURCE.burst,
                    at: now,
                },
            )),
        };
        let good = self.good[self.hash.hash_one(src) as usize % SLOTS] == Some(src);
        bucket.take(&SOURCE, now) && (good || self.total.take(&TOTAL, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_known_sources_pass() {
        let mut limiter = Limiter::default();
        let from = |n: u32| SocketAddr::new(IpAddr::V4(n.into()), 9);
        let passed = (0..10_000).filter(|_| limiter.allows(from(1), 1.0)).count();
        assert_eq!(passed, 100);
        let passed = (0..10_000)
            .filter(|n| limiter.allows(from(*n), 1.0))
            .count();
        assert!(passed <= 1000);
        limiter.note_good(from(0xFFFF_FFFF));
        assert!(limiter.allows(from(0xFFFF_FFFF), 1.0));
        assert!(!limiter.allows(from(0xFFFF_FFFE), 1.0));
        assert!(limiter.allows(from(1), 2.0));
    }
}
