//! TCP between two stacks.

use super::*;

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
        settles(&stack.stats().streams, 0);
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
    settles(&one.stats().streams, 300);
    settles(&two.stats().half_open, 0);
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

#[test]
fn what_is_not_acknowledged_is_repeated_after_a_fifth_of_a_second() {
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    let (far, near) = pair();
    let events = Arc::new(events::Events::new().unwrap());
    let at = smoltcp::time::Instant::from_millis;
    let ids = Arc::new(AtomicU64::new(0));
    let mut stack = stack::Stack::new(LIMITS, ids, events, Arc::default(), at(0)).unwrap();
    let dial = stack::Command::Dial(1, V4[0].parse().unwrap(), V4[2].parse().unwrap());
    stack.command(dial, at(0));
    let mut sent = Vec::new();
    for millis in 0..1000 {
        stack.run(at(millis), near.as_fd()).unwrap();
        let mut packet = [0; 100];
        while recv(&far, &mut packet, rustix::net::RecvFlags::DONTWAIT).is_ok() {
            sent.push(millis);
        }
    }
    assert_eq!(sent, [0, 200, 600]);
}

/// A peer's segment to 100.64.0.1 from 100.64.0.2 port 80, its checksums taken as correct.
fn segment(to: u16, flags: u8, sequence: u32, acknowledged: u32, payload: usize) -> Vec<u8> {
    let mut packet = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let total = (40 + payload) as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip.extend([100, 64, 0, 2, 100, 64, 0, 1]);
    let sum = !checksum::fold(checksum::add(0, &ip));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(ip);
    packet.extend(80u16.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(acknowledged.to_be_bytes());
    packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.resize(packet.len() + payload, 0);
    packet
}

/// When the first segments after the handshake, which come in one packet, are acknowledged [ms].
fn acknowledged_after(payload: usize) -> i64 {
    use std::os::fd::AsFd;
    use std::sync::Arc;
    let (far, near) = pair();
    let events = Arc::new(events::Events::new().unwrap());
    let at = smoltcp::time::Instant::from_millis;
    let ids = Arc::new(AtomicU64::new(0));
    let mut stack = stack::Stack::new(LIMITS, ids, events, Arc::default(), at(0)).unwrap();
    let dial = stack::Command::Dial(1, V4[0].parse().unwrap(), V4[2].parse().unwrap());
    stack.command(dial, at(0));
    stack.run(at(0), near.as_fd()).unwrap();
    let mut packet = [0; 100];
    let mut take = || recv(&far, &mut packet, rustix::net::RecvFlags::DONTWAIT).map(|_| packet);
    let syn = take().unwrap();
    let port = u16::from_be_bytes([syn[30], syn[31]]);
    let next = u32::from_be_bytes([syn[34], syn[35], syn[36], syn[37]]).wrapping_add(1);
    stack.ingress(&segment(port, 0x12, 1000, next, 0), at(0)); // SYN and ACK
    stack.run(at(0), near.as_fd()).unwrap();
    take().unwrap();
    stack.ingress(&segment(port, 0x10, 1001, next, payload), at(0));
    (0..100)
        .find(|&millis| {
            stack.run(at(millis), near.as_fd()).unwrap();
            take().is_ok()
        })
        .unwrap()
}

#[test]
fn joined_segments_are_acknowledged_at_once_and_a_single_one_soon() {
    assert_eq!(acknowledged_after(2480), 0);
    assert_eq!(acknowledged_after(1240), 10);
}
