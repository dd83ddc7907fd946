//! Who seals and opens: `ring`, or where it is installed and faster Intel's `libipsec-mb`.
//!
//! Either is ChaCha20-Poly1305 (RFC 8439) without additional data, the nonce being a counter
//! (WireGuard paper §5.4.6).  The second one is believed only after it did as `ring` does.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use subtle::ConstantTimeEq;

use crate::sys::ipsec_mb::{Direction, Library, Manager};
use crate::sys::memory::prefetch;

/// Bytes behind a ciphertext.
pub const TAG: usize = 16;

/// Lengths at which both must agree: around the blocks and vectors of the codes for AVX2 and AVX-512.
const TRIED: [usize; 18] = [
    0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 512, 1023, 1024, 1025, 1280, 9000,
];
const ROUNDS: usize = 9; // of which the fastest counts
const MESSAGES: usize = 32; // each
const SIZES: [usize; 2] = [64, 1280];

/// A key, for either.
///
/// Nothing is computed from it: what `ring` calls a key is these bytes in a structure that has room for
/// AES, ten times as long, which a thousand peers would fill the processor's cache with.
pub struct Key([u8; 32]);

impl Key {
    /// Prepare it.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(*key)
    }

    fn ring(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0).expect("the key has 32 bytes");
        LessSafeKey::new(key)
    }

    /// Ask for its memory.
    pub fn prefetch(&self) {
        prefetch(&self.0[0]);
        prefetch(&self.0[31]);
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    bytes
}

/// What one thread ciphers with.
pub struct Cipher(Option<Manager>);

impl Cipher {
    /// Seal all but the last 16 bytes in place; the tag goes there.
    pub fn seal(&mut self, key: &Key, counter: u64, message: &mut [u8]) {
        let (plain, tag) = message.split_at_mut(message.len() - TAG);
        let nonce = nonce(counter);
        if let Some(manager) = &mut self.0
            && let Some(sealed) = manager.run(Direction::Seal, &key.0, &nonce, plain)
        {
            tag.copy_from_slice(&sealed);
            return;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = key
            .ring()
            .seal_in_place_separate_tag(nonce, Aad::empty(), plain)
            .expect("a message is far shorter than the limit");
        tag.copy_from_slice(sealed.as_ref());
    }

    /// Open in place a message that is at least a tag; false if it is forged, and then nothing of
    /// the plaintext is left.
    pub fn open(&mut self, key: &Key, counter: u64, message: &mut [u8]) -> bool {
        let (sealed, tag) = message.split_at_mut(message.len() - TAG);
        let nonce = nonce(counter);
        if let Some(manager) = &mut self.0
            && let Some(found) = manager.run(Direction::Open, &key.0, &nonce, sealed)
        {
            let sound = bool::from(found[..].ct_eq(tag));
            if !sound {
                sealed.fill(0);
            }
            return sound;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = key.ring().open_in_place(nonce, Aad::empty(), message);
        opened.is_ok()
    }
}

/// Whom to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The faster one.
    Auto,
    /// `ring`.
    Ring,
    /// `libipsec-mb`.
    IpsecMb,
}

/// Makes ciphers; the default one is `ring`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Suite(Option<&'static Library>);

impl Suite {
    /// Choose one; what is looked for and measured is so once in a process.
    ///
    /// # Errors
    /// Why the one wanted cannot be had.
    pub fn choose(wanted: Wanted) -> Result<Self, String> {
        static FASTER: OnceLock<bool> = OnceLock::new();
        match wanted {
            Wanted::Ring => Ok(Self(None)),
            Wanted::IpsecMb => Ok(Self(Some(proven()?))),
            Wanted::Auto if wide() => {
                let other = Self(proven().ok());
                let faster = || other.time() < Self(None).time();
                Ok(if other.0.is_some() && *FASTER.get_or_init(faster) {
                    other
                } else {
                    Self(None)
                })
            }
            Wanted::Auto => Ok(Self(None)),
        }
    }

    /// One for a thread.
    pub fn cipher(self) -> Cipher {
        Cipher(self.0.and_then(Manager::new))
    }

    /// Its name, with the version of what is not built in.
    pub fn name(self) -> String {
        self.0.map_or("ring".to_owned(), |library| {
            format!("ipsec-mb {}", library.version())
        })
    }

    fn time(self) -> Duration {
        let (mut cipher, key) = (self.cipher(), Key::new(&[7; 32]));
        let mut message = vec![0; SIZES[1] + TAG];
        let mut round = |size| {
            let begun = Instant::now();
            for counter in 0..MESSAGES {
                cipher.seal(&key, counter as u64, &mut message[..size + TAG]);
            }
            begun.elapsed()
        };
        let fastest = |size| (0..ROUNDS).map(|_| round(size)).min().unwrap_or_default();
        SIZES.map(fastest).into_iter().sum()
    }
}

/// True where the processor computes with 512 bits at a time: elsewhere `ring` is as good.
fn wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma");
    #[cfg(not(target_arch = "x86_64"))]
    let wide = false;
    wide
}

