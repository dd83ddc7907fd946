//! ICMP of both families: echoes, and what routers and hosts say about packets of ours.
//!
//! ```text
//! 0      1      2          4          8
//! type | code | checksum | id, seq  | payload …                    echo (RFC 792, RFC 4443 §4)
//! type | code | checksum | unused   | the packet, or its beginning  error (RFC 792, RFC 4443 §3)
//! ```

use std::net::{IpAddr, SocketAddr};

use super::checksum::{add, fold, pseudo_header};
use super::ip::{ICMP, ICMPV6, TCP, UDP};

/// Echo request and reply, of IPv4 and IPv6.
const REQUEST: [u8; 2] = [8, 128];
const REPLY: [u8; 2] = [0, 129];
/// Destination unreachable.
const UNREACHABLE: [u8; 2] = [3, 1];
/// Its code for a port nobody listens on.
const NO_PORT: [u8; 2] = [3, 4];

/// What an ICMP message is to us.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Somebody pings.
    Request,
    /// A TCP segment of ours from `.0` to `.1` did not arrive, and why.  "prohibited" means on the
    /// way; "policy", by the destination itself: so the datapath passes on a peer's TSMP refusal.
    Undelivered(SocketAddr, SocketAddr, &'static str),
    /// Anything else.
    Other,
}

/// The protocol number of ICMP to this address.
pub fn protocol(address: IpAddr) -> u8 {
    if address.is_ipv4() { ICMP } else { ICMPV6 }
}

/// Look at a message that went from `src` to `dst`; `None` if it is damaged.
pub fn parse(src: IpAddr, dst: IpAddr, message: &[u8]) -> Option<Message> {
    if message.len() < 8 || fold(sum(src, dst, message)) != 0xffff {
        return None;
    }
    let v6 = usize::from(dst.is_ipv6());
    Some(match (message[0], message[1]) {
        (kind, 0) if kind == REQUEST[v6] => Message::Request,
        (kind, code) if kind == UNREACHABLE[v6] => {
            undelivered(dst, &message[8..]).map_or(Message::Other, |(from, to)| {
                let why = match why(code, v6 == 1) {
                    "prohibited" if src == to.ip() => "policy",
                    why => why,
                };
                Message::Undelivered(from, to, why)
            })
        }
        _ => Message::Other,
    })
}

/// As Linux maps them to errors of `connect` (net/ipv4/icmp.c, icmp_err_convert).
fn why(code: u8, v6: bool) -> &'static str {
    match (code, v6) {
        (2 | 3, false) | (4, true) => "refused",
        (9 | 10 | 13, false) | (1 | 5, true) => "prohibited",
        _ => "unreachable",
    }
}

/// Both ends of the TCP segment at the beginning of `packet`, which may be cut.
fn undelivered(ours: IpAddr, packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (protocol, src, dst, header) = match packet.first()? >> 4 {
        4 => {
            let fixed: &[u8; 20] = packet.first_chunk()?;
            let src: [u8; 4] = fixed[12..16].try_into().ok()?;
            let dst: [u8; 4] = fixed[16..20].try_into().ok()?;
            let header = usize::from(fixed[0] & 15) * 4;
            (fixed[9], IpAddr::from(src), IpAddr::from(dst), header)
        }
        6 => {
            let fixed: &[u8; 40] = packet.first_chunk()?;
            let src: [u8; 16] = fixed[8..24].try_into().ok()?;
            let dst: [u8; 16] = fixed[24..40].try_into().ok()?;
            (fixed[6], IpAddr::from(src), IpAddr::from(dst), 40)
        }
        _ => return None,
    };
    let ports = packet.get(header..header + 4)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let pair = (SocketAddr::new(src, port(0)), SocketAddr::new(dst, port(2)));
    (protocol == TCP && src == ours).then_some(pair)
}

/// The answer to an echo request that went to `dst`.
pub fn reply(src: IpAddr, dst: IpAddr, request: &[u8]) -> Vec<u8> {
    let mut message = request.to_vec();
    message[0] = REPLY[usize::from(dst.is_ipv6())];
    finish(dst, src, message)
}

