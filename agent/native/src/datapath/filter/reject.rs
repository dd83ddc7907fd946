//! Answers to packets that go no further: TSMP to the peer, ICMP to the host.
//!
//! Source: tailscale net/tstun/wrap.go, filterPacketInboundFromWireGuard; net/packet/tsmp.go;
//! wgengine/pendopen.go.  RFC 792, RFC 4443 §3.1; RFC 1122 §3.2.2 (what is never answered).

use std::io::IoSlice;
use std::sync::Arc;

use crate::datapath::filter::flows::Flow;
use crate::datapath::filter::limiter::{REJECTS, UNREACHABLE};
use crate::datapath::filter::opens::{is_opening, quote};
use crate::datapath::offload::group::Writer;
use crate::datapath::report::drops::Reason;
use crate::datapath::tables::Tables;
use crate::datapath::tables::peer::Peer;
use crate::datapath::wire::checksum::{complement, pseudo_sum, word_sum};
use crate::datapath::wire::packet::{FRAGMENT, ICMP4, ICMP6, Parsed, TSMP, u16_at};
use crate::datapath::wire::vnet;

const HOPS: u8 = 64;
const REJECTED: u8 = b'!';
const REJECTED_LEN: usize = 7;
const MAYBE_BROKEN: u8 = 1;

/// What an ICMP error says, as (IPv4 type, code), (IPv6 type, code).
type Code = [(u8, u8); 2];
const NOBODY: Code = [(3, 1), (1, 3)]; // host or address unreachable
const PROHIBITED: Code = [(3, 13), (1, 1)]; // administratively

/// Answers that wait to be sent.
#[derive(Default)]
pub struct Replies {
    to_host: Vec<Vec<u8>>,
    to_peers: Vec<(Arc<Peer>, Vec<u8>)>,
}

impl Replies {
    /// The filter refused `packet` of `peer`: say so, if it would have opened a connection.
    pub fn refused(&mut self, tables: &Tables, peer: &Arc<Peer>, packet: &Parsed, shields: bool) {
        if !is_opening(packet) {
            return;
        }
        let now = tables.clock.now();
        if crate::datapath::lock(&peer.rejects).take(&REJECTS, now) {
            let reason = if shields { b'S' } else { b'A' };
            self.to_peers
                .push((Arc::clone(peer), rejected(packet, reason)));
        }
    }

    /// A TSMP message came: if it refuses what the host just began, tell the host.
    pub fn tsmp(&mut self, tables: &Tables, parsed: &Parsed, packet: &[u8]) {
        let Some(refusal) = Refusal::parse_untrusted(parsed, packet) else {
            return;
        };
        let now = tables.clock.now();
        let quote = crate::datapath::lock(&tables.opens).take(&refusal.flow, now);
        if let Some(quote) = quote {
            self.to_host.extend(icmp(&quote, refusal.code));
        }
    }

    /// No peer has the destination of `packet`, or it does not answer: tell the host.
    pub fn nobody(&mut self, tables: &Tables, parsed: &Parsed, packet: &[u8]) {
        let silent = match parsed.proto {
            ICMP4 => parsed.flags != 8, // an error, or an answer
            ICMP6 => parsed.flags != 128,
            FRAGMENT => true,
            _ => false,
        };
        if !silent
            && crate::datapath::lock(&tables.unreachable).take(&UNREACHABLE, tables.clock.now())
        {
            self.to_host.extend(icmp(quote(packet), NOBODY));
        }
    }

    /// Write what is for the host; `vnet_hdr` as of the device.
    pub fn write(&mut self, writer: &mut impl Writer, vnet_hdr: bool) {
        for packet in self.to_host.drain(..) {
            let header = if vnet_hdr { vnet::LEN } else { 0 };
            let whole = [&[0; vnet::LEN][..header], &packet].concat();
            if writer.write(&[IoSlice::new(&whole)]).is_err() {
                writer.lost(1);
            }
        }
    }

    /// Take what is for peers.
    pub fn to_peers(&mut self) -> Vec<(Arc<Peer>, Vec<u8>)> {
        std::mem::take(&mut self.to_peers)
    }
}

/// A received "rejected": the flow as it left here, and what the host is told.
struct Refusal {
    flow: Flow,
    code: Code,
}

