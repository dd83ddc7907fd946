//! Super-packets of the TUN device, cut into packets fit for the wire.
//!
//! Source: Linux net/ipv4/tcp_offload.c tcp_gso_segment, net/ipv4/udp_offload.c; RFC 3168 §6.1.2
//! (CWR on the first segment only).

use crate::datapath::wire::checksum::{complement, copy_sum, fold, pseudo_sum, word_sum};
use crate::datapath::wire::packet::{CWR, FIN, PSH, TCP, UDP, u16_at, u32_at};
use crate::datapath::wire::vnet;

/// Of one read; the kernel's smallest MSS makes fewer.
pub const MAX_SEGMENTS: usize = 2048;

/// Packets of one read.  `packet` is the IP packet as read, without the virtio-net header.
pub enum Cut<'a> {
    /// As it is.
    Whole(&'a [u8]),
    /// In segments.
    Super(Segments<'a>),
}

impl Cut<'_> {
    /// How many packets.
    pub fn count(&self) -> usize {
        match self {
            Self::Whole(_) => 1,
            Self::Super(segments) => segments.count(),
        }
    }

    /// Bytes of packet `index`.
    pub fn len(&self, index: usize) -> usize {
        match self {
            Self::Whole(packet) => packet.len(),
            Self::Super(segments) => segments.header + segments.part(index).len(),
        }
    }

    /// Write packet `index` to `out`, which has its length.
    pub fn write(&self, index: usize, out: &mut [u8]) {
        match self {
            Self::Whole(packet) => out.copy_from_slice(packet),
            Self::Super(segments) => segments.write(index, out),
        }
    }
}

/// Look at a read; `packet` is what follows `hint`.  `None`: the headers do not fit the packet.
pub fn split<'a>(hint: &vnet::Header, packet: &'a mut [u8]) -> Option<Cut<'a>> {
    let kind = hint.gso_type & !vnet::GSO_ECN;
    let transport = usize::from(hint.csum_start);
    if kind == vnet::GSO_NONE {
        if hint.flags & vnet::NEEDS_CSUM != 0 {
            finish_checksum(packet, transport, usize::from(hint.csum_offset))?;
        }
        return Some(Cut::Whole(packet));
    }
    let size = usize::from(hint.gso_size);
    let version = packet.first()? >> 4;
    let ip = match version {
        4 => usize::from(packet[0] & 0x0F) * 4,
        6 => 40,
        _ => return None,
    };
    if transport < ip || ip < 20 || size == 0 {
        return None;
    }
    let (proto, payload) = match kind {
        vnet::GSO_UDP => (UDP, transport + 8),
        vnet::GSO_TCP4 | vnet::GSO_TCP6 if (kind == vnet::GSO_TCP4) == (version == 4) => {
            let offset = usize::from(packet.get(transport + 12)? >> 4) * 4;
            if offset < 20 {
                return None;
            }
            (TCP, transport + offset)
        }
        _ => return None,
    };
    if payload >= packet.len() || packet.len() - payload > size * MAX_SEGMENTS {
        return None;
    }
    let (head, data) = packet.split_at(payload);
    Some(Cut::Super(Segments::new(
        proto, transport, head, data, size,
    )))
}

/// The field holds the pseudo-header sum: add the rest, store the complement.
fn finish_checksum(packet: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let at = start + offset;
    if at + 2 > packet.len() {
        return None;
    }
    let mut total = complement(word_sum(&packet[start..]));
    if total == 0 && offset == vnet::UDP_CSUM {
        total = 0xFFFF; // UDP's 0 means "no checksum"; this is the same number
    }
    packet[at..at + 2].copy_from_slice(&total.to_be_bytes());
    Some(())
}

/// Segments of one TCP or UDP super-packet.
pub struct Segments<'a> {
    proto: u8,
    transport: usize,
    /// Bytes of IP and transport header.
    header: usize,
    head: &'a [u8],
    data: &'a [u8],
    size: usize,
    // Sums of everything that is the same in all segments.
    ip_sum: u64,
    transport_sum: u64,
}

impl<'a> Segments<'a> {
    fn new(proto: u8, transport: usize, head: &'a [u8], data: &'a [u8], size: usize) -> Self {
        let v4 = head[0] >> 4 == 4;
        let (ip, tail) = head.split_at(transport);
        let ip_sum = if v4 {
            word_sum(&ip[..2]) + word_sum(&ip[6..10]) + word_sum(&ip[12..])
        } else {
            0
        };
        let fixed = if proto == TCP {
            // Without sequence number, flags and checksum.
            let offset = u64::from(tail[12]) << 8;
            word_sum(&tail[..4])
                + word_sum(&tail[8..12])
                + offset
                + word_sum(&tail[14..16])
                + word_sum(&tail[18..])
        } else {
            word_sum(&tail[..4])
        };
        Self {
            proto,
            transport,
            header: head.len(),
            head,
            data,
            size,
            ip_sum,
            transport_sum: fixed + pseudo_sum(head, proto, 0),
        }
    }

    fn count(&self) -> usize {
        self.data.len().div_ceil(self.size)
    }

    fn part(&self, index: usize) -> &'a [u8] {
        let start = index * self.size;
        &self.data[start..(start + self.size).min(self.data.len())]
    }

    fn write(&self, index: usize, out: &mut [u8]) {
        let part = self.part(index);
        let (head, body) = out.split_at_mut(self.header);
        head.copy_from_slice(self.head);
        let payload = copy_sum(body, part);
        let length = self.header - self.transport + part.len();
        let (ip, tail) = head.split_at_mut(self.transport);
        if ip[0] >> 4 == 4 {
            let total = (self.transport + length) as u16;
            let ident = u16_at(ip, 4).wrapping_add(index as u16);
            let sum = complement(self.ip_sum + u64::from(total) + u64::from(ident));
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            ip[4..6].copy_from_slice(&ident.to_be_bytes());
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            let behind = (self.transport - 40 + length) as u16;
            ip[4..6].copy_from_slice(&behind.to_be_bytes());
        }
        let fixed = self.transport_sum + length as u64 + payload;
        if self.proto == TCP {
            let seq = u32_at(tail, 4).wrapping_add((index * self.size) as u32);
            let mut flags = tail[13];
            if index > 0 {
                flags &= !CWR;
            }
            if index + 1 < self.count() {
                flags &= !(FIN | PSH);
            }
            tail[4..8].copy_from_slice(&seq.to_be_bytes());
            tail[13] = flags;
            let sum = complement(fixed + u64::from(seq) + u64::from(flags));
            tail[16..18].copy_from_slice(&sum.to_be_bytes());
        } else {
            // The length counts twice: in the pseudo header and in the header.
            tail[4..6].copy_from_slice(&(length as u16).to_be_bytes());
            let sum = complement(fixed + length as u64);
            let sum = if sum == 0 { 0xFFFF } else { sum };
            tail[6..8].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// The pseudo-header sum as the kernel wants it in a packet it is to finish.
pub fn begun(ip: &[u8], proto: u8, length: usize) -> u16 {
    match fold(pseudo_sum(ip, proto, length)) {
        0xFFFF => 0,
        sum => sum,
    }
}
