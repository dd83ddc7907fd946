//! One group of packets of a flow that follow each other, and how it is written.

use std::io::IoSlice;

use crate::datapath::offload::split::begun;
use crate::datapath::wire::checksum::{complement, holds, pseudo_sum, word_sum};
use crate::datapath::wire::packet::{PSH, TCP, u32_at};
use crate::datapath::wire::vnet;

/// Of one group.
pub const MAX_ITEMS: usize = 127;
/// The end of a chain of items.
pub const NO_ITEM: u32 = u32::MAX;
const MAX_HEADER: usize = 40 + 60;

/// Takes packets: one call, one write.
pub trait Writer {
    /// The errno if it was refused.
    ///
    /// # Errors
    /// As writev(2).
    fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<(), i32>;

    /// Packets that were refused.
    fn lost(&mut self, count: usize);
}

/// One packet in the buffer; those of one group are chained.
pub struct Item {
    start: u32,
    length: u32,
    /// The next one.
    pub next: u32,
}

impl Item {
    /// The last of its chain.
    pub fn new(start: usize, length: usize) -> Self {
        Self {
            start: start as u32,
            length: length as u32,
            next: NO_ITEM,
        }
    }
}

/// A group; `header` is 0 for a packet that never joins others.
#[allow(missing_docs)]
pub struct Group {
    pub owner: usize,
    pub start: usize,
    pub length: usize,
    pub plain: usize,
    pub header: usize,
    pub transport: usize,
    pub proto: u8,
    pub payload: usize,
    pub count: usize,
    pub room: usize,
    pub closed: bool,
    pub pushed: bool,
    pub first: u32,
    pub last: u32,
    next_seq: u32,
}

impl Group {
    /// A packet alone.
    pub fn alone(start: usize, length: usize) -> Self {
        Self {
            owner: 0,
            start,
            length,
            plain: 0,
            header: 0,
            transport: 0,
            proto: 0,
            payload: 0,
            count: 1,
            room: 0,
            closed: true,
            pushed: false,
            first: NO_ITEM,
            last: NO_ITEM,
            next_seq: 0,
        }
    }

    /// True if packets may still be added.
    pub fn may_grow(&self) -> bool {
        !self.closed && self.room > 0
    }

    /// Note where the flow goes on after the first packet.
    pub fn begin_sequence(&mut self, packet: &[u8]) {
        if self.proto == TCP {
            self.next_seq = u32_at(packet, self.transport + 4);
            self.advance(self.length);
        }
    }

    /// A packet of `length` bytes was added.
    pub fn advance(&mut self, length: usize) {
        self.next_seq = self.next_seq.wrapping_add((length - self.header) as u32);
    }

    /// True if `packet` is the next one: its headers are the head's but for IPv4's identification,
    /// checksums and the sequence number.  With `last` it may be shorter or have PSH.
    pub fn continues(&self, data: &[u8], packet: &[u8], last: bool) -> bool {
        let (at, header) = (self.transport, self.header);
        let head = &data[self.start..self.start + header];
        if packet.len() <= header || packet.len() > self.length {
            return false;
        }
        let same = |from: usize, to: usize| head[from..to] == packet[from..to];
        let network = if head[0] >> 4 == 4 {
            same(0, 2) && same(6, 10) && same(12, 20)
        } else {
            same(0, 4) && same(6, 40)
        };
        if !network || (!last && packet.len() != self.length) {
            return false;
        }
        if self.proto != TCP {
            return same(at, at + 4);
        }
        let flags = head[at + 13] ^ packet[at + 13];
        same(at, at + 4)
            && same(at + 8, at + 13)
            && same(at + 14, at + 16)
            && same(at + 18, header)
            && u32_at(packet, at + 4) == self.next_seq
            && (flags == 0 || (last && flags == PSH))
    }