impl Refusal {
    fn parse_untrusted(parsed: &Parsed, packet: &[u8]) -> Option<Self> {
        if parsed.version == 6 && parsed.payload != 40 {
            return None; // it never comes in fragments
        }
        let body = packet.get(parsed.payload..parsed.length)?;
        if body.len() < REJECTED_LEN || body[0] != REJECTED {
            return None;
        }
        if body
            .get(REJECTED_LEN)
            .is_some_and(|flags| flags & MAYBE_BROKEN != 0)
        {
            return None; // a hint: it may yet work
        }
        let code = match body[2] {
            b'F' | b'T' => NOBODY,
            _ => PROHIBITED,
        };
        let flow = Flow::of(&Parsed {
            proto: body[1],
            src: parsed.dst,
            dst: parsed.src,
            src_port: u16_at(body, 3),
            dst_port: u16_at(body, 5),
            ..*parsed
        });
        Some(Self { flow, code })
    }
}

/// The TSMP message that refuses `packet`.
fn rejected(packet: &Parsed, reason: u8) -> Vec<u8> {
    let [a, b] = packet.src_port.to_be_bytes();
    let [c, d] = packet.dst_port.to_be_bytes();
    let body = [REJECTED, packet.proto, reason, a, b, c, d];
    datagram(packet.version, packet.dst, packet.src, TSMP, &body)
}

/// The ICMP error about a packet of the host; `None` if its addresses forbid one.
fn icmp(quote: &[u8], code: Code) -> Option<Vec<u8>> {
    let parsed_v6 = quote.first()? >> 4 == 6;
    let (version, src, dst) = if parsed_v6 {
        (6, number(quote.get(8..24)?), number(quote.get(24..40)?))
    } else {
        (4, number(quote.get(12..16)?), number(quote.get(16..20)?))
    };
    let one_host = match version {
        4 => src != 0 && src >> 28 < 0xE,
        _ => src != 0 && src >> 120 != 0xFF,
    };
    if !one_host {
        return None;
    }
    let [v4, v6] = code;
    let (kind, code) = if parsed_v6 { v6 } else { v4 };
    let mut body = vec![kind, code, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(quote);
    let proto = if parsed_v6 { ICMP6 } else { ICMP4 };
    // As if the destination said it: an address of our own would be a martian for the kernel.
    let mut out = datagram(version, dst, src, proto, &body);
    let at = out.len() - body.len();
    let begun = if parsed_v6 {
        pseudo_sum(&out, proto, body.len())
    } else {
        0
    };
    let sum = complement(begun + word_sum(&out[at..]));
    out[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
    Some(out)
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |n, byte| n << 8 | u128::from(*byte))
}

/// An IP packet without options.
fn datagram(version: u8, src: u128, dst: u128, proto: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(40 + body.len());
    if version == 4 {
        let total = 20 + body.len() as u16;
        out.extend_from_slice(&[0x45, 0]);
        out.extend_from_slice(&total.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 0, HOPS, proto, 0, 0]);
        out.extend_from_slice(&(src as u32).to_be_bytes());
        out.extend_from_slice(&(dst as u32).to_be_bytes());
        let sum = complement(word_sum(&out));
        out[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        out.extend_from_slice(&[0x60, 0, 0, 0]);
        out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        out.extend_from_slice(&[proto, HOPS]);
        out.extend_from_slice(&src.to_be_bytes());
        out.extend_from_slice(&dst.to_be_bytes());
    }
    out.extend_from_slice(body);
    out
}

/// Drop what waits for a peer that does not answer, and tell the host about each packet.
pub fn give_up(tables: &Tables, peer: &Peer, replies: &mut Replies) {
    for packet in tables.take_queue(peer) {
        tables.drops.add(Reason::OutDiscarded, 1);
        if let Some(parsed) = crate::datapath::wire::packet::parse_untrusted(&packet) {
            replies.nobody(tables, &parsed, &packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::wire::packet::TCP;

    #[test]
    fn no_quote_makes_it_panic() {
        let packet = datagram(4, 0x6440_0001, 0x6440_0002, TCP, &[0; 20]);
        for len in 0..packet.len() {
            for first in [0x45, 0x60, 0x4F, 0] {
                let mut quote = packet[..len].to_vec();
                if let Some(byte) = quote.first_mut() {
                    *byte = first;
                }
                drop(icmp(&quote, NOBODY));
            }
        }
    }
}
