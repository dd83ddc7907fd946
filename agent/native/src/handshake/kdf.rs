//! HMAC over BLAKE2s, and keys made with it.
//!
//! Source: RFC 2104; WireGuard paper §5.4 (KDF); Noise Protocol Framework, revision 34, §4.3 (HKDF).

use blake2::{Blake2s256, Digest};
use zeroize::Zeroizing;

const BLOCK: usize = 64; // bytes that BLAKE2s takes at a time

/// 32 bytes that are wiped when they go.
pub type Secret = Zeroizing<[u8; 32]>;

/// BLAKE2s of all parts in a row.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    finish(&Blake2s256::new(), parts)
}

fn finish(begun: &Blake2s256, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = begun.clone();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// One key, its two blocks already hashed.
struct Hmac {
    inner: Blake2s256,
    outer: Blake2s256,
}

impl Hmac {
    fn new(key: &[u8; 32]) -> Self {
        let padded = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
            Blake2s256::new_with_prefix(&block[..])
        };
        Self {
            inner: padded(0x36),
            outer: padded(0x5c),
        }
    }

    fn of(&self, parts: &[&[u8]]) -> Secret {
        let inner = Zeroizing::new(finish(&self.inner, parts));
        Zeroizing::new(finish(&self.outer, &[&inner[..]]))
    }
}

/// `N` secrets (at most 255) from the chaining key and what is new.
pub fn kdf<const N: usize>(chaining: &[u8; 32], input: &[u8]) -> [Secret; N] {
    let hmac = Hmac::new(&Hmac::new(chaining).of(&[input]));
    let mut last = Secret::default();
    std::array::from_fn(|at| {
        let before = if at == 0 { &[][..] } else { &last[..] };
        last = hmac.of(&[before, &[at as u8 + 1]]);
        last.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::{Hmac, hash, kdf};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hmac_is_what_pythons_hmac_module_says() {
        let key = std::array::from_fn(|at| at as u8);
        assert_eq!(hex(&Hmac::new(&key).of(&[b"mess", b"age"])[..]), HMAC);
    }

    #[test]
    fn derived_keys_are_what_pythons_hmac_module_says_and_fewer_are_a_prefix_of_more() {
        let key = std::array::from_fn(|at| at as u8);
        let three: [_; 3] = kdf(&key, b"input");
        assert_eq!(three.each_ref().map(|secret| hex(&secret[..])), KDF);
        assert_eq!(kdf::<1>(&key, b"input")[..], three[..1]);
        assert_eq!(kdf::<2>(&key, b"input")[..], three[..2]);
    }

    #[test]
    fn parts_are_hashed_as_if_they_were_one() {
        assert_eq!(hash(&[b"a", b"", b"bc"]), hash(&[b"abc"]));
    }

    const HMAC: &str = "db1ebbda189c6ec2d7755c2592537050e44264aa57a3d4f825f451ebcdff4cd3";
    const KDF: [&str; 3] = [
        "87b7f70b24183c6db5dc4f6d9f4c47cdb203321aa2a0bef714896adb3107a040",
        "538a02e1eb2e31b7e4d4b82476d1fe2acf50085d3fb584537279195f5d1f5824",
        "9ad858025593be88de0f9442a589cfe84a88dc19e4753d93684d1c5efc4837f9",
    ];
}