    /// True if the checksums of `packet`, which continues it, are right.
    pub fn is_intact(&self, packet: &[u8]) -> bool {
        let (ip, body) = packet.split_at(self.transport);
        (ip[0] >> 4 == 6 || holds(word_sum(ip)))
            && holds(pseudo_sum(ip, self.proto, body.len()) + word_sum(body))
    }

    /// Write it, as one super-packet if it can be.  True if the kernel did not take that.
    pub fn write(
        &self,
        items: &[Item],
        data: &mut [u8],
        vnet_hdr: bool,
        writer: &mut impl Writer,
    ) -> bool {
        if self.count > 1 {
            let mut saved = [0; MAX_HEADER];
            saved[..self.header].copy_from_slice(&data[self.start..self.start + self.header]);
            match self.write_joined(items, data, writer) {
                Ok(()) => return false,
                Err(libc::EINVAL) => {
                    data[self.start..self.start + self.header]
                        .copy_from_slice(&saved[..self.header]);
                }
                Err(_) => {
                    writer.lost(self.count);
                    return false;
                }
            }
        }
        let mut at = self.first;
        while at != NO_ITEM {
            let item = &items[at as usize];
            let (mut start, length) = (item.start as usize, item.length as usize);
            let end = start + length;
            if vnet_hdr {
                start -= vnet::LEN;
                data[start..start + vnet::LEN].fill(0);
            }
            if writer.write(&[IoSlice::new(&data[start..end])]).is_err() {
                writer.lost(1);
            }
            at = item.next;
        }
        self.count > 1
    }

    fn write_joined(
        &self,
        items: &[Item],
        data: &mut [u8],
        writer: &mut impl Writer,
    ) -> Result<(), i32> {
        let mut size = self.header;
        let mut at = self.first;
        while at != NO_ITEM {
            size += items[at as usize].length as usize - self.header;
            at = items[at as usize].next;
        }
        let hint = self.finish_head(&mut data[self.start..self.start + self.header], size);
        let front = self.start - vnet::LEN;
        data[front..self.start].copy_from_slice(&hint.bytes());
        let mut parts = [IoSlice::new(&[]); MAX_ITEMS];
        parts[0] = IoSlice::new(&data[front..self.start + self.length]);
        let mut count = 1;
        let mut at = items[self.first as usize].next;
        while at != NO_ITEM {
            let item = &items[at as usize];
            let start = item.start as usize;
            parts[count] = IoSlice::new(&data[start + self.header..start + item.length as usize]);
            count += 1;
            at = item.next;
        }
        writer.write(&parts[..count])
    }

    /// Make the first packet's headers those of the super-packet of `size` bytes.
    fn finish_head(&self, head: &mut [u8], size: usize) -> vnet::Header {
        let at = self.transport;
        let v4 = head[0] >> 4 == 4;
        if v4 {
            head[2..4].copy_from_slice(&(size as u16).to_be_bytes());
            head[10..12].fill(0);
            let sum = complement(word_sum(&head[..at]));
            head[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            head[4..6].copy_from_slice(&((size - 40) as u16).to_be_bytes());
        }
        // The kernel adds the rest of the sum: it wants the pseudo header's, not complemented.
        let length = size - at;
        let begun = begun(head, self.proto, length).to_be_bytes();
        let (gso_type, offset) = if self.proto == TCP {
            if self.pushed {
                head[at + 13] |= PSH;
            }
            let kind = if v4 { vnet::GSO_TCP4 } else { vnet::GSO_TCP6 };
            (kind, vnet::TCP_CSUM)
        } else {
            head[at + 4..at + 6].copy_from_slice(&(length as u16).to_be_bytes());
            (vnet::GSO_UDP, vnet::UDP_CSUM)
        };
        head[at + offset..at + offset + 2].copy_from_slice(&begun);
        vnet::Header {
            flags: vnet::NEEDS_CSUM,
            gso_type,
            hdr_len: self.header as u16,
            gso_size: self.payload as u16,
            csum_start: at as u16,
            csum_offset: offset as u16,
        }
    }
}
