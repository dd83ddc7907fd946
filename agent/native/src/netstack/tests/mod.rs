//! Two stacks joined by their packet sockets: what one sends the other receives.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use super::*;

mod datagrams;
mod flood;
mod hostile;
mod streams;

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
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(event) = stack.take_events(1).pop() {
            return event;
        }
        assert!(Instant::now() < until, "nothing happened");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The stack says how much it has after each of its turns, events come before.
fn settles(gauge: &AtomicU64, wanted: u64) {
    let until = Instant::now() + Duration::from_secs(20);
    while gauge.load(Relaxed) != wanted {
        let now = gauge.load(Relaxed);
        assert!(Instant::now() < until, "{now}, not {wanted}");
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

#[test]
fn the_end_of_the_datapath_is_told() {
    let (left, right) = pair();
    let stack = Netstack::start(left, LIMITS).unwrap();
    drop(right);
    expect(&stack, EventKind::Died);
}
