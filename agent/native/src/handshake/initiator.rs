//! Who asks.

use std::sync::Arc;

use x25519_dalek::{PublicKey, StaticSecret};

use super::chain::Chain;
use super::kdf::Secret;
use super::{FIRST, KEY, Key, Keys, Own, Refused, SECOND, Timestamp, shared};

/// One attempt to reach a peer.
pub struct Initiator {
    own: Arc<Own>,
    ephemeral: StaticSecret,
    chain: Chain,
    first: Vec<u8>,
}

impl Initiator {
    /// `ephemeral`: random, never used twice.
    ///
    /// # Errors
    /// The peer's key is a low-order point.
    pub fn new(
        own: &Arc<Own>,
        remote: &Key,
        ephemeral: Secret,
        timestamp: &Timestamp,
    ) -> Result<Self, Refused> {
        let ephemeral = StaticSecret::from(*ephemeral);
        let public = PublicKey::from(&ephemeral).to_bytes();
        let mut chain = Chain::new(remote);
        chain.mix_ephemeral(&public);
        let key = chain.mix_key(shared(&ephemeral, remote)?.as_bytes());
        let sealed = chain.seal(&key, &own.public);
        let key = chain.mix_key(shared(&own.private, remote)?.as_bytes());
        let stamp = chain.seal(&key, timestamp);
        let mut first = Vec::with_capacity(FIRST);
        for part in [&public[..], &sealed, &stamp] {
            first.extend_from_slice(part);
        }
        Ok(Self {
            own: own.clone(),
            ephemeral,
            chain,
            first,
        })
    }

    /// The first message.
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// Keys, if `second` answers the first message; may be tried again if not.
    ///
    /// # Errors
    /// It is of a wrong size, or does not authenticate.
    pub fn finish(&self, second: &[u8]) -> Result<Keys, Refused> {
        let second: &[u8; SECOND] = second.try_into().map_err(|_| Refused::NotSecond)?;
        let Some((theirs, sealed)) = second.split_first_chunk::<KEY>() else {
            return Err(Refused::NotSecond);
        };
        self.finish_with(theirs, sealed)
            .map_err(|_| Refused::Unauthentic)
    }

    fn finish_with(&self, theirs: &Key, sealed: &[u8]) -> Result<Keys, Refused> {
        let mut chain = self.chain.clone();
        chain.mix_ephemeral(theirs);
        chain.mix_shared(shared(&self.ephemeral, theirs)?.as_bytes());
        chain.mix_shared(shared(&self.own.private, theirs)?.as_bytes());
        let key = chain.mix_psk(&self.own.psk);
        chain.open(&key, sealed)?;
        let [send, receive] = chain.split();
        Ok(Keys { send, receive })
    }
}
