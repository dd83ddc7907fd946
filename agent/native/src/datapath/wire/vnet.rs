//! The header in front of each packet of a TUN device with `IFF_VNET_HDR`.
//!
//! | offset | size | field (host byte order) |
//! |---|---|---|
//! | 0 | 1 | flags: 1 the transport checksum is only begun, 2 it was checked |
//! | 1 | 1 | gso_type: 0 none, 1 TCPv4, 4 TCPv6, 5 UDP; 0x80 with ECN |
//! | 2 | 2 | hdr_len: a hint, not to be trusted |
//! | 4 | 2 | gso_size: bytes of payload per segment |
//! | 6 | 2 | csum_start: offset of the transport header |
//! | 8 | 2 | csum_offset: of the checksum within it |
//!
//! Source: Linux include/uapi/linux/virtio_net.h.

/// Bytes.
pub const LEN: usize = 10;
/// Flag.
pub const NEEDS_CSUM: u8 = 1;
/// Flag.
pub const DATA_VALID: u8 = 2;
/// gso_type.
pub const GSO_NONE: u8 = 0;
/// gso_type.
pub const GSO_TCP4: u8 = 1;
/// gso_type.
pub const GSO_TCP6: u8 = 4;
/// gso_type.
pub const GSO_UDP: u8 = 5;
/// Bit of gso_type.
pub const GSO_ECN: u8 = 0x80;

/// Offset of TCP's checksum.
pub const TCP_CSUM: usize = 16;
/// Offset of UDP's checksum.
pub const UDP_CSUM: usize = 6;

/// The fields.
#[derive(Clone, Copy, Default)]
pub struct Header {
    /// See the module.
    pub flags: u8,
    /// See the module.
    pub gso_type: u8,
    /// See the module.
    pub hdr_len: u16,
    /// See the module.
    pub gso_size: u16,
    /// See the module.
    pub csum_start: u16,
    /// See the module.
    pub csum_offset: u16,
}

impl Header {
    /// From the first bytes of a read; `None` if there are too few.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = data.first_chunk()?;
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Some(Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// True if the packet's own transport checksum is nothing to look at: it is to be finished, was
    /// found right before, or is made anew for each segment.
    pub fn settles(&self) -> bool {
        self.flags & (NEEDS_CSUM | DATA_VALID) != 0 || self.gso_type & !GSO_ECN != GSO_NONE
    }

    /// As bytes.
    pub fn bytes(self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[0] = self.flags;
        out[1] = self.gso_type;
        for (at, word) in [
            (2, self.hdr_len),
            (4, self.gso_size),
            (6, self.csum_start),
            (8, self.csum_offset),
        ] {
            out[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        out
    }
}
