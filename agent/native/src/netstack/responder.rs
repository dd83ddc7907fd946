//! Answers for what no connection wants: pings to our addresses, RST for strange segments.

use std::net::IpAddr;

use smoltcp::iface::{Interface, SocketSet};
use smoltcp::time::Instant;

use super::device::{Port, interface};
use super::outbox::Outbox;

/// An interface without sockets.
pub struct Responder {
    iface: Interface,
    sockets: SocketSet<'static>,
    mtu: usize,
}

impl Responder {
    /// For these addresses.
    pub fn new(addresses: &[IpAddr], mtu: usize, seed: u64, now: Instant) -> Self {
        let iface = interface(addresses, mtu, seed, now);
        Self {
            iface,
            sockets: SocketSet::new(Vec::new()),
            mtu,
        }
    }

    /// Answer one packet, if there is an answer.
    pub fn ingress(&mut self, packet: &[u8], now: Instant, outbox: &mut Outbox) {
        let mut port = Port {
            packet: Some(packet),
            outbox,
            mtu: self.mtu,
        };
        self.iface
            .poll_ingress_single(now, &mut port, &mut self.sockets);
    }
}