/// "Nobody listens on that port", about a datagram that went from `src` to `dst`.
pub fn no_port(src: SocketAddr, dst: SocketAddr) -> Vec<u8> {
    let v6 = usize::from(dst.is_ipv6());
    let mut header = Vec::from(src.port().to_be_bytes());
    header.extend(dst.port().to_be_bytes());
    header.extend([0, 8, 0, 0]);
    let mut message = vec![UNREACHABLE[v6], NO_PORT[v6], 0, 0, 0, 0, 0, 0];
    for packet in super::ip::packets(src.ip(), dst.ip(), UDP, &header, 1280, 0) {
        message.extend(packet);
    }
    finish(dst.ip(), src.ip(), message)
}

/// With the checksum it has from `src` to `dst`.
pub fn finish(src: IpAddr, dst: IpAddr, mut message: Vec<u8>) -> Vec<u8> {
    if let Some(field) = message.get_mut(2..4) {
        field.fill(0);
        let sum = !fold(sum(src, dst, &message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

fn sum(src: IpAddr, dst: IpAddr, message: &[u8]) -> u64 {
    let pseudo = if dst.is_ipv6() {
        pseudo_header(src, dst, ICMPV6, message.len())
    } else {
        0
    };
    add(pseudo, message)
}

#[cfg(test)]
mod tests {
    use super::super::ip::packets;
    use super::*;

    const PAIRS: [(&str, &str); 2] = [
        ("10.0.0.1:700", "10.0.0.2:80"),
        ("[fd00::1]:700", "[fd00::2]:80"),
    ];

    #[test]
    fn a_reply_is_the_request_turned_round() {
        for (a, b) in PAIRS {
            let (a, b): (SocketAddr, SocketAddr) = (a.parse().unwrap(), b.parse().unwrap());
            let kind = REQUEST[usize::from(a.is_ipv6())];
            let request = finish(a.ip(), b.ip(), vec![kind, 0, 9, 9, 0, 5, 0, 1, 1, 2, 3]);
            assert_eq!(parse(a.ip(), b.ip(), &request), Some(Message::Request));
            let answer = reply(a.ip(), b.ip(), &request);
            assert_eq!(parse(b.ip(), a.ip(), &answer), Some(Message::Other));
            assert_eq!(answer[4..], request[4..]);
            let mut damaged = request.clone();
            damaged[10] ^= 1;
            assert_eq!(parse(a.ip(), b.ip(), &damaged), None);
        }
    }

    #[test]
    fn errors_name_the_segment_and_the_reason() {
        for (a, b) in PAIRS {
            let (a, b): (SocketAddr, SocketAddr) = (a.parse().unwrap(), b.parse().unwrap());
            let v6 = a.is_ipv6();
            let c: IpAddr = if v6 { "fd00::3" } else { "10.0.0.3" }.parse().unwrap();
            let mut segment = vec![0; 20];
            segment[..2].copy_from_slice(&a.port().to_be_bytes());
            segment[2..4].copy_from_slice(&b.port().to_be_bytes());
            let packet = packets(a.ip(), b.ip(), TCP, &segment, 1280, 0).remove(0);
            let (no_port, firewall, no_host) = if v6 { (4, 1, 3) } else { (3, 13, 1) };
            for (code, why) in [
                (no_port, "refused"),
                (firewall, "prohibited"),
                (no_host, "unreachable"),
            ] {
                let kind = UNREACHABLE[usize::from(v6)];
                let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
                message.extend(&packet[..packet.len() - 12]); // eight bytes of the segment
                for router in [c, b.ip()] {
                    let message = finish(router, a.ip(), message.clone());
                    let told = parse(router, a.ip(), &message);
                    let why = match why {
                        "prohibited" if router == b.ip() => "policy",
                        why => why,
                    };
                    assert_eq!(told, Some(Message::Undelivered(a, b, why)));
                }
            }
        }
    }

    #[test]
    fn hostile_messages_give_nothing() {
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for length in 0..120 {
            for first in 0..=255 {
                let mut message = vec![first; length];
                if length > 9 {
                    message[0] = UNREACHABLE[0];
                    message[8] = [0x45, 0x4f, 0x60][length % 3];
                }
                let _ = parse(a, b, &finish(a, b, message));
            }
        }
    }
}
