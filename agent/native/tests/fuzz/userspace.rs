//! The bodies of userspace networking.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tailnet_native::datapath::wire::packet::parse_untrusted;
use tailnet_native::datapath::wire::vnet;
use tailnet_native::netstack::stack::{Command, Stack};
use tailnet_native::netstack::time::{Duration, Instant};
use tailnet_native::netstack::{Events, Limits, icmp, ingress, ip};

use super::{mended, pieces};

/// Userspace networking takes any packet apart.
pub fn netstack(data: &[u8]) {
    let mut data = data.to_vec();
    for _ in 0..2 {
        ingress::parse(&data);
        if let Some((_, datagram)) = ip::parse(&data) {
            icmp::parse(datagram.src, datagram.dst, datagram.body);
        }
        // Once more with a sound header, so that what lies behind it is looked at.
        let header = data.first().map_or(0, |first| usize::from(first & 15) * 4);
        if let Some(header) = data.get_mut(..header.max(20)) {
            ip::sum_header(header);
        }
    }
}

/// Userspace networking outlives any packets of its peers, whatever Python asks of it meanwhile.
pub fn stack(data: &[u8]) {
    let mut now = Instant::ZERO;
    let events = Arc::new(Events::new().expect("an eventfd"));
    let ids = Arc::new(AtomicU64::new(0));
    let limits = Limits {
        mtu: 1280,
        streams: 8,
        half_open: 4,
    };
    let (numbers, queue) = (Arc::clone(&ids), Arc::clone(&events));
    let mut stack = Stack::new(limits, numbers, queue, Arc::default(), now).expect("an epoll");
    let (_far, near) = UnixDatagram::pair().expect("a pair");
    near.set_nonblocking(true).expect("as every socket");
    let mut streams = Vec::new();
    for piece in pieces(data) {
        let (operation, rest) = piece.split_first().map_or((0, piece), |(op, r)| (*op, r));
        let id = u64::from(operation >> 4);
        if let Some(parsed) = parse_untrusted(rest) {
            // Whoever a packet is for, it is for us.
            let to = address(parsed.version, parsed.dst);
            let from = address(parsed.version, parsed.src);
            let (here, there) = (SocketAddr::new(to, 80), SocketAddr::new(from, 9));
            match operation & 0xf {
                0 => stack.command(Command::Dial(id + 1000, to, there), now),
                1 => stack.command(Command::Udp(here, there, rest.to_vec()), now),
                2 => stack.command(Command::Icmp(to, from, rest.to_vec()), now),
                3 => stack.command(Command::RefuseUdp(here, there), now),
                4 => stack.command(Command::Abort(id), now),
                5 => {
                    let (ours, theirs) = UnixStream::pair().expect("a pair");
                    stack.command(Command::Join(id, ours.into(), rest.to_vec()), now);
                    streams.push(theirs);
                }
                6 => streams.clear(),
                7 => stack.ready(id, true, true),
                _ => stack.command(Command::Addresses(vec![to]), now),
            }
        }
        let read = [&[0; vnet::LEN], mended(rest).as_slice()].concat();
        stack.ingress(&read, now);
        now += Duration::from_millis(u64::from(operation) * 8);
        stack
            .run(now, near.as_fd())
            .expect("a socket that takes it, or is full");
    }
    events.take(usize::MAX);
}

fn address(version: u8, bits: u128) -> IpAddr {
    if version == 4 {
        IpAddr::from((bits as u32).to_be_bytes())
    } else {
        IpAddr::from(bits.to_be_bytes())
    }
}
