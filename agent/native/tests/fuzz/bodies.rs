//! What is fuzzed: each body is a claim about any bytes, and panics where it is wrong.
//!
//! Plain functions over the public parts of the crate; a fuzzing engine can call them as they are.

#[path = "handshake.rs"]
mod handshake;
#[path = "userspace.rs"]
mod userspace;

use std::io::IoSlice;
use std::sync::Arc;

use tailnet_native::clock::Clock;
use tailnet_native::datapath::crypto::aead::TAG;
use tailnet_native::datapath::crypto::aead::{Suite, Wanted};
use tailnet_native::datapath::filter::Policy;
use tailnet_native::datapath::filter::rules::Filter;
use tailnet_native::datapath::inbound::Inbound;
use tailnet_native::datapath::offload::group::Writer;
use tailnet_native::datapath::offload::split::split;
use tailnet_native::datapath::outbound::Outbound;
use tailnet_native::datapath::tables::Tables;
use tailnet_native::datapath::tables::masquerade::Masquerade;
use tailnet_native::datapath::tables::members::Entry;
use tailnet_native::datapath::tables::peer::{Path, Peer};
use tailnet_native::datapath::tables::prefixes::{Allowed, Prefix, Prefixes};
use tailnet_native::datapath::tables::session::{HEADER, Keys, Session};
use tailnet_native::datapath::tun::Joined;
use tailnet_native::datapath::wire::checksum::{complement, pseudo_sum, word_sum};
use tailnet_native::datapath::wire::classify::classify_untrusted;
use tailnet_native::datapath::wire::intact::{header_holds, is_intact};
use tailnet_native::datapath::wire::packet::{self as ip_packet, parse_untrusted};
use tailnet_native::datapath::wire::{clamp, vnet};
use tailnet_native::sys::socket::Incoming;

use handshake::handshake;
use userspace::{netstack, stack};

/// A claim's check.
pub type Body = fn(&[u8]);

/// All of them, by name.
pub const BODIES: &[(&str, Body)] = &[
    ("packet", packet),
    ("classify", classify),
    ("split_super", split_super),
    ("device", device),
    ("datagrams", datagrams),
    ("gro", gro),
    ("rules", rules),
    ("handshake", handshake),
    ("netstack", netstack),
    ("operations", operations),
    ("stack", stack),
];

const JOINED: Joined = Joined {
    tcp: true,
    udp: true,
};
const fn any(version: u8) -> Prefix {
    Prefix {
        version,
        bits: 0,
        address: 0,
    }
}

fn everything() -> Vec<Prefix> {
    vec![any(4), any(6)]
}

/// A packet that parses lies within its bytes, its checksums can be judged and made right, and its
/// MSS can be clamped without moving anything.
fn packet(data: &[u8]) {
    if let Some(parsed) = parse_untrusted(data) {
        assert!(parsed.length <= data.len());
        is_intact(data, &parsed);
        let right = mended(data);
        assert!(parsed.version == 6 || header_holds(&right, &parsed));
        let mut copy = data.to_vec();
        clamp::clamp(&mut copy, &parsed, 1280, data.len().is_multiple_of(2));
        let again = parse_untrusted(&copy).expect("still a packet");
        assert_eq!(again.length, parsed.length);
    }
}

/// Any datagram has a class.
fn classify(data: &[u8]) {
    classify_untrusted(data, None);
}

/// A super-packet of the device is cut into packets that are complete, or refused.
fn split_super(data: &[u8]) {
    let Some(hint) = vnet::Header::parse(data) else {
        return;
    };
    let mut packet = data[vnet::LEN..].to_vec();
    if let Some(cut) = split(&hint, &mut packet) {
        for index in 0..cut.count() {
            let mut out = vec![0; cut.len(index)];
            cut.write(index, &mut out);
        }
    }
}

