//! The first MAC of a handshake message: the sender knows whom it talks to.
//!
//! Source: WireGuard paper §5.4.4.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};

const MAC: usize = 16;

/// Knows our public key.
pub struct Mac1 {
    key: [u8; 32],
}

impl Mac1 {
    /// For messages to `public`.
    pub fn new(public: &[u8; 32]) -> Self {
        let hash = <Blake2s256 as Digest>::new()
            .chain_update(b"mac1----")
            .chain_update(public);
        Self {
            key: hash.finalize().into(),
        }
    }

    /// True if the MAC of an initiation or response is right.
    pub fn holds(&self, message: &[u8]) -> bool {
        let Some(at) = message.len().checked_sub(2 * MAC) else {
            return false;
        };
        let Ok(mut mac) = <Blake2sMac<U16> as KeyInit>::new_from_slice(&self.key) else {
            return false;
        };
        Update::update(&mut mac, &message[..at]);
        // No secret: whoever knows our public key can make one.
        mac.finalize_fixed().as_slice() == &message[at..at + MAC]
    }
}

#[cfg(test)]
mod tests {
    use blake2::digest::Mac;

    use super::*;

    #[test]
    fn a_message_for_us_passes_and_a_changed_one_does_not() {
        let mac1 = Mac1::new(&[7; 32]);
        let mut message = vec![1; 148];
        let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&mac1.key).expect("32 bytes");
        Update::update(&mut mac, &message[..116]);
        message[116..132].copy_from_slice(Mac::finalize(mac).into_bytes().as_slice());
        assert!(mac1.holds(&message));
        message[3] ^= 1;
        assert!(!mac1.holds(&message));
        assert!(!mac1.holds(&[0; 31]));
    }
}
