//! What waits to enter the datapath: packets, merged into TCP super-packets where they follow each
//! other.
//!
//! smoltcp makes one segment at a time.  A system call for each would cost more than everything
//! else, so a segment that continues the one before it is appended to it, and the virtio-net header
//! says how the datapath is to cut it again.  Both IP versions; smoltcp's own segmentation offload
//! knows IPv4 only and loses IPv6 packets.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::checksum::{add, fold, pseudo_header};
use super::ingress::VNET;
use super::ip::TCP;

const LARGEST: usize = 64_000; // bytes of one super-packet
const FULL: usize = 1 << 20; // bytes that may wait; beyond that smoltcp keeps its data
const POOL: usize = 32; // buffers kept for the next packets
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Packets on their way out, oldest first.
#[derive(Default)]
pub struct Outbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    pool: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

struct Waiting {
    data: Vec<u8>, // with room for the virtio-net header in front
    tcp: Option<Tcp>,
}

struct Tcp {
    ip: usize,    // bytes of the IP header
    mss: usize,   // bytes of payload in each segment but the last
    next: u32,    // sequence number that would continue it
    open: bool,   // another segment may be appended
    count: usize, // segments
}

impl Outbox {
    /// No room: whoever can keep data should.
    pub fn full(&self) -> bool {
        self.bytes >= FULL
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Let `fill` write an IP packet of `length` bytes, and queue it.
    pub fn push<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.resize(length, 0);
        let result = fill(&mut scratch);
        self.queue(&scratch);
        self.scratch = scratch;
        result
    }

    /// The packet that was queued last.
    pub fn last(&self) -> &[u8] {
        &self.scratch
    }

    fn queue(&mut self, packet: &[u8]) {
        self.bytes += packet.len();
        if self
            .waiting
            .back_mut()
            .is_some_and(|last| last.append(packet))
        {
            return;
        }
        let mut data = self.pool.pop().unwrap_or_default();
        data.clear();
        data.resize(VNET, 0);
        data.extend_from_slice(packet);
        self.waiting.push_back(Waiting {
            tcp: Tcp::of(packet),
            data,
        });
    }

    /// Hand everything to the datapath; false when it takes no more now.
    pub fn flush(&mut self, fd: impl AsFd) -> Result<bool, Errno> {
        while let Some(first) = self.waiting.front_mut() {
            first.finish();
            match send(&fd, &first.data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            }
            self.drop_first();
        }
        Ok(true)
    }

    /// For tests: the packets that wait, finished.
    #[cfg(test)]
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(first) = self.waiting.front_mut() {
            first.finish();
            all.push(first.data.clone());
            self.drop_first();
        }
        all
    }

    fn drop_first(&mut self) {
        let Some(first) = self.waiting.pop_front() else {
            return;
        };
        let headers = first
            .tcp
            .as_ref()
            .map_or(0, |tcp| (tcp.count - 1) * (tcp.ip + 20));
        self.bytes -= first.data.len() - VNET + headers;
        if self.pool.len() < POOL {
            self.pool.push(first.data);
        }
    }
}

impl Tcp {
    fn of(packet: &[u8]) -> Option<Self> {
        let ip = match packet[0] {
            0x45 if packet[9] == TCP => 20,
            byte if byte >> 4 == 6 && packet[6] == TCP => 40,
            _ => return None,
        };
        let header = packet.get(ip..)?;
        let payload = header.len().checked_sub(20)?;
        let plain = header[12] >> 4 == 5 && header[13] == ACK && payload > 0;
        let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let next = sequence.wrapping_add(payload as u32);
        Some(Self {
            ip,
            mss: payload,
            next,
            open: plain,
            count: 1,
        })
    }
}

impl Waiting {
    /// Append a segment that continues this one in the same flow.
    fn append(&mut self, packet: &[u8]) -> bool {
        let Some(tcp) = &mut self.tcp else {
            return false;
        };
        let (ip, headers) = (tcp.ip, tcp.ip + 20);
        let last = &self.data[VNET..];
        if !tcp.open || packet.len() <= headers || last.len() + packet.len() > LARGEST {
            return false;
        }
        let payload = packet.len() - headers;
        let addresses = if ip == 20 { 12..20 } else { 8..40 };
        let (a, b) = (&last[ip..], &packet[ip..]);
        let same = packet[0] == last[0]
            && (if ip == 20 { packet[9] } else { packet[6] }) == TCP
            && packet[addresses.clone()] == last[addresses]
            && b[..4] == a[..4] // ports
            && b[4..8] == tcp.next.to_be_bytes()
            && b[8..13] == a[8..13] // acknowledgement, no options
            && b[13] & !PSH == ACK
            && b[14..16] == a[14..16]; // window
        if !same || payload > tcp.mss {
            return false;
        }
        tcp.next = tcp.next.wrapping_add(payload as u32);
        tcp.open = payload == tcp.mss && b[13] & PSH == 0;
        tcp.count += 1;
        let flags = b[13];
        self.data[VNET + ip + 13] |= flags;
        self.data.extend_from_slice(&packet[headers..]);
        true
    }