/// Whatever the device brings is sealed, queued or dropped.
fn device(data: &[u8]) {
    let mut outbound = Outbound::new(tables(), None);
    outbound.mtu = 1280;
    for piece in pieces(data) {
        outbound.read(&mut piece.to_vec(), true, 1.0);
        if let Some((hint, packet)) = piece.split_at_checked(vnet::LEN) {
            let mut read = hint.to_vec();
            read.extend(mended(packet));
            outbound.read(&mut read, true, 1.0);
        }
        outbound.transmit();
    }
}

/// Datagrams of strangers never reach the device.
fn datagrams(data: &[u8]) {
    let mut inbound = Inbound::new(tables(), true, JOINED);
    let mut check = Check::default();
    inbound.begin();
    let mut buffer = data.to_vec();
    inbound.receive(&mut buffer, &whole(0, data.len()), 1.0);
    inbound.write(&mut buffer, &mut check);
    assert_eq!(check.0, 0);
}

/// What a peer sealed comes out as packets, no more of them than went in, and sound.
fn gro(data: &[u8]) {
    joined(pieces(data).map(<[u8]>::to_vec));
    // Once more with right checksums, so that what lies behind them is looked at.
    joined(pieces(data).map(mended));
}

fn joined(packets: impl Iterator<Item = Vec<u8>>) {
    let mut inbound = Inbound::new(tables(), true, JOINED);
    let keys = far();
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    for (counter, packet) in packets.enumerate() {
        messages.push(sealed(&keys, counter as u64, &packet, &mut buffer));
    }
    inbound.begin();
    for message in &messages {
        inbound.receive(&mut buffer, message, 1.0);
    }
    let mut check = Check::default();
    inbound.write(&mut buffer, &mut check);
    assert!(check.0 <= messages.len());
}

/// A filter that is read can be asked about anything.
fn rules(data: &[u8]) {
    if let Some(rules) = Filter::parse(data) {
        for proto in [0, 1, 6, 17, 255] {
            for version in [4, 6] {
                rules.allows(version, proto, 1, u128::MAX, 80);
                rules.allows_addresses(version, 0, 7);
                rules.allows_protocol(version, proto, 7, 0);
            }
        }
    }
}

/// Tables may change in any order while packets come from both sides.
fn operations(data: &[u8]) {
    let tables = tables();
    let mut inbound = Inbound::new(Arc::clone(&tables), true, JOINED);
    let mut outbound = Outbound::new(Arc::clone(&tables), None);
    outbound.mtu = 1280;
    let keys = far();
    let mut check = Check::default();
    for (count, piece) in pieces(data).enumerate() {
        let (operation, rest) = piece.split_first().map_or((0, piece), |(op, r)| (*op, r));
        let id = u64::from(operation >> 4) % 3 + 1;
        match operation & 0xf {
            0 => tables.set_peers(&[(1, everything().into())]),
            1 => tables.set_peers(&[(id, everything().into()), (id + 1, vec![].into())]),
            2 => {
                let masquerade = Masquerade::new(&known(rest)).unwrap_or_default();
                let allowed = everything();
                let entry = Entry {
                    allowed,
                    masquerade,
                };
                tables.change_peers(&[(id, Some(entry))]);
            }
            3 => tables.change_peers(&[(id, None)]),
            4 => {
                if let Some(peer) = tables.peer(id) {
                    tables.add_session(&peer, &session(operation >> 4, 1, 2));
                }
            }
            5 => tables.drop_session(u32::from(operation >> 4)),
            6 => tables.set_path(id, Path::default()),
            7 => {
                if let Some(keys) = tables.session(u32::from(operation >> 4)) {
                    tables.confirm(&keys);
                }
            }
            8 => {
                if let Some(peer) = tables.peer(id) {
                    outbound.flush(&peer, count as f64);
                    outbound.keepalive(&peer, count as f64);
                }
            }
            9 => tables.policy.store(policy(operation & 0x10 != 0)),
            10..=12 => {
                let mut buffer = Vec::new();
                let message = sealed(&keys, count as u64, &mended(rest), &mut buffer);
                inbound.begin();
                inbound.receive(&mut buffer, &message, count as f64);
                inbound.write(&mut buffer, &mut check);
            }
            _ => outbound.read(&mut rest.to_vec(), true, count as f64),
        }
        outbound.transmit();
    }
}

