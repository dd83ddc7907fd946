//! What is not TCP: UDP goes to Python and comes from it, pings to us are answered here, pings to
//! others go to Python, and fragments are put together first.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

use smoltcp::time::Instant;

use super::super::events::EventKind;
use super::super::icmp::{self, Message};
use super::super::ingress::{Packet, classify};
use super::super::ip::{self, Datagram, UDP};
use super::super::reassembly::Whole;
use super::super::udp;
use super::Stack;

impl Stack {
    /// A part of a datagram; perhaps the last one.
    pub(super) fn fragment(&mut self, datagram: &Datagram<'_>, now: Instant) {
        let before = self.reassembly.dropped;
        let whole = self.reassembly.add(datagram, now);
        let lost = self.reassembly.dropped - before;
        self.stats.fragments_dropped.fetch_add(lost, Relaxed);
        let Some(Whole {
            src,
            dst,
            protocol,
            body,
        }) = whole
        else {
            return;
        };
        match classify(src, dst, protocol, &body, false) {
            Some(packet @ (Packet::Udp { .. } | Packet::Icmp { .. })) => {
                self.handle(&[], packet, now);
            }
            Some(packet) => {
                let whole = ip::packets(src, dst, protocol, &body, usize::MAX, 0).pop();
                self.handle(&whole.unwrap_or_default(), packet, now);
            }
            None => self.ignore(),
        }
    }

    /// An ICMP message.
    pub(super) fn icmp(&mut self, src: IpAddr, dst: IpAddr, says: Message, message: &[u8]) {
        match says {
            Message::Request if self.addresses.contains(&dst) => {
                let reply = icmp::reply(src, dst, message);
                self.send(dst, src, icmp::protocol(src), &reply);
            }
            Message::Request => {
                let (local, remote) = (SocketAddr::new(dst, 0), SocketAddr::new(src, 0));
                self.datagram(EventKind::Ping, local, remote, message);
            }
            Message::Undelivered(local, remote, why) => self.undelivered(local, remote, why),
            Message::Other => self.ignore(),
        }
    }

    /// Tell Python of a datagram, if it keeps up.
    pub(super) fn datagram(
        &mut self,
        kind: EventKind,
        local: SocketAddr,
        remote: SocketAddr,
        data: &[u8],
    ) {
        if !self.tell(kind, 0, local, remote, data) {
            self.stats.udp_dropped.fetch_add(1, Relaxed);
        }
    }

    /// Python sends a datagram.
    pub(super) fn send_udp(&mut self, src: SocketAddr, dst: SocketAddr, data: &[u8]) {
        match udp::datagram(src, dst, data) {
            Some(body) => self.send(src.ip(), dst.ip(), UDP, &body),
            None => self.ignore(),
        }
    }

    /// Python sends an ICMP message; its checksum is made here.
    pub(super) fn send_icmp(&mut self, src: IpAddr, dst: IpAddr, message: Vec<u8>) {
        let message = icmp::finish(src, dst, message);
        self.send(src, dst, icmp::protocol(dst), &message);
    }

    /// A datagram met nobody at `local`.
    pub(super) fn refuse_udp(&mut self, local: SocketAddr, remote: SocketAddr) {
        let message = icmp::no_port(remote, local);
        let protocol = icmp::protocol(remote.ip());
        self.send(local.ip(), remote.ip(), protocol, &message);
    }

    /// Into the datapath, in fragments if it has to be; dropped where no room is.
    fn send(&mut self, src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) {
        if self.outbox.full() {
            self.stats.udp_dropped.fetch_add(1, Relaxed);
            return;
        }
        self.fragment_id = self.fragment_id.wrapping_add(1);
        let id = self.fragment_id;
        for packet in ip::packets(src, dst, protocol, body, self.limits.mtu, id) {
            self.outbox
                .push(packet.len(), |room| room.copy_from_slice(&packet));
        }
    }
}
