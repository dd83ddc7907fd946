//! UDP and ICMP.

use super::*;

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
