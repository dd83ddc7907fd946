//! WireGuard's handshake, Noise IKpsk2, without message headers, MACs and indices.
//!
//! ```text
//! first   ephemeral 32  sealed static 32 + 16  sealed timestamp 12 + 16      108 bytes
//! second  ephemeral 32  sealed nothing 16                                     48 bytes
//! ```
//!
//! No clock and no randomness: both come from the caller.  Nothing is changed by reading, so any
//! number of forgeries may come before the message that is right.  Secrets that live longer than
//! one call are wiped when they go.  `tailnet.agent.noise.wireguard` is the same in Python.
//!
//! Source: WireGuard paper §5.4; Noise Protocol Framework, revision 34, §9.

mod chain;
mod initiator;
mod kdf;
mod responder;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};

use chain::Chain;
pub use initiator::Initiator;
pub use kdf::Secret;
pub use responder::Responder;

/// Either half of a key pair, or a symmetric key.
pub type Key = [u8; 32];
/// TAI64N.
pub type Timestamp = [u8; 12];

const KEY: usize = 32;
const SEALED_KEY: usize = KEY + 16;
/// Bytes of the first message.
pub const FIRST: usize = KEY + SEALED_KEY + 12 + 16;
/// Bytes of the second message.
pub const SECOND: usize = KEY + 16;

/// Why a message or a key is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Of a wrong size.
    NotFirst,
    /// Of a wrong size.
    NotSecond,
    /// Not by who knows the keys, or not an answer to what was asked.
    Unauthentic,
    /// A point of low order, with which everybody shares the same secret.
    LowOrder,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFirst => "not a handshake initiation",
            Self::NotSecond => "not a handshake response",
            Self::Unauthentic => "handshake does not authenticate",
            Self::LowOrder => "low-order public key",
        })
    }
}

/// The two keys of a session, seen from one side.
#[derive(PartialEq, Eq)]
pub struct Keys {
    /// Of what we seal.
    pub send: Secret,
    /// Of what we open.
    pub receive: Secret,
}

/// Without them: it may be part of a panic's message.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Our static key, and what every handshake with it begins with.
pub struct Own {
    private: StaticSecret,
    public: Key,
    psk: Secret,
    asked: Chain,
}

impl Own {
    /// `psk` is all zero where there is none.
    pub fn new(private: Secret, psk: Secret) -> Arc<Self> {
        let private = StaticSecret::from(*private);
        let public = PublicKey::from(&private).to_bytes();
        Arc::new(Self {
            private,
            public,
            psk,
            asked: Chain::new(&public),
        })
    }

    /// What others call us.
    pub fn public(&self) -> &Key {
        &self.public
    }
}

fn shared(private: &StaticSecret, public: &Key) -> Result<SharedSecret, Refused> {
    let secret = private.diffie_hellman(&PublicKey::from(*public));
    if secret.was_contributory() {
        Ok(secret)
    } else {
        Err(Refused::LowOrder)
    }
}
