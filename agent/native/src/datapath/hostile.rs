//! Hostile bytes from both sides: nothing panics, and nothing comes out that is not IP.

use std::io::IoSlice;
use std::sync::Arc;

use crate::clock::Clock;
use crate::datapath::crypto::aead::TAG;
use crate::datapath::crypto::aead::{Suite, Wanted};
use crate::datapath::filter::Policy;
use crate::datapath::inbound::Inbound;
use crate::datapath::offload::group::Writer;
use crate::datapath::offload::split::split;
use crate::datapath::outbound::Outbound;
use crate::datapath::outbound::judge::TOGETHER;
use crate::datapath::tables::Tables;
use crate::datapath::tables::peer::Peer;
use crate::datapath::tables::prefixes::{Allowed, Prefix, Prefixes};
use crate::datapath::tables::session::{HEADER, Keys, Session};
use crate::datapath::tun::Joined;
use crate::datapath::wire::checksum::{complement, pseudo_sum, word_sum};
use crate::datapath::wire::intact::is_intact;
use crate::datapath::wire::packet::{TCP, UDP, parse_untrusted};
use crate::datapath::wire::vnet;
use crate::sys::socket::Incoming;

const ANY: Prefix = Prefix {
    version: 4,
    bits: 0,
    address: 0,
};

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// A packet of one of a few flows, in sequence; often broken somewhere.
    fn packet(&mut self, seq: u32) -> Vec<u8> {
        let proto = [TCP, TCP, UDP][self.below(3)];
        let header = if proto == TCP { 40 } else { 28 };
        let mut packet = vec![0; header + [0, 1, 100, 100, 100, 1240][self.below(6)]];
        let len = packet.len();
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[8] = 64;
        packet[9] = proto;
        packet[12..20].copy_from_slice(&[10, 0, 0, self.below(3) as u8, 10, 0, 0, 9]);
        packet[20..24].copy_from_slice(&[0, 80, 0, 80]);
        let at = if proto == TCP {
            packet[24..28].copy_from_slice(&(seq * 100).to_be_bytes());
            packet[32] = 0x50;
            packet[33] = [0x10, 0x10, 0x10, 0x18][self.below(4)];
            36
        } else {
            packet[24..26].copy_from_slice(&((len - 20) as u16).to_be_bytes());
            26
        };
        let sum = complement(word_sum(&packet[..20]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let sum = complement(pseudo_sum(&packet, proto, len - 20) + word_sum(&packet[20..]));
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        if self.below(4) == 0 {
            for _ in 0..=self.below(3) {
                let at = self.below(len.min(60));
                packet[at] = self.byte();
            }
        }
        packet
    }
}

/// Takes super-packets apart again, and checks every packet.
#[derive(Default)]
struct Check(usize);

impl Writer for Check {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<(), i32> {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let hint = vnet::Header::parse(&bytes).expect("a header");
        let joined = hint.gso_type != vnet::GSO_NONE;
        let cut = split(&hint, &mut bytes[vnet::LEN..]).expect("sound headers");
        for index in 0..cut.count() {
            let mut packet = vec![0; cut.len(index)];
            cut.write(index, &mut packet);
            let parsed = parse_untrusted(&packet).expect("IP");
            assert_eq!(parsed.length, packet.len());
            assert!(is_intact(&packet, &parsed));
            assert!(!joined || cut.count() > 1);
            self.0 += 1;
        }
        Ok(())
    }

    fn lost(&mut self, _: usize) {}
}

fn session(send: u8, receive: u8) -> Session {
    Session {
        local: 7,
        remote: 7,
        send_key: [send; 32],
        receive_key: [receive; 32],
        created: 0.0,
        initiator: true,
    }
}

fn tables() -> Arc<Tables> {
    let mut tables = Tables::new(Clock::manual(), 100).expect("an eventfd");
    tables.suite = Suite::choose(Wanted::Auto).expect("one is always there");
    tables.set_peers(&[(1, vec![ANY].into())]);
    let mut local = Prefixes::default();
    local.insert(ANY, ());
    let local = Arc::new(local);
    let filter = Arc::default();
    tables.policy.store(Arc::new(Policy {
        local,
        filter,
        shields_up: false,
    }));
    let peer = tables.peer(1).expect("just set");
    tables.add_session(&peer, &session(1, 2));
    Arc::new(tables)
}

#[test]
fn what_a_peer_seals_comes_out_as_packets_or_not_at_all() {
    let mut dice = Dice(1);
    let tables = tables();
    let joined = Joined {
        tcp: true,
        udp: true,
    };
    let mut inbound = Inbound::new(Arc::clone(&tables), true, joined);
    let far = Keys::new(Arc::new(Peer::new(2, Allowed::new(&[]))), &session(2, 1));
    let mut cipher = Suite::default().cipher();
    let mut check = Check::default();
    let (mut counter, mut seq) = (0, 0);
    for _ in 0..3000 {
        let (mut data, mut messages) = (Vec::new(), Vec::new());
        for _ in 0..=dice.below(12) {
            seq += 1;
            let packet = dice.packet(seq);
            let start = data.len();
            let full = packet.len().next_multiple_of(16);
            data.resize(start + HEADER + full + TAG, 0);
            data[start + HEADER..start + HEADER + packet.len()].copy_from_slice(&packet);
            counter += 1;
            far.seal(&mut cipher, &mut data[start..], counter);
            if dice.below(10) == 0 {
                let at = start + dice.below(data.len() - start);
                data[at] = dice.byte();
            }
            let len = data.len() - start;
            let size = if dice.below(20) == 0 {
                1 + dice.below(len)
            } else {
                len
            };
            messages.push(Incoming {
                start,
                len,
                size,
                src: None,
            });
        }
        inbound.begin();
        inbound.receive_all(&mut data, &messages, 1.0);
        inbound.write(&mut data, &mut check);
    }
    assert!(check.0 > 3000, "{} packets", check.0);
}

#[test]
fn what_the_device_brings_never_panics() {
    let mut dice = Dice(2);
    let tables = tables();
    let mut outbound = Outbound::new(Arc::clone(&tables), None);
    outbound.mtu = 1280;
    let (mut data, mut reads) = (Vec::new(), Vec::new());
    for round in 0..20_000 {
        let mut read = vnet::Header {
            flags: dice.below(2) as u8,
            gso_type: [0, 1, 1, 4, 5, 0x81, 3][dice.below(7)],
            hdr_len: 0,
            gso_size: [0, 1, 100, 1000, 65535][dice.below(5)],
            csum_start: [20, 20, 20, 40, 0, 60000][dice.below(6)],
            csum_offset: [16, 6, 65535][dice.below(3)],
        }
        .bytes()
        .to_vec();
        read.extend(dice.packet(round));
        if dice.below(10) == 0 {
            read.truncate(dice.below(read.len()));
        }
        reads.push(data.len()..data.len() + read.len());
        data.extend(read);
        if reads.len() > dice.below(TOGETHER) {
            outbound.read_all(&mut data, &reads, true, 1.0);
            outbound.transmit();
            (data, reads) = Default::default();
        }
    }
    let peer = tables.peer(1).expect("still there");
    assert!(peer.activity().9 > 5000, "{:?}", peer.activity());
}
