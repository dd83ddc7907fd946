//! Another address in a packet, with checksums that hold as they did (RFC 1624 §3).

use crate::datapath::wire::checksum::{complement, word_sum};
use crate::datapath::wire::packet::{ICMP6, Parsed, TCP, UDP, u16_at};

const IPV4_CHECKSUM: usize = 10;
const SOURCE: [usize; 2] = [12, 8]; // IPv4, IPv6
const DESTINATION: [usize; 2] = [16, 24];

/// Which address of a packet.
#[derive(Clone, Copy)]
pub enum End {
    /// Who sent it.
    Source,
    /// Whom it is for.
    Destination,
}

/// Set one address; an IPv4 address is the low 32 bits.  `packet` is what `parsed` says.
pub fn readdress(packet: &mut [u8], parsed: &Parsed, end: End, to: u128) {
    let offsets = match end {
        End::Source => SOURCE,
        End::Destination => DESTINATION,
    };
    let to = to.to_be_bytes();
    let (at, to) = if parsed.version == 4 {
        (offsets[0], &to[12..])
    } else {
        (offsets[1], &to[..])
    };
    let place = &mut packet[at..at + to.len()];
    let change = u64::from(!(word_sum(place) as u16)) + word_sum(to);
    place.copy_from_slice(to);
    if parsed.version == 4 {
        adjust(packet, IPV4_CHECKSUM, change);
    }
    let field = match (parsed.version, parsed.proto) {
        (_, TCP) => 16,
        (_, UDP) if u16_at(packet, parsed.payload + 6) == 0 => return, // there is none
        (_, UDP) => 6,
        (6, ICMP6) => 2,
        _ => return, // the addresses are in no other sum
    };
    let at = parsed.payload + field;
    adjust(packet, at, change);
    if parsed.proto == UDP && u16_at(packet, at) == 0 {
        packet[at..at + 2].fill(0xFF); // the same number, which does not mean "none"
    }
}

fn adjust(packet: &mut [u8], at: usize, change: u64) {
    let sum = complement(u64::from(!u16_at(packet, at)) + change);
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
