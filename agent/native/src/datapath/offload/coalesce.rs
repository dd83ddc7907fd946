//! Packets of one batch, joined into the super-packets a TUN device takes.
//!
//! Source: wireguard-go tun/offload_linux.go (tcpGRO, udpGRO); Linux net/ipv4/tcp_offload.c
//! tcp_gro_receive.  Like the kernel, and unlike wireguard-go, a group also needs one window.

use std::hash::BuildHasher;

use crate::datapath::filter::flows::Flow;
use crate::datapath::offload::group::{Group, Item, MAX_ITEMS, Writer};
use crate::datapath::tun::Joined;
use crate::datapath::wire::packet::{ACK, PSH, Parsed, TCP, UDP, u16_at};
use crate::hash::Seeded;

const MAX_IP: usize = 0xFFFF; // bytes of one super-packet
const OPEN: usize = 256; // groups that may grow at one time; a power of two
const DONT_FRAGMENT: u16 = 0x4000;

/// A group that may grow, while `batch` lasts.
#[derive(Clone, Copy)]
struct Open {
    flow: Flow,
    group: u32,
    batch: u32,
}

/// Collects a batch in order of arrival; order inside a flow is kept.
///
/// Packets lie in one buffer, each with room for a virtio-net header in front.
pub struct Coalescer {
    vnet: bool,
    tcp: bool,
    udp: bool,
    groups: Vec<Group>,
    items: Vec<Item>,
    // By hash of the flow.  A collision closes the older group, which keeps the order.
    open: Vec<Option<Open>>,
    batch: u32,
    last: Option<u32>,
    hash: Seeded,
}

impl Coalescer {
    /// For a device with or without headers and super-packets.
    pub fn new(vnet_hdr: bool, joined: Joined) -> Self {
        Self {
            vnet: vnet_hdr,
            tcp: vnet_hdr && joined.tcp,
            udp: vnet_hdr && joined.udp,
            groups: Vec::new(),
            items: Vec::new(),
            open: vec![None; OPEN],
            batch: 0,
            last: None,
            hash: Seeded::default(),
        }
    }

    /// The short way: a full-size packet that continues the flow of the one before.
    ///
    /// `data[start..start + plain]` is a decrypted packet, padding included, of the peer `owner`.
    /// Everything that was decided about the packet before (source, filter) holds for this one:
    /// their headers are equal.  What is joined gets new checksums from the kernel, so that its own
    /// must be right.  Returns its bytes of IP if it was taken.
    pub fn extend(
        &mut self,
        owner: usize,
        data: &[u8],
        start: usize,
        plain: usize,
    ) -> Option<usize> {
        let index = self.last?;
        let group = &self.groups[index as usize];
        if group.plain != plain || group.owner != owner || !group.may_grow() {
            return None;
        }
        let length = group.length;
        let packet = &data[start..start + length];
        if !group.continues(data, packet, false) || !group.is_intact(packet) {
            return None;
        }
        self.append(index, start, length);
        Some(length)
    }

    /// The long way, for a packet that was judged, its checksums too, and accepted.
    pub fn add(&mut self, owner: usize, parsed: &Parsed, data: &[u8], start: usize, plain: usize) {
        self.last = None;
        let length = parsed.length;
        let packet = &data[start..start + length];
        let flow = Flow::of(parsed);
        let slot = self.hash.hash_one(flow) as usize % OPEN;
        let header = self.header_of(parsed, packet);
        if header == 0 {
            self.open[slot] = None; // what follows must not overtake this one
            self.begin(Group::alone(start, length), start, length);
            return;
        }
        if let Some(open) = self.open[slot]
            && open.batch == self.batch
            && open.flow == flow
        {
            let index = open.group;
            let group = &self.groups[index as usize];
            let full = group.plain == plain && group.continues(data, packet, false);
            let ends = group.continues(data, packet, true);
            if group.owner == owner && group.may_grow() && (full || ends) {
                self.append(index, start, length);
                if full {
                    self.last = Some(index);
                } else {
                    let group = &mut self.groups[index as usize];
                    group.closed = true;
                    group.pushed = parsed.proto == TCP && parsed.flags & PSH != 0;
                    self.open[slot] = None;
                }
                return;
            }
        }
        let mut group = Group::alone(start, length);
        group.owner = owner;
        group.plain = plain;
        group.header = header;
        group.transport = parsed.payload;
        group.proto = parsed.proto;
        group.payload = length - header;
        group.room = MAX_ITEMS.min((MAX_IP - header) / group.payload) - 1;
        group.pushed = parsed.proto == TCP && parsed.flags & PSH != 0;
        group.closed = group.pushed;
        group.begin_sequence(packet);
        let index = self.begin(group, start, length);
        self.open[slot] = Some(Open {
            flow,
            group: index,
            batch: self.batch,
        });
        self.last = Some(index);
    }

    /// Bytes of headers of a packet that may join others; 0 if it may not.
    fn header_of(&self, parsed: &Parsed, packet: &[u8]) -> usize {
        let at = parsed.payload;
        let header = match parsed.proto {
            TCP if self.tcp && parsed.flags & !PSH == ACK => {
                let offset = usize::from(packet[at + 12] >> 4) * 4;
                if offset < 20 {
                    return 0;
                }
                at + offset
            }
            UDP if self.udp => {
                let unsummed = u16_at(packet, at + 6) == 0;
                if unsummed || usize::from(u16_at(packet, at + 4)) != packet.len() - at {
                    return 0;
                }
                at + 8
            }
            _ => return 0,
        };
        let simple = if parsed.version == 4 {
            at == 20 && u16_at(packet, 6) & !DONT_FRAGMENT == 0
        } else {
            at == 40
        };
        if simple && header < packet.len() {
            header
        } else {
            0
        }
    }

    fn begin(&mut self, mut group: Group, start: usize, length: usize) -> u32 {
        group.first = self.items.len() as u32;
        group.last = group.first;
        self.items.push(Item::new(start, length));
        self.groups.push(group);
        (self.groups.len() - 1) as u32
    }

    fn append(&mut self, index: u32, start: usize, length: usize) {
        let group = &mut self.groups[index as usize];
        let item = self.items.len() as u32;
        self.items[group.last as usize].next = item;
        group.last = item;
        group.count += 1;
        group.room -= 1;
        group.advance(length);
        self.items.push(Item::new(start, length));
    }

    /// Hand everything collected to `writer`; the batch is over.
    pub fn take(&mut self, data: &mut [u8], writer: &mut impl Writer) {
        for group in &self.groups {
            if group.write(&self.items, data, self.vnet, writer) {
                // This kernel does not take what it should (Linux commit e269d79, later mended).
                self.tcp = false;
                self.udp = false;
            }
        }
        self.batch = self.batch.wrapping_add(1);
        self.groups.clear();
        self.items.clear();
        self.last = None;
    }
}
