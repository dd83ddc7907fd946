//! Two stacks joined by their packet sockets: what one sends the other receives.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use super::*;

const LIMITS: Limits = Limits {
    mtu: 1280,
    streams: 1000,
    half_open: 64,
};

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

fn two(a: &str, b: &str) -> (Netstack, Netstack) {
    let (left, right) = pair();
    let (one, two) = (
        Netstack::start(left, LIMITS).unwrap(),
        Netstack::start(right, LIMITS).unwrap(),
    );
    one.set_addresses(vec![a.parse().unwrap()]);
    two.set_addresses(vec![b.parse().unwrap()]);
    (one, two)
}

fn next(stack: &Netstack) -> Event {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(event) = stack.take_events(1).pop() {
            return event;
        }
        assert!(Instant::now() < until, "nothing happened");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn expect(stack: &Netstack, kind: EventKind) -> Event {
    let event = next(stack);
    assert_eq!(event.kind, kind, "{event:?}");
    event
}

fn connect(one: &Netstack, two: &Netstack, from: &str, to: &str) -> (UnixStream, UnixStream) {
    let to: SocketAddr = to.parse().unwrap();
    let dialled = one.dial(from.parse().unwrap(), to);
    let syn = expect(two, EventKind::Syn);
    assert_eq!(syn.local, to);
    let (theirs, server) = UnixStream::pair().unwrap();
    two.join(syn.stream, theirs.into(), Vec::new());
    let connected = expect(one, EventKind::Connected);
    assert_eq!(connected.stream, dialled);
    assert_eq!(connected.local, syn.remote);
    let (ours, client) = UnixStream::pair().unwrap();
    one.join(dialled, ours.into(), b"early ".to_vec());
    (client, server)
}

const V4: [&str; 3] = ["100.64.0.1", "100.64.0.2", "100.64.0.2:80"];
const V6: [&str; 3] = [
    "fd7a:115c:a1e0::1",
    "fd7a:115c:a1e0::2",
    "[fd7a:115c:a1e0::2]:80",
];

fn carry(v: [&str; 3]) {
    let (one, two) = two(v[0], v[1]);
    let (mut client, mut server) = connect(&one, &two, v[0], v[2]);
    client.write_all(b"hello").unwrap();
    let mut greeting = [0; 11];
    server.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"early hello");
    let sent: Vec<u8> = (0..5_000_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || {
        server.write_all(&copy).unwrap();
        server.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).unwrap();
        rest
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == sent);
    client.write_all(b"after the half close").unwrap(); // the other direction is still open
    drop(client);
    assert_eq!(writer.join().unwrap(), b"after the half close");
    for stack in [&one, &two] {
        let closed = expect(stack, EventKind::Closed);
        assert_eq!(closed.data, b"");
        assert_eq!(stack.stats().streams.load(Relaxed), 0);
    }
}

#[test]
fn streams_carry_everything_over_ipv4() {
    carry(V4);
}

#[test]
fn streams_carry_everything_over_ipv6() {
    carry(V6);
}

#[test]
fn a_rejected_dial_fails_as_refused() {
    let (one, two) = two(V4[0], V4[1]);
    let id = one.dial(V4[0].parse().unwrap(), V4[2].parse().unwrap());
    two.abort(expect(&two, EventKind::Syn).stream);
    let failed = expect(&one, EventKind::Failed);
    assert_eq!(
        (failed.stream, failed.data.as_slice()),
        (id, b"refused".as_slice())
    );
    assert_eq!(expect(&two, EventKind::Closed).data, b"gone");
}

#[test]
fn a_stream_nobody_reads_holds_the_sender_back_and_loses_nothing() {
    let (one, two) = two(V4[0], V4[1]);
    let (mut client, mut server) = connect(&one, &two, V4[0], V4[2]);
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut idle = 0;
    while idle < 50 {
        match client.write(&[7; 65536]) {
            Ok(count) => (sent, idle) = (sent + count, 0),
            Err(_) => {
                idle += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    assert!(sent < 8 << 20, "{sent} bytes were taken");
    drop(client);
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent + 6);
}

#[test]
fn an_abort_resets_the_other_side() {
    let (one, two) = two(V4[0], V4[1]);
    let (client, mut server) = connect(&one, &two, V4[0], V4[2]);
    server.read_exact(&mut [0; 6]).unwrap();
    drop(server); // then what the client sends meets nobody
    let mut client = client;
    let until = Instant::now() + Duration::from_secs(5);
    while client.write_all(b"anybody?").is_ok() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(expect(&two, EventKind::Closed).data, b"reset");
    assert_eq!(expect(&one, EventKind::Closed).data, b"reset");
}

#[test]
fn three_hundred_connections_at_once() {
    let (one, two) = two(V4[0], V4[1]);
    let mut all: Vec<_> = (0..300)
        .map(|_| connect(&one, &two, V4[0], V4[2]))
        .collect();
    assert_eq!(one.stats().streams.load(Relaxed), 300);
    assert_eq!(two.stats().half_open.load(Relaxed), 0);
    for (n, (client, server)) in all.iter_mut().enumerate() {
        server.write_all(&[n as u8; 1000]).unwrap();
        let mut got = [0; 1000];
        client.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|&byte| byte == n as u8));
    }
    drop(all);
    for _ in 0..300 {
        expect(&one, EventKind::Closed);
        expect(&two, EventKind::Closed);
    }
}

