//! What a small packet costs in our own code, of two peers and of thousands, with their memory asked
//! for together and one by one: `cargo run --release --example crowd [peers] [KiB]`.
//!
//! Batches of 64 packets to peers at random go through a real socket; between them some memory of
//! others is touched, as the kernel and other programs do.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket as Std};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use tailnet_native::clock::Clock;
use tailnet_native::datapath::crypto::aead::{Suite, Wanted};
use tailnet_native::datapath::filter::Policy;
use tailnet_native::datapath::inbound::Inbound;
use tailnet_native::datapath::offload::group::Writer;
use tailnet_native::datapath::outbound::Outbound;
use tailnet_native::datapath::outbound::judge::TOGETHER;
use tailnet_native::datapath::tables::Tables;
use tailnet_native::datapath::tables::peer::Path;
use tailnet_native::datapath::tables::prefixes::{Prefix, Prefixes};
use tailnet_native::datapath::tables::session::Session;
use tailnet_native::datapath::tun::Joined;
use tailnet_native::datapath::udp::{Sockets, UdpSocket};
use tailnet_native::datapath::wire::checksum::{complement, pseudo_sum, word_sum};
use tailnet_native::datapath::wire::geneve::Way;
use tailnet_native::datapath::wire::vnet;
use tailnet_native::sys::socket::{Receiver, SockAddr};

const BATCH: usize = 64;
const BATCHES: usize = 4000;
const PLACE: usize = 2112;
const FIRST: u32 = 0x6441_0000; // 100.65.0.0

struct Nowhere;

impl Writer for Nowhere {
    fn write(&mut self, _: &[IoSlice<'_>]) -> Result<(), i32> {
        Ok(())
    }

    fn lost(&mut self, _: usize) {}
}

/// A segment of TCP with 64 bytes from 100.64.0.1.
fn segment(to: u32, port: u16) -> Vec<u8> {
    let mut read = vec![0; vnet::LEN];
    let mut ip = vec![0x45, 0, 0, 104, 0, 0, 0x40, 0, 64, 6, 0, 0, 100, 64, 0, 1];
    ip.extend(to.to_be_bytes());
    let sum = complement(word_sum(&ip)).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    let mut tcp = vec![0; 84];
    tcp[..2].copy_from_slice(&port.to_be_bytes());
    tcp[3] = 9;
    (tcp[12], tcp[13]) = (0x50, 0x10);
    let sum = complement(pseudo_sum(&ip, 6, 84) + word_sum(&tcp)).to_be_bytes();
    tcp[16..18].copy_from_slice(&sum);
    read.extend(ip);
    read.extend(tcp);
    read
}

fn tables(peers: u32, to: SocketAddr, socket: Option<OwnedFd>, keys: [u8; 2]) -> Arc<Tables> {
    let mut tables = Tables::new(Clock::manual(), 100).expect("an eventfd");
    tables.suite = Suite::choose(Wanted::Auto).expect("one is always there");
    let single = |address: u32| Prefix {
        version: 4,
        bits: 32,
        address: address.into(),
    };
    let ours = |n| {
        if socket.is_some() {
            FIRST + n
        } else {
            0x6440_0001
        }
    };
    let entries: Vec<_> = (0..peers)
        .map(|n| (u64::from(n), vec![single(ours(n))].into()))
        .collect();
    tables.set_peers(&entries);
    let everything = Prefix {
        version: 4,
        bits: 0,
        address: 0,
    };
    let mut local = Prefixes::default();
    local.insert(everything, ());
    tables.policy.store(Arc::new(Policy {
        local: Arc::new(local),
        ..Policy::default()
    }));
    for n in 0..peers {
        let way = Way { addr: to, vni: 0 };
        let udp = Some((way, SockAddr::new(to)));
        tables.set_path(
            u64::from(n),
            Path {
                udp,
                ..Path::default()
            },
        );
        let peer = tables.peer(n.into()).expect("just set");
        let session = Session {
            local: n + 1,
            remote: n + 1,
            send_key: [keys[0]; 32],
            receive_key: [keys[1]; 32],
            created: 0.0,
            initiator: true,
        };
        tables.add_session(&peer, &session);
    }
    if let Some(fd) = socket {
        let socket = UdpSocket::new(fd, false, false, false).expect("a socket");
        tables.set_sockets(Sockets::of(vec![socket]));
    }
    Arc::new(tables)
}

fn middle(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 4]
}