/// Our address and another, of what a packet says it comes from.
fn known(packet: &[u8]) -> Vec<Prefix> {
    let Some(parsed) = parse_untrusted(packet) else {
        return Vec::new();
    };
    let bits = if parsed.version == 4 { 32 } else { 128 };
    let address = |address| Prefix {
        version: parsed.version,
        bits,
        address,
    };
    vec![address(parsed.src), address(parsed.dst)]
}

/// Takes super-packets apart again, and checks and counts every packet.
#[derive(Default)]
struct Check(usize);

impl Writer for Check {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<(), i32> {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let hint = vnet::Header::parse(&bytes).expect("a header");
        let cut = split(&hint, &mut bytes[vnet::LEN..]).expect("sound headers");
        for index in 0..cut.count() {
            let mut packet = vec![0; cut.len(index)];
            cut.write(index, &mut packet);
            let parsed = parse_untrusted(&packet).expect("IP");
            assert_eq!(parsed.length, packet.len());
            assert!(is_intact(&packet, &parsed));
            self.0 += 1;
        }
        Ok(())
    }

    fn lost(&mut self, _: usize) {}
}

/// With right checksums, as far as it has any.
fn mended(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let Some(parsed) = parse_untrusted(&packet) else {
        return packet;
    };
    let (head, body) = packet[..parsed.length].split_at_mut(parsed.payload);
    if parsed.version == 4 {
        head[10..12].fill(0);
        let sum = complement(word_sum(head));
        head[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let at = match parsed.proto {
        ip_packet::ICMP4 | ip_packet::ICMP6 => 2,
        ip_packet::TCP => 16,
        ip_packet::UDP => 6,
        _ => return packet,
    };
    if let Some(field) = body.get_mut(at..at + 2) {
        field.fill(0);
        let mut sum = word_sum(body);
        if parsed.proto != ip_packet::ICMP4 {
            sum += pseudo_sum(head, parsed.proto, body.len());
        }
        body[at..at + 2].copy_from_slice(&complement(sum).to_be_bytes());
    }
    packet
}

/// Pieces with a length of two bytes in front; the last one may be short.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, rest) = data.split_first_chunk::<2>()?;
        let (piece, after) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*head))));
        data = after;
        Some(piece)
    })
}

fn session(local: u8, send: u8, receive: u8) -> Session {
    Session {
        local: u32::from(local),
        remote: 7,
        send_key: [send; 32],
        receive_key: [receive; 32],
        created: 0.0,
        initiator: true,
    }
}

fn far() -> Keys {
    Keys::new(Arc::new(Peer::new(2, Allowed::new(&[]))), &session(7, 2, 1))
}

fn whole(start: usize, len: usize) -> Incoming {
    Incoming {
        start,
        len,
        size: len,
        src: None,
    }
}

fn sealed(keys: &Keys, counter: u64, packet: &[u8], buffer: &mut Vec<u8>) -> Incoming {
    let start = buffer.len();
    let full = packet.len().next_multiple_of(16);
    buffer.resize(start + HEADER + full + TAG, 0);
    buffer[start + HEADER..start + HEADER + packet.len()].copy_from_slice(packet);
    keys.seal(
        &mut Suite::default().cipher(),
        &mut buffer[start..],
        counter,
    );
    whole(start, buffer.len() - start)
}

fn policy(shields_up: bool) -> Arc<Policy> {
    let mut local = Prefixes::default();
    for prefix in everything() {
        local.insert(prefix, ());
    }
    Arc::new(Policy {
        local: Arc::new(local),
        filter: Arc::default(),
        shields_up,
    })
}

fn tables() -> Arc<Tables> {
    let mut tables = Tables::new(Clock::manual(), 100).expect("an eventfd");
    tables.suite = Suite::choose(Wanted::Auto).expect("one is always there");
    tables.set_peers(&[(1, everything().into())]);
    tables.policy.store(policy(false));
    let peer = tables.peer(1).expect("just set");
    tables.add_session(&peer, &session(7, 1, 2));
    Arc::new(tables)
}
