//! What comes from the datapath: a virtio-net header, then one packet or TCP super-packet.
//!
//! ```text
//! 0      1         2        4         6           8            10
//! flags | gso_type | hdr_len | gso_size | csum_start | csum_offset | IP packet …
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum::{add, fold, pseudo_header};

/// Bytes of the virtio-net header (`struct virtio_net_hdr`).
pub const VNET: usize = 10;
/// Protocol numbers (IANA).
pub const TCP: u8 = 6;
/// See [`TCP`].
pub const UDP: u8 = 17;

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
    /// Something else, to this address.
    Other {
        /// Receiver.
        dst: IpAddr,
    },
}

/// Take a read apart: the IP packet and what it is; `None` for what is damaged or a fragment.
pub fn parse(read: &[u8]) -> Option<(&[u8], Packet<'_>)> {
    let (vnet, ip) = read.split_at_checked(VNET)?;
    let checked = vnet[0] & (NEEDS_CSUM | DATA_VALID) != 0;
    let (src, dst, protocol, header, end) = match ip.first()? >> 4 {
        4 => parse_v4(ip)?,
        6 => parse_v6(ip)?,
        _ => return None,
    };
    let ip = &ip[..end];
    let body = &ip[header..];
    let at = |address: IpAddr, offset: usize| {
        SocketAddr::new(
            address,
            u16::from_be_bytes([body[offset], body[offset + 1]]),
        )
    };
    let packet = match protocol {
        TCP => {
            if body.len() < 20 || !(checked || valid(src, dst, TCP, body)) {
                return None;
            }
            let opens = body[13] & (SYN | ACK | RST) == SYN;
            Packet::Tcp {
                src: at(src, 0),
                dst: at(dst, 2),
                opens,
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
        _ => Packet::Other { dst },
    };
    Some((ip, packet))
}

type Header = (IpAddr, IpAddr, u8, usize, usize);

fn parse_v4(ip: &[u8]) -> Option<Header> {
    let header = usize::from(ip[0] & 15) * 4;
    let fixed: &[u8; 20] = ip.first_chunk()?;
    let end = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0;
    if header < 20 || end < header || end > ip.len() || fragment {
        return None;
    }
    let src = Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]);
    let dst = Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]);
    Some((src.into(), dst.into(), fixed[9], header, end))
}

fn parse_v6(ip: &[u8]) -> Option<Header> {
    let fixed: &[u8; 40] = ip.first_chunk()?;
    let end = 40 + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    if end > ip.len() {
        return None;
    }
    let src = Ipv6Addr::from(<[u8; 16]>::try_from(&fixed[8..24]).ok()?);
    let dst = Ipv6Addr::from(<[u8; 16]>::try_from(&fixed[24..40]).ok()?);
    Some((src.into(), dst.into(), fixed[6], 40, end))
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
            let read: Vec<u8> = (0..n % 120)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    match i {
                        10 => [0x45, 0x60, 0x4f][state as usize >> 8 & 1],
                        _ => (state >> 24) as u8,
                    }
                })
                .collect();
            let _ = parse(&read);
        }
    }

    #[test]
    fn fragments_are_refused() {
        let mut read = vec![0; VNET + 40];
        read[VNET] = 0x45;
        read[VNET + 3] = 40;
        read[VNET + 6] = 0x20;
        read[VNET + 9] = 1;
        assert_eq!(parse(&read), None);
        read[VNET + 6] = 0x40;
        assert!(matches!(parse(&read), Some((_, Packet::Other { .. }))));
    }
}
