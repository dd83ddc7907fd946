//! What comes from the datapath: a virtio-net header, then one packet or TCP super-packet.
//!
//! ```text
//! 0      1         2        4         6           8            10
//! flags | gso_type | hdr_len | gso_size | csum_start | csum_offset | IP packet …
//! ```

use std::net::{IpAddr, SocketAddr};

use super::checksum::{add, fold, pseudo_header};
use super::icmp::{self, Message};
use super::ip::{self, Datagram, TCP, UDP};

/// Bytes of the virtio-net header (`struct virtio_net_hdr`).
pub const VNET: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// One packet, as far as the stack needs to know it before smoltcp does.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A TCP segment.  `opens`: it is the first of a connection.
    Tcp {
        /// Sender.
        src: SocketAddr,
        /// Receiver.
        dst: SocketAddr,
        /// SYN without ACK and RST.
        opens: bool,
    },
    /// A UDP datagram.
    Udp {
        /// Sender.
        src: SocketAddr,
        /// Receiver.
        dst: SocketAddr,
        /// Without the header.
        payload: &'a [u8],
    },
    /// An ICMP message.
    Icmp {
        /// Sender.
        src: IpAddr,
        /// Receiver.
        dst: IpAddr,
        /// What it says.
        says: Message,
        /// From its type on.
        message: &'a [u8],
    },
    /// A part of a datagram.
    Fragment(Datagram<'a>),
    /// Something else, to this address.
    Other {
        /// Receiver.
        dst: IpAddr,
    },
}

/// Take a read apart: the IP packet and what it is; `None` for what is damaged, or not from one
/// host to another.
pub fn parse(read: &[u8]) -> Option<(&[u8], Packet<'_>)> {
    let (vnet, packet) = read.split_at_checked(VNET)?;
    let checked = vnet[0] & (NEEDS_CSUM | DATA_VALID) != 0;
    let (packet, datagram) = ip::parse(packet)?;
    if !ip::is_hosts(datagram.src) || !ip::is_hosts(datagram.dst) {
        return None;
    }
    let what = if datagram.part.is_some() {
        Packet::Fragment(datagram)
    } else {
        let Datagram {
            src,
            dst,
            protocol,
            body,
            ..
        } = datagram;
        classify(src, dst, protocol, body, checked)?
    };
    Some((packet, what))
}

/// What a whole datagram's body is; `checked`: its checksum need not be looked at.
pub fn classify(
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    body: &[u8],
    checked: bool,
) -> Option<Packet<'_>> {
    let at = |address: IpAddr, offset: usize| {
        SocketAddr::new(
            address,
            u16::from_be_bytes([body[offset], body[offset + 1]]),
        )
    };
    Some(match protocol {
        TCP => {
            if body.len() < 20 || !(checked || valid(src, dst, TCP, body)) {
                return None;
            }
            Packet::Tcp {
                src: at(src, 0),
                dst: at(dst, 2),
                opens: body[13] & (SYN | ACK | RST) == SYN,
            }
        }
        UDP => {
            let length = usize::from(u16::from_be_bytes([*body.get(4)?, *body.get(5)?]));
            let datagram = body.get(..length).filter(|datagram| datagram.len() >= 8)?;
            let absent = src.is_ipv4() && datagram[6..8] == [0, 0];
            if !(checked || absent || valid(src, dst, UDP, datagram)) {
                return None;
            }
            Packet::Udp {
                src: at(src, 0),
                dst: at(dst, 2),
                payload: &datagram[8..],
            }
        }
        _ if protocol == icmp::protocol(dst) => Packet::Icmp {
            src,
            dst,
            says: icmp::parse(src, dst, body)?,
            message: body,
        },
        _ => Packet::Other { dst },
    })
}

fn valid(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> bool {
    fold(add(pseudo_header(src, dst, protocol, body.len()), body)) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_reads_give_nothing() {
        let mut state = 1u32;
        for n in 0..20_000usize {
            let mut read: Vec<u8> = (0..n % 120)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    match i {
                        10 => [0x45, 0x60, 0x4f][state as usize >> 8 & 1],
                        16 => [6, 17, 44, 58][state as usize >> 8 & 3],
                        19 => [6, 17, 1, 99][state as usize >> 8 & 3],
                        _ => (state >> 24) as u8,
                    }
                })
                .collect();
            let _ = parse(&read);
            if let Some(header) = read.get_mut(VNET..VNET + 20) {
                ip::sum_header(header);
                let _ = parse(&read);
            }
        }
    }

    #[test]
    fn fragments_are_seen_as_such() {
        let mut read = vec![0; VNET + 40];
        read[VNET] = 0x45;
        read[VNET + 3] = 40;
        read[VNET + 6] = 0x20;
        read[VNET + 9] = 99;
        read[VNET + 12] = 10; // from a host
        read[VNET + 16] = 10; // to another
        ip::sum_header(&mut read[VNET..VNET + 20]);
        assert!(matches!(parse(&read), Some((_, Packet::Fragment(_)))));
        read[VNET + 6] = 0x40;
        ip::sum_header(&mut read[VNET..VNET + 20]);
        assert!(matches!(parse(&read), Some((_, Packet::Other { .. }))));
    }
}
