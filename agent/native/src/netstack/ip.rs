//! The IP headers, read and written; IPv4 with options, IPv6 with at most a fragment header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::{add, fold};

/// Protocol numbers (IANA).
pub const ICMP: u8 = 1;
/// See [`ICMP`].
pub const TCP: u8 = 6;
/// See [`ICMP`].
pub const UDP: u8 = 17;
/// See [`ICMP`].
pub const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;
const HOPS: u8 = 64;

/// What matters of a header, and the rest of the packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// Of `body`.
    pub protocol: u8,
    /// Behind all headers.
    pub body: &'a [u8],
    /// It is a part of a larger one.
    pub part: Option<Part>,
}

/// Which part of a fragmented datagram (RFC 791, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Identification.
    pub id: u32,
    /// Of the body, in the whole one's [bytes].
    pub offset: usize,
    /// Others follow.
    pub more: bool,
}

/// True for an address that one host can have (RFC 1122 §3.2.1.3, RFC 4291 §2.5, §2.7): smoltcp
/// panics where it is given another one.
pub fn is_hosts(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(broadcast || address.is_multicast() || address.is_unspecified())
}

/// Take a packet apart: its bytes without what lies behind, and what they are; `None` if it is
/// not IP, or damaged.
pub fn parse(packet: &[u8]) -> Option<(&[u8], Datagram<'_>)> {
    match packet.first()? >> 4 {
        4 => parse_v4(packet),
        6 => parse_v6(packet),
        _ => None,
    }
}

fn parse_v4(packet: &[u8]) -> Option<(&[u8], Datagram<'_>)> {
    let fixed: &[u8; 20] = packet.first_chunk()?;
    let header = usize::from(fixed[0] & 15) * 4;
    let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let packet = packet.get(..usize::from(word(2)))?;
    let body = packet.get(header..).filter(|_| header >= 20)?;
    if fold(add(0, &packet[..header])) != 0xffff {
        return None;
    }
    let (offset, more) = (usize::from(word(6) & 0x1fff) * 8, word(6) & 0x2000 != 0);
    let datagram = Datagram {
        src: IpAddr::from(Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15])),
        dst: IpAddr::from(Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19])),
        protocol: fixed[9],
        body,
        part: (more || offset > 0).then(|| Part {
            id: u32::from(word(4)),
            offset,
            more,
        }),
    };
    Some((packet, datagram))
}

fn parse_v6(packet: &[u8]) -> Option<(&[u8], Datagram<'_>)> {
    let fixed: &[u8; 40] = packet.first_chunk()?;
    let packet = packet.get(..40 + usize::from(u16::from_be_bytes([fixed[4], fixed[5]])))?;
    let (mut protocol, mut body, mut part) = (fixed[6], &packet[40..], None);
    if protocol == FRAGMENT {
        let (header, rest): (&[u8; 8], _) = body.split_first_chunk()?;
        let word = u16::from_be_bytes([header[2], header[3]]);
        let (offset, more) = (usize::from(word & !7), word & 1 != 0);
        (protocol, body) = (header[0], rest);
        part = (more || offset > 0).then(|| Part {
            id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            offset,
            more,
        });
    }
    let datagram = Datagram {
        src: Ipv6Addr::from(<[u8; 16]>::try_from(&fixed[8..24]).ok()?).into(),
        dst: Ipv6Addr::from(<[u8; 16]>::try_from(&fixed[24..40]).ok()?).into(),
        protocol,
        body,
        part,
    };
    Some((packet, datagram))
}

/// Packets of at most `mtu` bytes that carry `body`, one or several fragments under the number
/// `id`; none if the families differ or it is larger than IP can say.
pub fn packets(
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    body: &[u8],
    mtu: usize,
    id: u32,
) -> Vec<Vec<u8>> {
    let (whole, header) = match (src, dst) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (20, 20),
        (IpAddr::V6(_), IpAddr::V6(_)) => (40, 48),
        _ => return Vec::new(),
    };
    if body.len() > 65_535 - header {
        return Vec::new();
    }
    if whole + body.len() <= mtu {
        return vec![packet(src, dst, protocol, body, None)];
    }
    let room = (mtu - header) / 8 * 8;
    let last = (body.len() - 1) / room;
    body.chunks(room)
        .enumerate()
        .map(|(number, piece)| {
            let part = Part {
                id,
                offset: number * room,
                more: number < last,
            };
            packet(src, dst, protocol, piece, Some(part))
        })
        .collect()
}

/// Put the checksum into an IPv4 header (RFC 791), whatever was there.
pub fn sum_header(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = !fold(add(0, header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn packet(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8], part: Option<Part>) -> Vec<u8> {
    let mut packet = Vec::with_capacity(48 + body.len());
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (id, flags) = part.map_or((0, 0x4000), |part| {
                let more = if part.more { 0x2000 } else { 0 };
                (part.id as u16, (part.offset / 8) as u16 | more)
            });
            packet.extend([0x45, 0]);
            packet.extend((20 + body.len() as u16).to_be_bytes());
            packet.extend(id.to_be_bytes());
            packet.extend(flags.to_be_bytes());
            packet.extend([HOPS, protocol, 0, 0]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            sum_header(&mut packet);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let length = body.len() as u16 + if part.is_some() { 8 } else { 0 };
            let next = if part.is_some() { FRAGMENT } else { protocol };
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([next, HOPS]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            if let Some(part) = part {
                packet.extend([protocol, 0]);
                packet.extend((part.offset as u16 | u16::from(part.more)).to_be_bytes());
                packet.extend(part.id.to_be_bytes());
            }
        }
        _ => {}
    }
    packet.extend(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fragment_fits_and_says_where_it_belongs() {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
            for size in [0, 1, 1232, 1240, 1241, 1260, 1261, 3000, 65_480] {
                let body: Vec<u8> = (0..size).map(|n| n as u8).collect();
                let mut put = vec![0; size];
                let all = packets(src, dst, UDP, &body, 1280, 77);
                for (number, packet) in all.iter().enumerate() {
                    assert!(packet.len() <= 1280);
                    let (_, read) = parse(packet).unwrap();
                    assert_eq!((read.src, read.dst, read.protocol), (src, dst, UDP));
                    let offset = read.part.map_or(0, |part| part.offset);
                    assert_eq!(
                        read.part.is_some_and(|part| part.more),
                        number + 1 < all.len()
                    );
                    assert_eq!(read.part.is_some(), all.len() > 1);
                    put[offset..offset + read.body.len()].copy_from_slice(read.body);
                }
                assert!(put == body, "{size}");
            }
        }
    }

    #[test]
    fn what_ip_cannot_say_is_not_sent() {
        let (four, six) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        assert!(packets(four, six, UDP, b"x", 1280, 1).is_empty());
        assert!(packets(four, four, UDP, &[0; 65_516], 1280, 1).is_empty());
    }
}
