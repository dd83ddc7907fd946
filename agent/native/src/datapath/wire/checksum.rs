//! The Internet checksum (RFC 1071).
//!
//! Sums are ones-complement sums of big-endian 16-bit words, kept as plain numbers that may carry
//! beyond 16 bits until they are folded.

/// Sum of the words of `data`, folded; an odd end is padded with a zero.
pub fn word_sum(data: &[u8]) -> u64 {
    let (chunks, rest) = data.as_chunks::<32>();
    let mut lanes = [0u64; 8];
    for chunk in chunks {
        add(&mut lanes, chunk);
    }
    finish(lanes, rest)
}

/// Copy `from` to `to`, of the same length, and sum it on the way.
pub fn copy_sum(to: &mut [u8], from: &[u8]) -> u64 {
    let (chunks, rest) = from.as_chunks::<32>();
    let (targets, rest_to) = to.as_chunks_mut::<32>();
    let mut lanes = [0u64; 8];
    for (target, chunk) in targets.iter_mut().zip(chunks) {
        *target = *chunk;
        add(&mut lanes, chunk);
    }
    rest_to.copy_from_slice(rest);
    finish(lanes, rest)
}

#[inline(always)]
fn add(lanes: &mut [u64; 8], chunk: &[u8; 32]) {
    let (words, _) = chunk.as_chunks::<4>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane += u64::from(u32::from_le_bytes(*word));
    }
}

// The sum of little-endian words is that of big-endian ones with its bytes swapped (RFC 1071 §2).
fn finish(lanes: [u64; 8], rest: &[u8]) -> u64 {
    let mut total: u64 = lanes.iter().sum();
    let (words, odd) = rest.as_chunks::<2>();
    for word in words {
        total += u64::from(u16::from_le_bytes(*word));
    }
    if let [last] = odd {
        total += u64::from(*last);
    }
    u64::from(fold(total).swap_bytes())
}

/// The sum in 16 bits.
pub fn fold(total: u64) -> u16 {
    let total = (total & 0xFFFF_FFFF) + (total >> 32);
    let total = (total & 0xFFFF) + ((total >> 16) & 0xFFFF) + (total >> 32);
    let total = (total & 0xFFFF) + (total >> 16);
    ((total & 0xFFFF) + (total >> 16)) as u16
}

/// The checksum field for a sum of all other words: 0 to 0xFFFE.
pub fn complement(total: u64) -> u16 {
    match fold(total) {
        0 => 0,
        sum => !sum,
    }
}

/// True if a sum over all words, checksum included, is right; that of nothing but zeros is not.
pub fn holds(total: u64) -> bool {
    fold(total) == 0xFFFF
}

/// Sum of a pseudo header over the addresses of an IP header (RFC 9293 §3.1; RFC 8200 §8.1);
/// `length` counts from the transport header.
pub fn pseudo_sum(ip: &[u8], proto: u8, length: usize) -> u64 {
    let addresses = if ip[0] >> 4 == 4 {
        &ip[12..20]
    } else {
        &ip[8..40]
    };
    word_sum(addresses) + u64::from(proto) + length as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(data: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in data.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xFFFF) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn sums_of_all_lengths_are_those_of_a_loop_over_words() {
        let data: Vec<u8> = (0..3000u32).map(|i| (i * 31 + i / 7) as u8).collect();
        for len in (0..200).chain([1228, 1279, 2999]) {
            for at in [0, 1, 3] {
                let part = &data[at..(at + len).min(3000)];
                assert_eq!(word_sum(part), u64::from(naive(part)), "{len}");
                let mut copy = vec![0; part.len()];
                assert_eq!(copy_sum(&mut copy, part), word_sum(part));
                assert_eq!(copy, part);
            }
        }
    }

    #[test]
    fn folding_never_overflows() {
        for total in [0, 1, 0xFFFF, 0x1_0000, u64::MAX, u64::MAX - 1, 0xFFFF_0001] {
            assert_eq!(u64::from(fold(total)) % 0xFFFF, total % 0xFFFF);
        }
        assert_eq!(complement(0xFFFF), 0);
        assert!(holds(0xFFFF * 3) && !holds(0));
    }
}