    /// Lengths, checksums and the virtio-net header.  Twice changes nothing.
    fn finish(&mut self) {
        let Some(Tcp { ip, mss, count, .. }) = self.tcp else {
            return;
        };
        let (vnet, packet) = self.data.split_at_mut(VNET);
        let total = packet.len();
        let (src, dst) = if ip == 20 {
            packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
            packet[10..12].fill(0);
            let sum = !fold(add(0, &packet[..20]));
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            (address::<4>(packet, 12), address::<4>(packet, 16))
        } else {
            packet[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
            (address::<16>(packet, 8), address::<16>(packet, 24))
        };
        let sum = fold(pseudo_header(src, dst, TCP, total - ip));
        packet[ip + 16..ip + 18].copy_from_slice(&sum.to_be_bytes());
        let gso: u8 = match (count, ip) {
            (1, _) => 0,
            (_, 20) => 1, // VIRTIO_NET_HDR_GSO_TCPV4
            _ => 4,       // VIRTIO_NET_HDR_GSO_TCPV6
        };
        let size = if gso == 0 { 0 } else { mss as u16 };
        vnet[0] = 1; // VIRTIO_NET_HDR_F_NEEDS_CSUM
        vnet[1] = gso;
        vnet[2..4].copy_from_slice(&((ip + 20) as u16).to_ne_bytes());
        vnet[4..6].copy_from_slice(&size.to_ne_bytes());
        vnet[6..8].copy_from_slice(&(ip as u16).to_ne_bytes());
        vnet[8..10].copy_from_slice(&16u16.to_ne_bytes());
    }
}

fn address<const N: usize>(packet: &[u8], at: usize) -> IpAddr
where
    IpAddr: From<[u8; N]>,
{
    let mut octets = [0; N];
    octets.copy_from_slice(&packet[at..at + N]);
    octets.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of one flow.
    fn segment(v6: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = if v6 { vec![0; 40] } else { vec![0; 20] };
        packet[0] = if v6 { 0x60 } else { 0x45 };
        packet[if v6 { 6 } else { 9 }] = TCP;
        packet.extend([0, 80, 4, 210]);
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        packet.extend(payload);
        packet
    }

    fn through(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut outbox = Outbox::default();
        for packet in packets {
            outbox.push(packet.len(), |room| room.copy_from_slice(packet));
        }
        let all = outbox.take();
        assert_eq!(outbox.bytes, 0);
        all
    }

    #[test]
    fn segments_that_follow_each_other_become_one() {
        for v6 in [false, true] {
            let ip = if v6 { 40 } else { 20 };
            let out = through(&[
                segment(v6, 100, ACK, &[1; 50]),
                segment(v6, 150, ACK, &[2; 50]),
                segment(v6, 200, ACK | PSH, &[3; 10]),
            ]);
            assert_eq!(out.len(), 1);
            assert_eq!(out[0].len(), VNET + ip + 20 + 110);
            assert_eq!(out[0][0..2], [1, if v6 { 4 } else { 1 }]);
            assert_eq!(out[0][4..6], 50u16.to_ne_bytes());
            assert_eq!(out[0][VNET + ip + 13], ACK | PSH);
        }
    }

    #[test]
    fn what_does_not_follow_stays_alone() {
        let first = segment(false, 100, ACK, &[1; 50]);
        let mut window = segment(false, 150, ACK, &[1; 50]);
        window[35] = 9;
        for second in [
            segment(false, 151, ACK, &[1; 50]),     // a gap
            segment(false, 150, ACK, &[1; 51]),     // larger than the first
            segment(false, 150, ACK | 1, &[1; 50]), // FIN
            segment(false, 150, ACK, &[]),          // no payload
            segment(true, 150, ACK, &[1; 50]),      // another family
            window,
        ] {
            assert_eq!(through(&[first.clone(), second]).len(), 2);
        }
        let short = segment(false, 100, ACK, &[1; 50]);
        let tail = segment(false, 150, ACK, &[1; 20]);
        let after = segment(false, 170, ACK, &[1; 50]);
        assert_eq!(through(&[short, tail, after]).len(), 2);
    }

    #[test]
    fn a_super_packet_stays_below_64_kilobytes() {
        let mut packets = Vec::new();
        for n in 0..100 {
            packets.push(segment(true, n * 1220, ACK, &[0; 1220]));
        }
        let out = through(&packets);
        assert_eq!(out.len(), 2);
        assert!(out.iter().all(|packet| packet.len() <= LARGEST));
    }

    #[test]
    fn a_full_outbox_says_so() {
        let mut outbox = Outbox::default();
        while !outbox.full() {
            outbox.push(1280, |room| room[0] = 0x45);
        }
        assert!(outbox.bytes < FULL + 1280);
    }
}