/// The library, if it ciphers as `ring` does.
fn proven() -> Result<&'static Library, String> {
    static PROVEN: OnceLock<Result<Library, String>> = OnceLock::new();
    PROVEN
        .get_or_init(|| {
            let library = Library::open()?;
            let manager = Manager::new(&library).ok_or("libipsec-mb does not start")?;
            if agrees(&mut Cipher(Some(manager))) {
                Ok(library)
            } else {
                let version = library.version();
                Err(format!(
                    "libipsec-mb {version} does not cipher as it should"
                ))
            }
        })
        .as_ref()
        .map_err(Clone::clone)
}

fn agrees(other: &mut Cipher) -> bool {
    TRIED.iter().enumerate().all(|(index, &size)| {
        let key = Key::new(&[index as u8 + 1; 32]);
        let counter = (index as u64) << 33 | 5;
        let plain: Vec<u8> = (0..size + TAG).map(|at| (at * 31 + index) as u8).collect();
        let (mut expected, mut sealed) = (plain.clone(), plain.clone());
        Cipher(None).seal(&key, counter, &mut expected);
        other.seal(&key, counter, &mut sealed);
        let mut forged = sealed.clone();
        forged[size] ^= 1;
        sealed == expected
            && !other.open(&key, counter, &mut forged)
            && forged[..size].iter().all(|&byte| byte == 0)
            && other.open(&key, counter, &mut sealed)
            && sealed[..size] == plain[..size]
    })
}

#[cfg(test)]
mod tests {
    use super::{Cipher, Key, Suite, TAG, Wanted, agrees};

    fn each(mut body: impl FnMut(&mut Cipher)) {
        body(&mut Cipher(None));
        if let Ok(suite) = Suite::choose(Wanted::IpsecMb) {
            body(&mut suite.cipher());
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex"))
            .collect()
    }

    #[test]
    fn a_vector_of_another_implementation_holds() {
        let sealed = hex(VECTOR);
        each(|cipher| {
            let key = Key::new(&std::array::from_fn(|at| 0x80 + at as u8));
            let plain: Vec<u8> = (0..=99).collect();
            let mut message = plain.clone();
            message.resize(100 + TAG, 0);
            cipher.seal(&key, 0x0706_0504_0302_0100, &mut message);
            assert_eq!(message, sealed);
            assert!(cipher.open(&key, 0x0706_0504_0302_0100, &mut message));
            assert_eq!(message[..100], plain);
        });
    }

    #[test]
    fn both_agree_and_forgeries_leave_nothing() {
        each(|cipher| assert!(agrees(cipher)));
    }

    #[test]
    fn every_flipped_bit_of_a_message_is_found() {
        each(|cipher| {
            let key = Key::new(&[9; 32]);
            let mut sealed = vec![0x5a; 40 + TAG];
            cipher.seal(&key, 1, &mut sealed);
            for bit in 0..sealed.len() * 8 {
                let mut message = sealed.clone();
                message[bit / 8] ^= 1 << (bit % 8);
                assert!(!cipher.open(&key, 1, &mut message), "bit {bit}");
                assert!(message[..40].iter().all(|&byte| byte == 0), "bit {bit}");
            }
            assert!(!cipher.open(&key, 2, &mut sealed.clone()));
            assert!(cipher.open(&key, 1, &mut sealed));
        });
    }

    #[test]
    fn a_key_is_no_larger_than_its_bytes() {
        assert_eq!(size_of::<Key>(), 32);
    }

    #[test]
    fn what_is_chosen_says_its_name() {
        assert_eq!(Suite::default().name(), "ring");
        let chosen = Suite::choose(Wanted::Auto).expect("ring is always there");
        let name = chosen.name();
        assert!(name == "ring" || name.starts_with("ipsec-mb "), "{name}");
        if let Ok(other) = Suite::choose(Wanted::IpsecMb) {
            assert!(other.name().starts_with("ipsec-mb "));
        }
    }

    /// `cryptography` (OpenSSL) for the key, nonce and text of the test above.
    const VECTOR: &str = "\
        082309f2a10672547fe22e52bed826636b0c260a1fb08e53bd676af4fb424dc90cacbc37 \
        ba60214c91b11a972b28181e05a0eeaea745b93a4b8d37bc2193be0744976333940548b0 \
        8e2b7a9d712b8b23a1cf4236724274f2dc7f5ad5ce9e41b6ce4d86b97a0ff73b75927736 \
        ea936210616ef8aa";
}
