//! Whether a packet is as its sender made it, as far as checksums tell.
//!
//! A checksum that is not there is not wrong: UDP's may be 0 by IPv4, and by IPv6 where the receiver's socket
//! allows it (RFC 6935, RFC 6936), which nobody can know on the way.  A part of a datagram cannot
//! be judged, nor can other protocols.

use crate::datapath::wire::checksum::{holds, pseudo_sum, word_sum};
use crate::datapath::wire::packet::{ICMP4, ICMP6, Parsed, TCP, UDP, u16_at};

const PART: u16 = 0x3FFF; // More-Fragments and the offset
const IPV6_FRAGMENT: u8 = 44;
const IPV6_PART: u16 = 0xFFF9;

/// True if IPv4's header is; IPv6's has no checksum.
pub fn header_holds(packet: &[u8], parsed: &Parsed) -> bool {
    parsed.version == 6 || holds(word_sum(&packet[..parsed.payload]))
}

/// True if the header is, and what TCP, UDP or ICMP carries.
pub fn is_intact(packet: &[u8], parsed: &Parsed) -> bool {
    header_holds(packet, parsed) && (is_part(packet) || transport_holds(packet, parsed))
}

fn is_part(packet: &[u8]) -> bool {
    if packet[0] >> 4 == 4 {
        u16_at(packet, 6) & PART != 0
    } else {
        packet[6] == IPV6_FRAGMENT && packet.len() >= 44 && u16_at(packet, 42) & IPV6_PART != 0
    }
}

fn transport_holds(packet: &[u8], parsed: &Parsed) -> bool {
    let mut body = &packet[parsed.payload.min(parsed.length)..parsed.length];
    match (parsed.version, parsed.proto) {
        (_, TCP) | (6, ICMP6) => {}
        (_, UDP) if u16_at(body, 6) == 0 => return true,
        (_, UDP) => match body.get(..usize::from(u16_at(body, 4))) {
            Some(datagram) if datagram.len() >= 8 => body = datagram,
            _ => return false, // there is less than was summed
        },
        (4, ICMP4) => return holds(word_sum(body)),
        _ => return true,
    }
    holds(pseudo_sum(packet, parsed.proto, body.len()) + word_sum(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::wire::checksum::complement;
    use crate::datapath::wire::packet::parse_untrusted;

    fn judged(packet: &[u8]) -> bool {
        is_intact(packet, &parse_untrusted(packet).expect("IP"))
    }

    /// A packet with right checksums; `at`: where the transport's is, if it has one.
    fn packet(version: u8, proto: u8, body: &[u8], at: Option<usize>) -> Vec<u8> {
        let mut packet = vec![0; if version == 4 { 20 } else { 40 }];
        let ip = packet.len();
        let total = (ip + body.len()) as u16;
        if version == 4 {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            packet[9] = proto;
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
            let sum = complement(word_sum(&packet));
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
            packet[6] = proto;
            packet[8..40].copy_from_slice(&[7; 32]);
        }
        packet.extend_from_slice(body);
        if let Some(at) = at {
            let mut sum = word_sum(&packet[ip..]);
            if proto != ICMP4 {
                sum += pseudo_sum(&packet, proto, body.len());
            }
            packet[ip + at..ip + at + 2].copy_from_slice(&complement(sum).to_be_bytes());
        }
        packet
    }

    fn body(proto: u8, size: usize) -> (Vec<u8>, usize) {
        let mut body: Vec<u8> = (0..size).map(|at| at as u8 ^ 0x5a).collect();
        let at = match proto {
            TCP => 16,
            UDP => {
                body[4..6].copy_from_slice(&(size as u16).to_be_bytes());
                6
            }
            _ => 2,
        };
        body[at..at + 2].fill(0);
        (body, at)
    }

    #[test]
    fn every_flipped_bit_is_found_but_in_ipv6s_other_fields() {
        for (version, proto) in [
            (4, TCP),
            (4, UDP),
            (4, ICMP4),
            (6, TCP),
            (6, UDP),
            (6, ICMP6),
        ] {
            for size in [24, 25, 61] {
                let (body, at) = body(proto, size);
                let sound = packet(version, proto, &body, Some(at));
                assert!(judged(&sound), "{version} {proto} {size}");
                // IPv4: not version and length, which decide what is looked at.  IPv6: the addresses on.
                let from = if version == 4 { 4 } else { 8 };
                for bit in from * 8..sound.len() * 8 {
                    let mut bad = sound.clone();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    assert!(!judged(&bad), "{version} {proto} {size}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn what_has_no_checksum_cannot_be_wrong() {
        for version in [4, 6] {
            let (mut datagram, _) = body(UDP, 30);
            assert!(judged(&packet(version, UDP, &datagram, None)));
            datagram[6] = 1;
            assert!(!judged(&packet(version, UDP, &datagram, None)));
            for proto in [47, 50, 132] {
                assert!(judged(&packet(version, proto, &datagram, None)));
            }
        }
        // Each in the other's packets is none.
        assert!(judged(&packet(4, ICMP6, &[1; 8], None)));
        assert!(judged(&packet(6, ICMP4, &[1; 8], None)));
        // Nor is there any of nothing.
        assert!(!judged(&packet(4, ICMP4, &[0; 8], None)));
    }

    #[test]
    fn a_datagram_may_be_shorter_than_its_packet_but_not_longer() {
        let (datagram, at) = body(UDP, 30);
        let mut sound = packet(4, UDP, &datagram, Some(at));
        sound.extend_from_slice(&[9; 6]);
        sound[2..4].copy_from_slice(&56u16.to_be_bytes());
        sound[10..12].fill(0);
        let sum = complement(word_sum(&sound[..20]));
        sound[10..12].copy_from_slice(&sum.to_be_bytes());
        assert!(judged(&sound));
        for said in [0u16, 7, 37, 0xFFFF] {
            sound[24..26].copy_from_slice(&said.to_be_bytes());
            assert!(!judged(&sound), "{said}");
        }
    }

    #[test]
    fn a_part_of_a_datagram_is_not_judged_but_its_header_is() {
        for part in [0x2000u16, 1, 0x2010, 0x1FFF] {
            let mut one = packet(4, TCP, &[1; 40], None);
            one[6..8].copy_from_slice(&part.to_be_bytes());
            assert!(!judged(&one));
            one[10..12].fill(0);
            let sum = complement(word_sum(&one[..20]));
            one[10..12].copy_from_slice(&sum.to_be_bytes());
            assert!(judged(&one), "{part:x}");
        }
        for (word, part) in [(0u16, false), (6, false), (1, true), (8, true), (9, true)] {
            let mut body = vec![TCP, 0, 0, 0, 0, 0, 0, 1];
            body[2..4].copy_from_slice(&word.to_be_bytes());
            body.extend_from_slice(&[1; 40]);
            let one = packet(6, IPV6_FRAGMENT, &body, None);
            assert_eq!(judged(&one), part, "{word}");
        }
        assert!(judged(&packet(6, IPV6_FRAGMENT, &[TCP, 0, 0], None)));
    }
}
