//! The MSS option of opening segments, kept to what fits the tunnel.
//!
//! Hosts behind subnet routers and exit nodes know their own link's MTU, not the tunnel's.
//!
//! Source: RFC 9293 §3.7.1; RFC 1624 §3, the incremental checksum.

use crate::datapath::wire::checksum::complement;
use crate::datapath::wire::packet::{Parsed, SYN, TCP, u16_at};

const HEADER: usize = 20;
const CHECKSUM: usize = 16;
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;

/// Lower the MSS of a SYN or SYN-ACK, if the packets it asks for are longer than `mtu`.
///
/// `begun`: the checksum covers the pseudo header only, and somebody finishes it later.
pub fn clamp(packet: &mut [u8], parsed: &Parsed, mtu: usize, begun: bool) {
    if parsed.proto != TCP || parsed.flags & SYN == 0 {
        return;
    }
    let ip = if parsed.version == 4 { 20 } else { 40 };
    let Some(most) = mtu
        .checked_sub(ip + HEADER)
        .and_then(|most| u16::try_from(most).ok())
    else {
        return;
    };
    let Some(segment) = packet.get_mut(parsed.payload..parsed.length) else {
        return;
    };
    let Some(at) = find(segment) else { return };
    let old = u16_at(segment, at);
    if old <= most {
        return;
    }
    segment[at..at + 2].copy_from_slice(&most.to_be_bytes());
    if begun {
        return;
    }
    // In a word that is not aligned the bytes count the other way around.
    let turn = |word: u16| if at % 2 == 0 { word } else { word.swap_bytes() };
    let sum = !u16_at(segment, CHECKSUM);
    let sum = u64::from(sum) + u64::from(!turn(old)) + u64::from(turn(most));
    segment[CHECKSUM..CHECKSUM + 2].copy_from_slice(&complement(sum).to_be_bytes());
}

/// Where the value of the MSS option is.
fn find(segment: &[u8]) -> Option<usize> {
    let end = usize::from(segment.get(12)? >> 4) * 4;
    let options = segment.get(..end)?;
    let mut at = HEADER;
    loop {
        match *options.get(at)? {
            END => return None,
            NOTHING => at += 1,
            kind => {
                let size = usize::from(*options.get(at + 1)?);
                if kind == MSS {
                    return (size == 4 && at + 4 <= end).then_some(at + 2);
                }
                at += if size < 2 { return None } else { size };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::wire::checksum::{holds, pseudo_sum, word_sum};
    use crate::datapath::wire::packet::parse_untrusted;

    fn syn(options: &[u8]) -> Vec<u8> {
        let mut packet = vec![
            0x45,
            0,
            0,
            40 + options.len() as u8,
            0,
            0,
            0,
            0,
            64,
            TCP,
            0,
            0,
        ];
        packet.extend_from_slice(&[100, 64, 0, 1, 100, 64, 0, 2]);
        packet.extend_from_slice(&[0, 80, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0]);
        packet.extend_from_slice(&[((20 + options.len()) << 2) as u8, SYN, 9, 9, 0, 0, 0, 0]);
        packet.extend_from_slice(options);
        let total = pseudo_sum(&packet, TCP, packet.len() - 20) + word_sum(&packet[20..]);
        packet[36..38].copy_from_slice(&complement(total).to_be_bytes());
        packet
    }

    fn clamped(packet: &[u8], begun: bool) -> Vec<u8> {
        let mut packet = packet.to_vec();
        let parsed = parse_untrusted(&packet).expect("whole");
        clamp(&mut packet, &parsed, 1280, begun);
        packet
    }

    #[test]
    fn a_large_mss_becomes_the_tunnels_and_the_checksum_holds() {
        for options in [
            &[MSS, 4, 5, 180, 1, 1, 1, 0][..],
            &[1, MSS, 4, 255, 255, 1, 1, 0], // not aligned
            &[3, 3, 7, MSS, 4, 5, 180, 0],
        ] {
            let packet = syn(options);
            let out = clamped(&packet, false);
            let at = 20 + find(&packet[20..]).expect("there");
            assert_eq!(u16_at(&out, at), 1240);
            assert!(holds(
                pseudo_sum(&out, TCP, out.len() - 20) + word_sum(&out[20..])
            ));
            assert_eq!(u16_at(&clamped(&packet, true), 36), u16_at(&packet, 36));
        }
    }

    #[test]
    fn what_fits_and_what_is_broken_stays_as_it_is() {
        for options in [
            &[MSS, 4, 4, 216, 0, 0, 0, 0][..], // 1240
            &[MSS, 3, 5, 180],
            &[0, MSS, 4, 5, 180, 0, 0, 0],
            &[3, 0, MSS, 4],
            &[1, 1, MSS, 4],
            &[1, 1, 1, MSS],
            &[],
        ] {
            let packet = syn(options);
            assert_eq!(clamped(&packet, false), packet, "{options:?}");
        }
        let mut segment = syn(&[MSS, 4, 5, 180]);
        segment[33] = 0x10;
        assert_eq!(clamped(&segment, false), segment);
    }
}