fn main() {
    let mut words = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("a number"));
    let many: u32 = words.next().unwrap_or(1000);
    let others = words.next().unwrap_or(1024) as usize * 1024;
    let mut state = 1u64;
    let mut dice = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(99);
        (state >> 33) as u32
    };
    let receiver = Std::bind("127.0.0.1:0").expect("a port");
    let to = receiver.local_addr().expect("bound");
    let receiver = OwnedFd::from(receiver);
    let mut memory = vec![0u8; others];
    let mut setups = Vec::new();
    for peers in [2, many] {
        let sender = Std::bind("127.0.0.1:0").expect("a port");
        let from = sender.local_addr().expect("bound");
        let ours = tables(peers, to, Some(sender.into()), [1, 2]);
        let theirs = tables(peers, from, None, [2, 1]);
        let packets: Vec<_> = (0..1000)
            .map(|n| segment(FIRST + n % peers, n as u16))
            .collect();
        let joined = Joined {
            tcp: true,
            udp: true,
        };
        let mut outbound = Outbound::new(Arc::clone(&ours), None);
        outbound.mtu = 1280;
        let inbound = Inbound::new(Arc::clone(&theirs), true, joined);
        setups.push((peers, packets, outbound, inbound, [const { Vec::new() }; 4]));
    }
    let mut place = vec![0; TOGETHER * PLACE];
    let mut got = Receiver::default();
    for round in 0..2 * BATCHES {
        let together = round % 2;
        for (_, packets, outbound, inbound, times) in &mut setups {
            memory.iter_mut().step_by(64).for_each(|byte| *byte += 1);
            let (mut spent, mut sent) = (0.0, 0);
            while sent < BATCH {
                let mut reads = Vec::with_capacity(TOGETHER);
                for n in 0..TOGETHER {
                    let packet = &packets[dice() as usize % packets.len()];
                    place[n * PLACE..n * PLACE + packet.len()].copy_from_slice(packet);
                    reads.push(n * PLACE..n * PLACE + packet.len());
                }
                let began = Instant::now();
                if together == 1 {
                    outbound.read_all(&mut place, &reads, true, 1.0);
                } else {
                    for read in &reads {
                        outbound.read(&mut place[read.clone()], true, 1.0);
                    }
                }
                spent += began.elapsed().as_secs_f64();
                sent += reads.len();
            }
            times[together].push(spent);
            outbound.transmit();
            memory.iter_mut().step_by(64).for_each(|byte| *byte += 1);
            let (mut spent, mut taken) = (0.0, 0);
            while got.receive(receiver.as_fd(), 32).is_ok() {
                let began = Instant::now();
                inbound.begin();
                if together == 1 {
                    inbound.receive_all(&mut got.data, &got.messages, 1.0);
                } else {
                    for message in &got.messages {
                        inbound.receive(&mut got.data, message, 1.0);
                    }
                }
                spent += began.elapsed().as_secs_f64();
                taken += got.messages.len();
                inbound.write(&mut got.data, &mut Nowhere);
            }
            assert_eq!(taken, BATCH);
            times[2 + together].push(spent);
        }
    }
    for (peers, _, _, _, mut times) in setups {
        let [a, b, c, d] = times.each_mut().map(|t| middle(t) / BATCH as f64 * 1e9);
        println!("{peers} peers: sealing {a:.0} ns alone, {b:.0} together; opening {c:.0}, {d:.0}");
    }
}
