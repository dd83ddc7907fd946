//! What passes takes no memory for each packet: two datapaths, joined by UDP on loopback.

#![allow(unsafe_code)] // a global allocator cannot be had without

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use tailnet_native::clock::Clock;
use tailnet_native::datapath::Datapath;
use tailnet_native::datapath::crypto::aead::{Suite, Wanted};
use tailnet_native::datapath::filter::Policy;
use tailnet_native::datapath::tables::peer::Path;
use tailnet_native::datapath::tables::prefixes::{Prefix, Prefixes};
use tailnet_native::datapath::tables::session::Session;
use tailnet_native::datapath::tun::{Joined, Tun};
use tailnet_native::datapath::udp::Sockets;
use tailnet_native::datapath::wire::checksum::{complement, pseudo_sum, word_sum};
use tailnet_native::datapath::wire::geneve::Way;
use tailnet_native::datapath::wire::vnet;
use tailnet_native::sys;
use tailnet_native::sys::socket::SockAddr;

struct Counting;

static TAKEN: AtomicU64 = AtomicU64::new(0);

// SAFETY: it is the system's allocator; a counter is all that is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const EVERYTHING: [Prefix; 2] = [
    Prefix {
        version: 4,
        bits: 0,
        address: 0,
    },
    Prefix {
        version: 6,
        bits: 0,
        address: 0,
    },
];

/// A datapath with one peer, everything goes there and comes from there; and its host.
fn node(udp: UdpSocket, peer: SocketAddr, keys: [u8; 2]) -> (Datapath, OwnedFd) {
    let suite = Suite::choose(Wanted::Auto).expect("one is always there");
    let datapath = Datapath::new(Clock::System, 100, suite).expect("an eventfd");
    let (host, device) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a pair");
    let mut local = Prefixes::default();
    for prefix in EVERYTHING {
        local.insert(prefix, ());
    }
    datapath.with_tables(|tables| {
        tables.set_peers(&[(1, EVERYTHING.to_vec().into())]);
        tables.policy.store(Arc::new(Policy {
            local: Arc::new(local),
            ..Policy::default()
        }));
        let way = Way { addr: peer, vni: 0 };
        let path = Path {
            udp: Some((way, SockAddr::new(peer))),
            relay: false,
            ..Path::default()
        };
        tables.set_path(1, path);
    });
    let joined = Joined {
        tcp: true,
        udp: true,
    };
    let tun = Tun::new(vec![device], 1280, true, joined).expect("a device");
    let socket = tailnet_native::datapath::udp::UdpSocket::new(udp.into(), false, true, false);
    datapath
        .start(tun, Sockets::of(vec![socket.expect("a socket")]))
        .expect("threads");
    let session = Session {
        local: 7,
        remote: 7,
        send_key: [keys[0]; 32],
        receive_key: [keys[1]; 32],
        created: sys::boottime(),
        initiator: true,
    };
    datapath.set_session(1, &session);
    (datapath, host)
}

/// A read of the device: a TCP message of segments with 1200 bytes each, that opens nothing.
fn segments(v6: bool, payload: usize) -> Vec<u8> {
    let length = 20 + payload;
    let mut packet = if v6 {
        let mut head = vec![0x60, 0, 0, 0, (length >> 8) as u8, length as u8, 6, 64];
        head.extend([0xfd; 32]);
        head
    } else {
        let total = 20 + length;
        let mut head = vec![
            0x45,
            0,
            (total >> 8) as u8,
            total as u8,
            0,
            0,
            0x40,
            0,
            64,
            6,
        ];
        head.extend([0, 0, 100, 64, 0, 1, 100, 64, 0, 2]);
        let sum = complement(word_sum(&head));
        head[10..12].copy_from_slice(&sum.to_be_bytes());
        head
    };
    let header = packet.len();
    packet.extend([
        0, 80, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    packet.resize(header + length, 7);
    let (head, body) = packet.split_at_mut(header);
    let sum = complement(word_sum(body) + pseudo_sum(head, 6, body.len()));
    body[16..18].copy_from_slice(&sum.to_be_bytes());
    let size = 1200_u16.to_le_bytes();
    let kind = if v6 { 4 } else { 1 };
    let (all, start) = ((header + 20) as u8, header as u8);
    let mut read = vec![1, kind, all, 0, size[0], size[1], start, 0, 16, 0];
    read.extend(packet);
    read
}

const SEGMENTS: usize = 40;
const READS: usize = 200;

#[test]
fn a_batch_may_take_memory_but_no_packet_does() {
    let [one, two] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").expect("loopback"));
    let ends = [&one, &two].map(|socket| socket.local_addr().expect("bound"));
    let (_one, here) = node(one, ends[1], [1, 2]);
    let (_two, there) = node(two, ends[0], [2, 1]);
    let mut buffer = vec![0; 70_000];
    for v6 in [false, true] {
        let read = segments(v6, SEGMENTS * 1200);
        let mut before = 0;
        for round in 0..2 * READS {
            if round == READS {
                before = TAKEN.load(Relaxed); // by now each buffer has its size
            }
            send(&here, &read, SendFlags::empty()).expect("taken");
            let mut left = SEGMENTS * 1200;
            while left > 0 {
                let got = recv(&there, &mut buffer[..], RecvFlags::empty());
                let (size, _) = got.expect("delivered");
                left -= size - vnet::LEN - if v6 { 60 } else { 40 };
            }
        }
        let taken = TAKEN.load(Relaxed) - before;
        // One a packet, in either datapath, would be 40 a read.
        assert!(
            taken < (READS * SEGMENTS / 2) as u64,
            "{taken} in {READS} reads"
        );
    }
}
