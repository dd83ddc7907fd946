//! Our own address as one peer knows it, where that is another one.
//!
//! Source: tailscale net/tstun/wrap.go, peerConfigTable; control's SelfNodeV4MasqAddrForThisPeer.

use crate::datapath::tables::prefixes::Prefix;
use crate::datapath::wire::packet::{Parsed, parse_untrusted};
use crate::datapath::wire::readdress::{End, readdress};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    version: u8,
    own: u128,
    known: u128,
}

/// Pairs of addresses, one of each family at most; empty for nearly all peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masquerade(Vec<Pair>);

impl Masquerade {
    /// Of single addresses, in turn one of ours and what the peer calls it; `None` if they do not fit.
    pub fn new(addresses: &[Prefix]) -> Option<Self> {
        let (pairs, rest) = addresses.as_chunks::<2>();
        let fits = rest.is_empty()
            && pairs
                .iter()
                .all(|[own, known]| own.version == known.version);
        let pair = |[own, known]: &[Prefix; 2]| Pair {
            version: own.version,
            own: own.address,
            known: known.address,
        };
        fits.then(|| Self(pairs.iter().map(pair).collect()))
    }

    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A packet to the peer: ours becomes what it knows.
    pub fn leaving(&self, packet: &mut [u8]) {
        let Some(parsed) = parse_untrusted(packet) else {
            return;
        };
        let is = |pair: &&Pair| pair.version == parsed.version && pair.own == parsed.src;
        if let Some(pair) = self.0.iter().find(is) {
            readdress(packet, &parsed, End::Source, pair.known);
        }
    }

    /// A packet of the peer: what it knows becomes ours.
    pub fn entering(&self, packet: &mut [u8], parsed: &mut Parsed) {
        let is = |pair: &&Pair| pair.version == parsed.version && pair.known == parsed.dst;
        if let Some(pair) = self.0.iter().find(is) {
            readdress(packet, parsed, End::Destination, pair.own);
            parsed.dst = pair.own;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::wire::checksum::{complement, pseudo_sum, word_sum};
    use crate::datapath::wire::intact::is_intact;
    use crate::datapath::wire::packet::{ICMP6, TCP, UDP};

    fn address(version: u8, last: u128) -> Prefix {
        let (bits, first) = if version == 4 {
            (32, 0x6440_0000)
        } else {
            (128, 0xfd7a << 112)
        };
        Prefix {
            version,
            bits,
            address: first + last,
        }
    }

    /// From address 1 to address 2, sound.
    fn packet(version: u8, proto: u8, seed: u8) -> Vec<u8> {
        let body: Vec<u8> = (0..31u8).map(|at| at.wrapping_mul(seed) ^ seed).collect();
        let mut packet = vec![0; if version == 4 { 20 } else { 40 }];
        let ip = packet.len();
        let [src, dst] = [1, 2].map(|last| address(version, last).address.to_be_bytes());
        if version == 4 {
            packet[0] = 0x45;
            packet[3] = 51;
            packet[9] = proto;
            packet[12..16].copy_from_slice(&src[12..]);
            packet[16..20].copy_from_slice(&dst[12..]);
            let sum = complement(word_sum(&packet));
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            packet[0] = 0x60;
            packet[5] = 31;
            packet[6] = proto;
            packet[8..24].copy_from_slice(&src);
            packet[24..40].copy_from_slice(&dst);
        }
        packet.extend(body);
        let at = ip
            + match proto {
                TCP => 16,
                UDP => 6,
                _ => 2,
            };
        if proto == UDP {
            packet[ip + 4..ip + 6].copy_from_slice(&[0, 31]);
        }
        packet[at..at + 2].fill(0);
        let sum = pseudo_sum(&packet, proto, 31) + word_sum(&packet[ip..]);
        packet[at..at + 2].copy_from_slice(&complement(sum).to_be_bytes());
        packet
    }

    #[test]
    fn what_leaves_and_comes_back_is_sound_and_as_it_was() {
        for (version, proto) in [(4, TCP), (4, UDP), (6, TCP), (6, UDP), (6, ICMP6)] {
            for seed in 1..=255 {
                for known in [3, 0xFFFF, 0x1234] {
                    let sent = packet(version, proto, seed);
                    let to_peer = Masquerade::new(&[address(version, 1), address(version, known)]);
                    let mut there = sent.clone();
                    to_peer.expect("a pair").leaving(&mut there);
                    let mut parsed = parse_untrusted(&there).expect("IP");
                    assert_eq!(parsed.src, address(version, known).address);
                    assert!(is_intact(&there, &parsed), "{version} {proto} {seed}");
                    // As if the peer called itself by it: its own address, which is address 2 here.
                    let of_peer = Masquerade::new(&[address(version, known), address(version, 2)]);
                    let mut here = there.clone();
                    of_peer.expect("a pair").entering(&mut here, &mut parsed);
                    assert_eq!(parsed, parse_untrusted(&here).expect("IP"));
                    assert_eq!(parsed.dst, address(version, known).address);
                    assert!(is_intact(&here, &parsed), "{version} {proto} {seed}");
                }
            }
        }
    }

    #[test]
    fn other_addresses_stay_and_what_does_not_fit_is_refused() {
        let ours = Masquerade::new(&[address(4, 7), address(4, 8)]).expect("a pair");
        let sent = packet(4, UDP, 3);
        let mut same = sent.clone();
        ours.leaving(&mut same);
        let mut parsed = parse_untrusted(&same).expect("IP");
        ours.entering(&mut same, &mut parsed);
        assert_eq!(same, sent);
        ours.leaving(&mut [0; 3]);
        assert!(Masquerade::new(&[address(4, 7)]).is_none());
        assert!(Masquerade::new(&[address(4, 7), address(6, 7)]).is_none());
        assert!(Masquerade::default().is_empty());
    }

    #[test]
    fn a_datagram_without_a_checksum_keeps_none() {
        let mut sent = packet(4, UDP, 3);
        sent[26..28].fill(0);
        let ours = Masquerade::new(&[address(4, 1), address(4, 8)]).expect("a pair");
        ours.leaving(&mut sent);
        assert_eq!(sent[26..28], [0, 0]);
        assert!(is_intact(&sent, &parse_untrusted(&sent).expect("IP")));
    }
}
