//! First segments that nobody follows up.

use super::*;

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
fn a_flood_of_first_segments_is_bounded_and_an_honest_peer_gets_in() {
    let (flood, packets) = pair();
    let stack = Netstack::start(packets, LIMITS).unwrap();
    stack.set_addresses(vec!["100.64.0.2".parse().unwrap()]);
    std::thread::sleep(Duration::from_millis(20));
    let honest = syn([100, 64, 9, 9], 77);
    send(&flood, &honest, SendFlags::empty()).unwrap();
    let first = expect(&stack, EventKind::Syn).stream;
    for n in 0..2000u16 {
        let packet = syn([100, 64, 1, 1], 1000 + n);
        send(&flood, &packet, SendFlags::empty()).unwrap();
    }
    // The stack counts first, then ends the connection, and says how many are left after its turn.
    let until = Instant::now() + Duration::from_secs(20);
    let mut ended = Vec::new();
    while ended.len() < 2000 - 48 || stack.stats().half_open.load(Relaxed) != 1 + 48 {
        let events = stack.take_events(usize::MAX);
        ended.extend(events.into_iter().filter(|e| e.kind == EventKind::Closed));
        assert!(Instant::now() < until, "{:?}", stack.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(stack.stats().syn_dropped.load(Relaxed), 2000 - 48); // three quarters of 64 stay
    assert_eq!(ended.len(), 2000 - 48);
    assert!(ended.iter().all(|event| event.stream != first));
    let (ours, _theirs) = UnixStream::pair().unwrap();
    stack.join(first, ours.into(), Vec::new());
    let mut answer = [0; 200];
    let (size, _) = recv(&flood, &mut answer, rustix::net::RecvFlags::empty()).unwrap();
    let tcp = &answer[30..size];
    assert_eq!((&tcp[2..4], tcp[13]), (&[0, 77][..], 0x12)); // SYN and ACK, to the honest one
}
