//! UDP (RFC 768), the sending side.

use std::net::SocketAddr;

use super::checksum::{add, fold, pseudo_header};
use super::ip::UDP;

/// Header and payload; `None` if UDP cannot say how much that is.
pub fn datagram(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len() + 8).ok()?;
    let mut body = Vec::with_capacity(payload.len() + 8);
    body.extend(src.port().to_be_bytes());
    body.extend(dst.port().to_be_bytes());
    body.extend(length.to_be_bytes());
    body.extend([0, 0]);
    body.extend(payload);
    let pseudo = pseudo_header(src.ip(), dst.ip(), UDP, body.len());
    let sum = match !fold(add(pseudo, &body)) {
        0 => 0xffff, // zero means none
        sum => sum,
    };
    body[6..8].copy_from_slice(&sum.to_be_bytes());
    Some(body)
}