/// A first segment from `source`, port `port`, with a valid checksum.
fn syn(source: [u8; 4], port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend(source);
    packet.extend([100, 64, 0, 2]);
    let sum = !checksum::fold(checksum::add(0, &packet));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([
        0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    let (src, dst) = (IpAddr::from(source), IpAddr::from([100, 64, 0, 2]));
    let pseudo = checksum::pseudo_header(src, dst, 6, 20);
    let sum = !checksum::fold(checksum::add(pseudo, &packet[20..]));
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    [vec![0; 10], packet].concat()
}

#[test]
fn a_flood_of_first_segments_is_bounded() {
    let (flood, packets) = pair();
    let stack = Netstack::start(packets, LIMITS).unwrap();
    stack.set_addresses(vec!["100.64.0.2".parse().unwrap()]);
    std::thread::sleep(Duration::from_millis(20));
    for n in 0..2000u16 {
        let _ = send(
            &flood,
            &syn([100, 64, 1, (n >> 8) as u8], 1000 + n),
            SendFlags::empty(),
        );
    }
    let until = Instant::now() + Duration::from_secs(5);
    while stack.stats().syn_dropped.load(Relaxed) != 2000 - 64 {
        assert!(Instant::now() < until, "{:?}", stack.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(stack.stats().half_open.load(Relaxed), 64);
}

#[test]
fn pings_are_answered_and_datagrams_pass() {
    let (peer, packets) = pair();
    let stack = Netstack::start(packets, LIMITS).unwrap();
    stack.set_addresses(vec!["100.64.0.2".parse().unwrap()]);
    std::thread::sleep(Duration::from_millis(20));
    let mut ping = vec![
        0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 1, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2,
    ];
    let sum = !checksum::fold(checksum::add(0, &ping));
    ping[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut echo = vec![8, 0, 0, 0, 0, 5, 0, 1, 1, 2, 3, 4];
    let sum = !checksum::fold(checksum::add(0, &echo));
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    send(
        &peer,
        &[vec![0; 10], ping, echo].concat(),
        SendFlags::empty(),
    )
    .unwrap();
    let mut answer = [0; 200];
    let (count, _) = recv(&peer, &mut answer, rustix::net::RecvFlags::empty()).unwrap();
    assert_eq!((count, answer[30]), (42, 0));
    assert_eq!(answer[34..42], [0, 5, 0, 1, 1, 2, 3, 4]);

    let (here, there) = (
        "100.64.0.2:53".parse().unwrap(),
        "100.64.0.1:999".parse().unwrap(),
    );
    let question = outbox::udp_packet(there, here, b"question", 1280).unwrap();
    send(&peer, &[vec![0; 10], question].concat(), SendFlags::empty()).unwrap();
    let event = expect(&stack, EventKind::Udp);
    assert_eq!(
        (event.local, event.remote, event.data.as_slice()),
        (here, there, b"question".as_slice())
    );
    stack.send_udp(here, there, b"answer".to_vec());
    let (count, _) = recv(&peer, &mut answer, rustix::net::RecvFlags::empty()).unwrap();
    let (_, packet) = ingress::parse(&answer[..count]).unwrap();
    assert_eq!(
        packet,
        ingress::Packet::Udp {
            src: here,
            dst: there,
            payload: b"answer"
        }
    );
}

#[test]
fn the_end_of_the_datapath_is_told() {
    let (left, right) = pair();
    let stack = Netstack::start(left, LIMITS).unwrap();
    drop(right);
    expect(&stack, EventKind::Died);
}

/// Bytes that look random and are the same every time.
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// What the stack sent: enough to answer it almost well.
struct Heard {
    v6: bool,
    ports: [u16; 2],
    sequence: u32,
    next: u32,
}

fn heard(packet: &[u8]) -> Option<Heard> {
    let v6 = packet[10] == 0x60;
    let tcp = &packet[if v6 { 50 } else { 30 }..];
    let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    (tcp.len() >= 20).then(|| Heard {
        v6,
        ports: [(word(0) & 0xffff) as u16, (word(0) >> 16) as u16],
        sequence: word(4),
        next: word(8),
    })
}

/// A segment of a peer that obeys nothing; both families, few ports, so that connections are met.
fn hostile_segment(noise: &mut Noise, sequence: u32, heard: &[Heard]) -> Vec<u8> {
    let heard = heard.get(noise.next(heard.len() as u64 + 1) as usize);
    let options = noise.next(11) as usize * 4;
    let payload = [0, 0, 1, 100, 1220, 30_000][noise.next(6) as usize];
    let length = 20 + options + payload;
    let v6 = heard.map_or_else(|| noise.next(2) == 0, |heard| heard.v6);
    let mut packet = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0]; // checksums are taken as correct
    if v6 {
        packet.extend([0x60, 0, 0, 0, (length >> 8) as u8, length as u8, 6, 64]);
        packet.extend([0xfd, 0x7a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0xfd, 0x7a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    } else {
        let total = length + 20;
        let mut ip = vec![
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
            0,
            0,
        ];
        ip.extend([100, 64, 0, 1, 100, 64, 0, 2]);
        let sum = !checksum::fold(checksum::add(0, &ip));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(ip);
    }
    let flags =
        [2, 2, 0x10, 0x10, 0x10, 0x18, 0x11, 0x12, 4, 0x14, 0x3f, 0][noise.next(12) as usize];
    let ports = heard.map_or([1000 + noise.next(8) as u16, 80], |heard| heard.ports);
    packet.extend(ports[0].to_be_bytes());
    packet.extend(ports[1].to_be_bytes());
    let base = heard.map_or(sequence, |heard| heard.next);
    let near = [0, 0, 0, 1, 1220, 70_000, u32::MAX][noise.next(7) as usize];
    packet.extend(base.wrapping_add(near).to_be_bytes());
    let base = heard.map_or(noise.next(1 << 32) as u32, |heard| heard.sequence);
    let near = [1, 1, 1, 0, 50, 100_000][noise.next(6) as usize];
    packet.extend(base.wrapping_add(near).to_be_bytes());
    packet.extend([0x50 + (options as u8) * 4, flags]);
    packet.extend((noise.next(1 << 16) as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0]);
    for _ in 0..options {
        packet.push([0, 1, 2, 3, 4, 5, 8, 10, 255][noise.next(9) as usize]);
    }
    packet.resize(packet.len() + payload, 7);
    packet
}

#[test]
fn a_hostile_peer_costs_packets_and_nothing_else() {
    use std::os::fd::AsFd;
    use std::sync::Arc;
    let (far, near) = pair();
    let ids = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let events = Arc::new(events::Events::new().unwrap());
    let mut now = smoltcp::time::Instant::ZERO;
    let (numbers, queue) = (ids.clone(), events.clone());
    let mut stack = stack::Stack::new(LIMITS, numbers, queue, Arc::default(), now).unwrap();
    let addresses = vec!["100.64.0.2".parse().unwrap(), "fd7a::2".parse().unwrap()];
    stack.command(stack::Command::Addresses(addresses), now);
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let (mut streams, mut all, mut read) = (Vec::new(), Vec::new(), vec![0; 70_000]);
    for round in 0..60_000u32 {
        stack.ingress(&hostile_segment(&mut noise, round / 64, &all), now);
        now += smoltcp::time::Duration::from_millis(noise.next(50));
        if round % 4 == 0 {
            stack.run(now, near.as_fd()).unwrap();
            while let Ok((count, _)) = recv(&far, &mut read[..], rustix::net::RecvFlags::DONTWAIT) {
                all.extend(heard(&read[..count]));
            }
            all.drain(..all.len().saturating_sub(16));
        }
        let recent = ids.load(Relaxed).saturating_sub(noise.next(8));
        match noise.next(10) {
            0..3 => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                stack.command(stack::Command::Join(recent, ours.into(), vec![1; 99]), now);
                streams.push(theirs);
            }
            3 => stack.command(stack::Command::Abort(recent), now),
            4 | 5 if !streams.is_empty() => {
                let which = noise.next(streams.len() as u64) as usize;
                drop(streams.swap_remove(which));
            }
            _ => {}
        }
        if streams.len() > 200 {
            streams.clear();
        }
    }
    let reset = events
        .take(usize::MAX)
        .iter()
        .filter(|event| event.data == b"reset")
        .count();
    assert!(
        reset > 100,
        "only {reset} connections got through the handshake"
    );
}
