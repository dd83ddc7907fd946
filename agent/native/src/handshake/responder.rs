//! Who is asked.

use std::sync::Arc;

use x25519_dalek::{PublicKey, StaticSecret};

use super::chain::Chain;
use super::kdf::Secret;
use super::{FIRST, KEY, Key, Keys, Own, Refused, SEALED_KEY, SECOND, Timestamp, shared};

/// A first message that authenticated.
pub struct Responder {
    own: Arc<Own>,
    ephemeral: StaticSecret,
    chain: Chain,
    theirs: Key,
    remote: Key,
    timestamp: Timestamp,
}

impl Responder {
    /// Open a first message; `ephemeral`: random, never used twice.
    ///
    /// # Errors
    /// It is of a wrong size, or does not authenticate.
    pub fn new(own: &Arc<Own>, first: &[u8], ephemeral: Secret) -> Result<Self, Refused> {
        if first.len() != FIRST {
            return Err(Refused::NotFirst);
        }
        Self::open(own, first, ephemeral).ok_or(Refused::Unauthentic)
    }

    fn open(own: &Arc<Own>, first: &[u8], ephemeral: Secret) -> Option<Self> {
        let (theirs, rest) = first.split_first_chunk::<KEY>()?;
        let (sealed, stamp) = rest.split_first_chunk::<SEALED_KEY>()?;
        let mut chain = own.asked.clone();
        chain.mix_ephemeral(theirs);
        let key = chain.mix_key(shared(&own.private, theirs).ok()?.as_bytes());
        let remote: Key = chain.open(&key, sealed).ok()?.try_into().ok()?;
        let key = chain.mix_key(shared(&own.private, &remote).ok()?.as_bytes());
        let timestamp = chain.open(&key, stamp).ok()?.try_into().ok()?;
        Some(Self {
            own: own.clone(),
            ephemeral: StaticSecret::from(*ephemeral),
            chain,
            theirs: *theirs,
            remote,
            timestamp,
        })
    }

    /// The initiator's static key; whether it is a peer is for the caller to say.
    pub fn remote(&self) -> &Key {
        &self.remote
    }

    /// When it was sent; whether that is new is for the caller to say.
    pub fn timestamp(&self) -> &Timestamp {
        &self.timestamp
    }

    /// The second message and the keys, the same whenever it is asked.
    ///
    /// # Errors
    /// A key of the initiator is a low-order point.
    pub fn answer(&self) -> Result<(Vec<u8>, Keys), Refused> {
        let mut chain = self.chain.clone();
        let public = PublicKey::from(&self.ephemeral).to_bytes();
        chain.mix_ephemeral(&public);
        chain.mix_shared(shared(&self.ephemeral, &self.theirs)?.as_bytes());
        chain.mix_shared(shared(&self.ephemeral, &self.remote)?.as_bytes());
        let key = chain.mix_psk(&self.own.psk);
        let sealed = chain.seal(&key, &[]);
        let mut second = Vec::with_capacity(SECOND);
        second.extend_from_slice(&public);
        second.extend_from_slice(&sealed);
        let [receive, send] = chain.split();
        Ok((second, Keys { send, receive }))
    }
}
