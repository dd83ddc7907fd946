//! What a datagram without a known session is.
//!
//! Source: tailscale wgengine/magicsock/magicsock.go, packetLooksLike.

use crate::datapath::crypto::mac1::Mac1;

const STUN_COOKIE: &[u8] = b"\x21\x12\xa4\x42";
const DISCO_MAGIC: &[u8] = b"TS\xf0\x9f\x92\xac";
const DISCO_MIN: usize = 62;

/// For which part of the slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A binding response, it seems.
    Stun,
    /// Disco, it seems.
    Disco,
    /// A WireGuard handshake message, and if that can be told: one for us.
    Handshake,
    /// A transport message of a session we do not have.
    Transport,
    /// Nothing we know.
    Unknown,
}

/// Look at a datagram.
pub fn classify_untrusted(data: &[u8], mac1: Option<&Mac1>) -> Class {
    if data.len() < 4 {
        return Class::Unknown;
    }
    if data.len() >= 20 && data[0] >> 6 == 0 && data[1] == 1 && &data[4..8] == STUN_COOKIE {
        return Class::Stun;
    }
    if data.len() >= DISCO_MIN && data.starts_with(DISCO_MAGIC) {
        return Class::Disco;
    }
    match (&data[..4], data.len()) {
        ([1, 0, 0, 0], 148) | ([2, 0, 0, 0], 92) => match mac1 {
            Some(mac1) if !mac1.holds(data) => Class::Unknown,
            _ => Class::Handshake,
        },
        ([3, 0, 0, 0], 64) => Class::Handshake,
        ([4, 0, 0, 0], 32..) => Class::Transport,
        _ => Class::Unknown,
    }
}
