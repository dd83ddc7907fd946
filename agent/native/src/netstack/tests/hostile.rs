//! A peer that obeys nothing.

use super::*;

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

/// A TCP segment, a datagram and a ping of one family, each whole and sound, to a stack's address.
fn sound(v6: bool) -> Vec<Vec<u8>> {
    if v6 {
        between("fd7a::1", "fd7a::2")
    } else {
        between("100.64.0.1", "100.64.0.2")
    }
}

/// The three from one address to another.
fn between(src: &str, dst: &str) -> Vec<Vec<u8>> {
    let [src, dst]: [IpAddr; 2] = [src, dst].map(|text| text.parse().unwrap());
    let v6 = src.is_ipv6();
    let mut syn = vec![0; 21];
    syn[..4].copy_from_slice(&[4, 0, 0, 80]);
    syn[12..16].copy_from_slice(&[0x50, 2, 0xff, 0xff]);
    let sum = checksum::add(checksum::pseudo_header(src, dst, ip::TCP, syn.len()), &syn);
    syn[16..18].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    let (from, to) = (SocketAddr::new(src, 9), SocketAddr::new(dst, 9));
    let datagram = udp::datagram(from, to, b"hello").unwrap();
    let kind = if v6 { 128 } else { 8 };
    let ping = icmp::finish(src, dst, vec![kind, 0, 0, 0, 0, 5, 0, 1, 77]);
    [
        (ip::TCP, syn),
        (ip::UDP, datagram),
        (icmp::protocol(dst), ping),
    ]
    .into_iter()
    .flat_map(|(protocol, body)| ip::packets(src, dst, protocol, &body, 1280, 0))
    .collect()
}

#[test]
fn a_wrong_checksum_is_ignored_and_counted() {
    use std::sync::Arc;
    let now = smoltcp::time::Instant::ZERO;
    let events = Arc::new(events::Events::new().unwrap());
    let stats = Arc::new(Stats::default());
    let (queue, counted) = (events.clone(), stats.clone());
    let mut stack = stack::Stack::new(LIMITS, Arc::default(), queue, counted, now).unwrap();
    let addresses = vec!["100.64.0.2".parse().unwrap(), "fd7a::2".parse().unwrap()];
    stack.command(stack::Command::Addresses(addresses), now);
    let mut damaged = 0;
    for v6 in [false, true] {
        for packet in sound(v6) {
            // The addresses are in both sums, what lies behind them in one.
            let first = if v6 { 8 } else { 0 };
            for at in first..packet.len() {
                let mut read = [&[0; 10], packet.as_slice()].concat();
                read[10 + at] ^= 0x10;
                stack.ingress(&read, now);
                damaged += 1;
                assert_eq!(
                    stats.ignored.load(Relaxed),
                    damaged,
                    "byte {at} of {packet:?}"
                );
            }
        }
    }
    assert_eq!(stats.streams.load(Relaxed), 0);
    assert!(events.take(usize::MAX).is_empty());
    for packet in sound(false).into_iter().chain(sound(true)) {
        stack.ingress(&[&[0; 10], packet.as_slice()].concat(), now);
    }
    assert_eq!(stats.ignored.load(Relaxed), damaged);
    assert_eq!(
        events.take(usize::MAX).len(),
        4,
        "two first segments, two datagrams"
    );
}

#[test]
fn addresses_that_no_host_has_are_ignored_and_counted() {
    use std::sync::Arc;
    let now = smoltcp::time::Instant::ZERO;
    let events = Arc::new(events::Events::new().unwrap());
    let stats = Arc::new(Stats::default());
    let (queue, counted) = (events.clone(), stats.clone());
    let mut stack = stack::Stack::new(LIMITS, Arc::default(), queue, counted, now).unwrap();
    let nobody = [
        ["255.255.255.255", "224.0.0.1", "0.0.0.0"],
        ["ff02::1", "ff0e::1", "::"],
    ];
    let us = ["100.64.0.2", "fd7a::2"];
    let (mut addresses, mut ignored) = (Vec::new(), 0);
    for (us, nobody) in us.into_iter().zip(nobody) {
        addresses.push(us.parse().unwrap());
        addresses.extend(nobody.map(|address| address.parse::<IpAddr>().unwrap()));
        // As its own address, too: what control says is not always true.
        stack.command(stack::Command::Addresses(addresses.clone()), now);
        for address in nobody {
            for packet in between(us, address).into_iter().chain(between(address, us)) {
                stack.ingress(&[&[0; 10], packet.as_slice()].concat(), now);
                ignored += 1;
                assert_eq!(
                    stats.ignored.load(Relaxed),
                    ignored,
                    "{address}: {packet:?}"
                );
            }
            let [us, nobody] = [us, address].map(|text| text.parse::<IpAddr>().unwrap());
            for (local, remote) in [(us, nobody), (nobody, us)] {
                let dial = stack::Command::Dial(1, local, (remote, 80).into());
                stack.command(dial, now);
                let told = events.take(usize::MAX).pop().expect("an answer");
                assert_eq!(told.kind, EventKind::Failed);
                assert_eq!(told.data, b"not an address of a host");
            }
        }
    }
    assert!(events.take(usize::MAX).is_empty());
    assert_eq!(stats.streams.load(Relaxed), 0);
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
