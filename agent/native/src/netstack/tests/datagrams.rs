//! UDP and ICMP, whole and in fragments.

use rustix::net::RecvFlags;

use super::*;

const HERE: [&str; 2] = ["100.64.0.2", "fd7a::2"];
const THERE: [&str; 2] = ["100.64.0.1", "fd7a::1"];
const BEHIND: [&str; 2] = ["10.0.0.1", "fd55::1"];

/// A stack with our addresses, and the datapath's end.
fn alone() -> (Netstack, OwnedFd) {
    let (peer, packets) = pair();
    let stack = Netstack::start(packets, LIMITS).unwrap();
    stack.set_addresses(HERE.map(|text| text.parse().unwrap()).to_vec());
    std::thread::sleep(Duration::from_millis(20));
    (stack, peer)
}

fn give(peer: &OwnedFd, packets: Vec<Vec<u8>>) {
    for packet in packets {
        send(peer, &[vec![0; 10], packet].concat(), SendFlags::empty()).unwrap();
    }
}

/// What the stack sends, put together; and how many packets that took.
fn get(peer: &OwnedFd) -> (reassembly::Whole, usize) {
    let mut reassembly = reassembly::Reassembly::default();
    let mut buffer = [0; 2000];
    for count in 1.. {
        let (size, _) = recv(peer, &mut buffer, RecvFlags::empty()).unwrap();
        let packet = &buffer[ingress::VNET..size];
        assert!(packet.len() <= LIMITS.mtu);
        let (_, datagram) = ip::parse(packet).unwrap();
        if datagram.part.is_none() {
            let ip::Datagram {
                src,
                dst,
                protocol,
                body,
                ..
            } = datagram;
            let body = body.to_vec();
            let whole = reassembly::Whole {
                src,
                dst,
                protocol,
                body,
            };
            return (whole, count);
        }
        if let Some(whole) = reassembly.add(&datagram, smoltcp::time::Instant::ZERO) {
            return (whole, count);
        }
    }
    unreachable!()
}

fn address(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), port)
}

/// An echo request of this many bytes of data.
fn echo(from: IpAddr, to: IpAddr, size: usize) -> Vec<u8> {
    let mut message = vec![if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 5, 0, 1];
    message.extend((0..size).map(|n| n as u8));
    icmp::finish(from, to, message)
}

#[test]
fn pings_of_any_size_are_answered() {
    let (_stack, peer) = alone();
    for (here, there) in HERE.into_iter().zip(THERE) {
        let (here, there): (IpAddr, IpAddr) = (here.parse().unwrap(), there.parse().unwrap());
        let protocol = icmp::protocol(here);
        for (size, packets) in [(4, 1), (1232, 1), (3000, 3), (65_000, 53)] {
            let request = echo(there, here, size);
            give(
                &peer,
                ip::packets(there, here, protocol, &request, LIMITS.mtu, 7),
            );
            let (answer, count) = get(&peer);
            assert_eq!((answer.src, answer.dst), (here, there));
            assert!(answer.body[4..] == request[4..]);
            assert_eq!(
                icmp::parse(here, there, &answer.body),
                Some(icmp::Message::Other)
            );
            assert!(count.abs_diff(packets) <= 1, "{count} packets");
        }
    }
}

#[test]
fn pings_to_others_are_pythons_business() {
    let (stack, peer) = alone();
    for (behind, there) in BEHIND.into_iter().zip(THERE) {
        let (behind, there): (IpAddr, IpAddr) = (behind.parse().unwrap(), there.parse().unwrap());
        let request = echo(there, behind, 2000);
        let protocol = icmp::protocol(behind);
        give(
            &peer,
            ip::packets(there, behind, protocol, &request, LIMITS.mtu, 7),
        );
        let event = expect(&stack, EventKind::Ping);
        assert_eq!(
            (event.local.ip(), event.remote.ip(), &event.data),
            (behind, there, &request)
        );
        let mut answer = event.data;
        answer[0] = if behind.is_ipv4() { 0 } else { 129 };
        stack.send_icmp(behind, there, answer);
        assert!(get(&peer).0.body[4..] == request[4..]);
    }
}

#[test]
fn datagrams_of_any_size_pass() {
    let (stack, peer) = alone();
    for (here, there) in HERE.into_iter().zip(THERE) {
        let (here, there) = (address(here, 53), address(there, 999));
        for size in [0, 8, 1232, 5000, 65_000] {
            let payload: Vec<u8> = (0..size).map(|n| (n >> 2) as u8).collect();
            let question = udp::datagram(there, here, &payload).unwrap();
            let (from, to) = (there.ip(), here.ip());
            give(
                &peer,
                ip::packets(from, to, ip::UDP, &question, LIMITS.mtu, 9),
            );
            let event = expect(&stack, EventKind::Udp);
            assert_eq!((event.local, event.remote), (here, there));
            assert!(event.data == payload);
            stack.send_udp(here, there, payload.clone());
            let (whole, _) = get(&peer);
            let answer = ingress::classify(to, from, ip::UDP, &whole.body, false);
            let expected = ingress::Packet::Udp {
                src: here,
                dst: there,
                payload: &payload,
            };
            assert!(answer == Some(expected), "{size}");
        }
    }
}

#[test]
fn a_datagram_nobody_wants_is_refused_by_name() {
    let (stack, peer) = alone();
    for (here, there) in HERE.into_iter().zip(THERE) {
        let (here, there) = (address(here, 53), address(there, 999));
        stack.refuse_udp(here, there);
        let (whole, _) = get(&peer);
        let (kind, code) = if here.is_ipv4() { (3, 3) } else { (1, 4) };
        assert_eq!(whole.body[..2], [kind, code]);
        let (_, about) = ip::parse(&whole.body[8..]).unwrap();
        assert_eq!((about.src, about.dst), (there.ip(), here.ip()));
        assert_eq!(about.body[..4], [3, 231, 0, 53]);
    }
}

#[test]
fn an_unreachable_ends_a_dial_at_once_and_says_why() {
    let (stack, peer) = alone();
    for (v6, (here, behind)) in HERE.into_iter().zip(BEHIND).enumerate() {
        for (code, why) in [
            ([1, 3][v6], "unreachable"),
            ([3, 4][v6], "refused"),
            ([13, 1][v6], "policy"),
        ] {
            let id = stack.dial(here.parse().unwrap(), address(behind, 80));
            let mut syn = [0; 2000];
            let (size, _) = recv(&peer, &mut syn, RecvFlags::empty()).unwrap();
            let mut message = vec![[3, 1][v6], code, 0, 0, 0, 0, 0, 0];
            message.extend(&syn[ingress::VNET..size]);
            let (router, here) = (behind.parse().unwrap(), here.parse().unwrap());
            let message = icmp::finish(router, here, message);
            let protocol = icmp::protocol(here);
            give(
                &peer,
                ip::packets(router, here, protocol, &message, LIMITS.mtu, 1),
            );
            let failed = expect(&stack, EventKind::Failed);
            assert_eq!(
                (failed.stream, failed.data.as_slice()),
                (id, why.as_bytes())
            );
        }
    }
}
