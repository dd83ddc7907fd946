//! What the datapath needs to know of an IP packet.
//!
//! Source: tailscale net/packet/packet.go, Parsed.Decode; net/packet/ip4.go, ip6.go.

/// Not to be trusted.
pub const UNKNOWN: u8 = 0;
/// IP protocol.
pub const ICMP4: u8 = 1;
/// IP protocol.
pub const IGMP: u8 = 2;
/// IP protocol.
pub const TCP: u8 = 6;
/// IP protocol.
pub const UDP: u8 = 17;
/// IP protocol.
pub const ICMP6: u8 = 58;
/// IP protocol.
pub const TSMP: u8 = 99;
/// IP protocol.
pub const SCTP: u8 = 132;
/// A later fragment: not a protocol on the wire, as [`UNKNOWN`] is not.
pub const FRAGMENT: u8 = 255;

/// TCP flag.
pub const FIN: u8 = 0x01;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const PSH: u8 = 0x08;
/// TCP flag.
pub const ACK: u8 = 0x10;
/// TCP flag.
pub const CWR: u8 = 0x80;

// A later fragment below this offset [8 bytes] could overwrite a transport header.
const MIN_FRAGMENT: u16 = (60 + 20) / 8;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1FFF;
const IPV6_FRAGMENT: u8 = 44;

/// A parsed packet.  An IPv4 address is the low 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// 4 or 6.
    pub version: u8,
    /// As the filter sees it.
    pub proto: u8,
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// TCP, UDP and SCTP only.
    pub src_port: u16,
    /// TCP, UDP and SCTP only.
    pub dst_port: u16,
    /// TCP flags, or the ICMP type.
    pub flags: u8,
    /// The ICMP code.
    pub code: u8,
    /// Offset of the transport header.
    pub payload: usize,
    /// As the IP header says.
    pub length: usize,
}

/// Bytes of the IP packet at the start of `data`, without padding behind it.
pub fn ip_length(data: &[u8]) -> usize {
    let said = match data.first().map(|first| first >> 4) {
        Some(4) if data.len() >= 20 => usize::from(u16_at(data, 2)),
        Some(6) if data.len() >= 40 => usize::from(u16_at(data, 4)) + 40,
        _ => data.len(),
    };
    said.min(data.len())
}

/// Big-endian 16 bits.
pub fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

/// Big-endian 32 bits.
pub fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
}

fn u128_at(data: &[u8], at: usize) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&data[at..at + 16]);
    u128::from_be_bytes(bytes)
}

/// Parse an IP packet as far as the filter looks; `None`: not IP, or its lengths do not fit.
pub fn parse_untrusted(packet: &[u8]) -> Option<Parsed> {
    if packet.len() < 20 {
        return None;
    }
    let (mut parsed, fragment) = match packet[0] >> 4 {
        4 => parse_ip4(packet)?,
        6 => parse_ip6(packet)?,
        _ => return None,
    };
    let at = parsed.payload;
    parsed.proto = believed(parsed.proto, fragment, parsed.length.saturating_sub(at));
    match parsed.proto {
        TCP | UDP | SCTP => {
            parsed.src_port = u16_at(packet, at);
            parsed.dst_port = u16_at(packet, at + 2);
            if parsed.proto == TCP {
                parsed.flags = packet[at + 13];
            }
        }
        ICMP4 | ICMP6 => {
            parsed.flags = packet[at];
            parsed.code = packet[at + 1];
        }
        _ => {}
    }
    Some(parsed)
}

/// The protocol the filter sees, for `size` bytes from the transport header on.
fn believed(proto: u8, fragment: u16, size: usize) -> u8 {
    if proto == UNKNOWN || proto == FRAGMENT {
        return UNKNOWN;
    }
    let offset = fragment & OFFSET;
    if offset > 0 {
        return if offset >= MIN_FRAGMENT {
            FRAGMENT
        } else {
            UNKNOWN
        };
    }
    let needed = match proto {
        ICMP4 | ICMP6 => 4,
        IGMP | UDP => 8,
        TCP => 20,
        SCTP => 12,
        TSMP => 7,
        _ => 0,
    };
    if size < needed || (fragment & MORE_FRAGMENTS != 0 && proto == TSMP) {
        return UNKNOWN;
    }
    proto
}

fn located(version: u8, proto: u8, src: u128, dst: u128, payload: usize, length: usize) -> Parsed {
    Parsed {
        version,
        proto,
        src,
        dst,
        src_port: 0,
        dst_port: 0,
        flags: 0,
        code: 0,
        payload,
        length,
    }
}

fn parse_ip4(packet: &[u8]) -> Option<(Parsed, u16)> {
    let payload = usize::from(packet[0] & 0x0F) * 4;
    let length = usize::from(u16_at(packet, 2));
    if payload < 20 || payload > length || length > packet.len() {
        return None;
    }
    let (src, dst) = (u32_at(packet, 12), u32_at(packet, 16));
    let parsed = located(4, packet[9], src.into(), dst.into(), payload, length);
    Some((parsed, u16_at(packet, 6)))
}

fn parse_ip6(packet: &[u8]) -> Option<(Parsed, u16)> {
    if packet.len() < 40 {
        return None;
    }
    let length = usize::from(u16_at(packet, 4)) + 40;
    if length > packet.len() {
        return None;
    }
    let (mut proto, mut payload, mut fragment) = (packet[6], 40, 0);
    if proto == IPV6_FRAGMENT {
        if length < 48 {
            proto = UNKNOWN;
        } else {
            proto = packet[40];
            payload = 48;
            let word = u16_at(packet, 42);
            fragment = word >> 3 | if word & 1 != 0 { MORE_FRAGMENTS } else { 0 };
        }
    }
    let (src, dst) = (u128_at(packet, 8), u128_at(packet, 24));
    Some((located(6, proto, src, dst, payload, length), fragment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_ends_where_its_header_says() {
        let mut v4 = [0; 32];
        (v4[0], v4[3]) = (0x45, 21);
        assert_eq!(ip_length(&v4), 21);
        v4[2] = 9;
        assert_eq!(ip_length(&v4), 32);
        assert_eq!(ip_length(&[0x60; 39]), 39);
        assert_eq!(ip_length(&[]), 0);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 99u64;
        for len in 0..120 {
            for _ in 0..2000 {
                let mut data: Vec<u8> = (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                        (state >> 40) as u8
                    })
                    .collect();
                if let Some(first) = data.first_mut() {
                    *first = if state & 1 == 0 { 0x45 } else { 0x60 };
                }
                if len > 9 {
                    data[2] = 0;
                    data[3] = (state >> 20) as u8 % 128;
                    data[4] = 0;
                    data[5] = (state >> 30) as u8 % 80;
                    data[9] = [1, 2, 6, 17, 58, 99, 132][(state >> 50) as usize % 7];
                    data[6] = data[9];
                }
                if let Some(parsed) = parse_untrusted(&data) {
                    assert!(parsed.length <= data.len());
                }
            }
        }
    }
}
