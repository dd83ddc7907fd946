//! What both sides have agreed on so far: the chaining key, and the hash of all that was said.
//!
//! Source: Noise Protocol Framework, revision 34, §5.2; WireGuard paper §5.4.2 and 5.4.3.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::kdf::{Secret, hash, kdf};
use super::{Key, Refused};

/// Whose hash is the first chaining key.
pub const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// The prologue.
pub const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// One side's view; two that saw the same are equal.
#[derive(Clone)]
pub struct Chain {
    key: Secret,
    hash: [u8; 32],
}

impl Chain {
    /// Nothing is said yet; the responder's static key is known to both.
    pub fn new(responder: &Key) -> Self {
        let construction = hash(&[CONSTRUCTION]);
        let mut chain = Self {
            key: Secret::new(construction),
            hash: hash(&[&construction, IDENTIFIER]),
        };
        chain.mix_hash(responder);
        chain
    }

    fn mix_hash(&mut self, said: &[u8]) {
        self.hash = hash(&[&self.hash, said]);
    }

    /// An ephemeral key, said in the open.
    pub fn mix_ephemeral(&mut self, public: &Key) {
        self.mix_hash(public);
        self.mix_shared(public);
    }

    /// A shared secret after which nothing is sealed.
    pub fn mix_shared(&mut self, secret: &Key) {
        [self.key] = kdf(&self.key, secret);
    }

    /// A shared secret; what is sealed or opened next is so with the key returned.
    pub fn mix_key(&mut self, secret: &Key) -> Secret {
        let [chaining, key] = kdf(&self.key, secret);
        self.key = chaining;
        key
    }

    /// The pre-shared key, all zero if there is none.
    pub fn mix_psk(&mut self, psk: &Key) -> Secret {
        let [chaining, mixed, key] = kdf(&self.key, psk);
        self.key = chaining;
        self.mix_hash(&mixed[..]);
        key
    }

    /// Ciphertext and tag of what is said; `key` is used for this alone.
    pub fn seal(&mut self, key: &Key, said: &[u8]) -> Vec<u8> {
        let mut sealed = said.to_vec();
        cipher(key)
            .seal_in_place_append_tag(nonce(), Aad::from(&self.hash), &mut sealed)
            .expect("a message is far shorter than the limit");
        self.mix_hash(&sealed);
        sealed
    }

    /// What was said.
    ///
    /// # Errors
    /// Another key or another history than the sender's, or it is shorter than a tag.
    pub fn open(&mut self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut said = sealed.to_vec();
        let opened = cipher(key).open_in_place(nonce(), Aad::from(&self.hash), &mut said);
        let len = opened.map_err(|_| Refused::Unauthentic)?.len();
        said.truncate(len);
        self.mix_hash(sealed);
        Ok(said)
    }

    /// At the end: of what the initiator seals, and of what the responder does.
    pub fn split(&self) -> [Secret; 2] {
        kdf(&self.key, &[])
    }
}

fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has 32 bytes"))
}

/// Each key is for one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_the_hashes_that_wireguard_computes_at_its_start() {
        let construction = hash(&[CONSTRUCTION]);
        assert_eq!(
            construction[..8],
            [0x60, 0xe2, 0x6d, 0xae, 0xf3, 0x27, 0xef, 0xc0]
        );
        let identified = hash(&[&construction, IDENTIFIER]);
        assert_eq!(
            identified[..8],
            [0x22, 0x11, 0xb3, 0x61, 0x08, 0x1a, 0xc5, 0x66]
        );
    }

    #[test]
    fn who_saw_the_same_opens_what_the_other_sealed() {
        let (mut ours, mut theirs) = (Chain::new(&[1; 32]), Chain::new(&[1; 32]));
        let (key, other) = (ours.mix_key(&[2; 32]), theirs.mix_key(&[2; 32]));
        let sealed = ours.seal(&key, b"said");
        assert_eq!(theirs.open(&other, &sealed), Ok(b"said".to_vec()));
        assert_eq!((&ours.key, ours.hash), (&theirs.key, theirs.hash));
        assert_eq!(ours.split(), theirs.split());
    }

    #[test]
    fn another_history_or_another_length_opens_nothing_and_changes_nothing() {
        let (mut ours, mut theirs) = (Chain::new(&[1; 32]), Chain::new(&[3; 32]));
        let (key, other) = (ours.mix_key(&[2; 32]), theirs.mix_key(&[2; 32]));
        let sealed = ours.clone().seal(&key, b"said");
        let before = theirs.hash;
        assert_eq!(theirs.open(&other, &sealed), Err(Refused::Unauthentic));
        assert_eq!(theirs.hash, before);
        for len in 0..sealed.len() {
            assert_eq!(ours.open(&key, &sealed[..len]), Err(Refused::Unauthentic));
        }
        assert_eq!(ours.open(&key, &sealed), Ok(b"said".to_vec()));
    }
}
